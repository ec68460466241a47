"""What every worker of the time-to-quality benchmark shares: the targets, the clock and the JSON line. numpy alone.

The clock begins when the worker's process is started, so that imports, set-up and compilation count. It stands still
while the policy is judged (`exact_tv.py`, the same function for all), every `every` steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import exact_tv
import numpy

Export = Callable[[], Any]
"""The policy's forward logits on all states that are not terminal, as `exact_tv` wants them."""


@dataclass(frozen=True)
class Target:
    """What is trained towards, and when it is reached.

    total_variation: at or below which the clock stops for good.
    every: steps between judgements, the finest that a time is told.
    judge: logits -> total variation.
    """

    total_variation: float
    every: int
    judge: Callable[[Any], float]


GRID = {"dimensions": 4, "side": 8}
GRID_REWARDS = (0.01, 0.5, 2.0)
LETTERS, LENGTH = 4, 8


def grid_target() -> Target:
    """Hypergrid 8^4, R0 = 0.01."""
    log_reward = exact_tv.grid_log_reward(exact_tv.grid_states(**GRID), GRID["side"], GRID_REWARDS)

    def judge(logits: Any) -> float:
        return exact_tv.total_variation(exact_tv.grid_distribution(numpy.asarray(logits), **GRID), log_reward)

    return Target(0.05, 50, judge)


def tfbind8_log_reward(data: Path) -> numpy.ndarray:
    """log max(10 y^3, 1e-3) of the measured binding y, in the order of the number that the letters write."""
    scores = numpy.load(data / "tfbind8" / "scores.npy", allow_pickle=False).astype(numpy.float64)
    return numpy.log(numpy.maximum(10 * (scores / scores.max()) ** 3, 1e-3))


def tfbind8_target(data: Path) -> Target:
    """Append-only DNA 8-mers by their measured binding."""
    log_reward = tfbind8_log_reward(data)

    def judge(logits: Any) -> float:
        model = exact_tv.string_distribution(numpy.asarray(logits), LETTERS, LENGTH)
        return exact_tv.total_variation(model, log_reward)

    return Target(0.20, 50, judge)


def options(description: str, variants: tuple[str, ...]) -> argparse.Namespace:
    """The command line of every worker."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--target", choices=("hypergrid", "tfbind8"), default="hypergrid", help="what to train towards")
    parser.add_argument("--data", type=Path, default=Path("."), help="folder with tfbind8/scores.npy")
    parser.add_argument("--seed", type=int, default=0, help="of the initialisation and of the sampling")
    parser.add_argument("--variant", choices=variants, default=variants[0], help="of the library's set-up")
    parser.add_argument("--limit", type=float, default=600.0, help="CPU seconds after which it gives up")
    parser.add_argument("--most", type=int, default=10**6, help="steps after which it gives up")
    parser.add_argument("--began", type=float, help="time.perf_counter() when the process was started")
    chosen = parser.parse_args()
    chosen.began = time.perf_counter() if chosen.began is None else chosen.began
    return chosen


def race(
    chosen: argparse.Namespace, advance: Callable[[int], None], export: Export, *, library: str, settings: str
) -> None:
    """Trains and judges in turn until the target is reached, or a limit; prints the JSON line.

    Args:
        chosen: the worker's options.
        advance: trains so many steps more.
        export: the policy's logits as it is now.
        library: name and version.
        settings: what was chosen, in words, with its source.
    """
    target = grid_target() if chosen.target == "hypergrid" else tfbind8_target(chosen.data)
    steps, aside_wall, aside_cpu, curve = 0, 0.0, 0.0, []
    while True:
        advance(target.every)
        steps += target.every
        wall, cpu = time.perf_counter(), time.process_time()
        distance = target.judge(export())
        used = wall - chosen.began - aside_wall, cpu - aside_cpu
        aside_wall += time.perf_counter() - wall
        aside_cpu += time.process_time() - cpu
        curve.append((steps, *used, distance))
        if distance <= target.total_variation or used[1] > chosen.limit or steps >= chosen.most:
            break
    line = {
        "library": library,
        "variant": chosen.variant,
        "target": chosen.target,
        "wanted": target.total_variation,
        "reached": distance <= target.total_variation,
        "total_variation": distance,
        "best": min(point[3] for point in curve),
        "steps": steps,
        "wall_s": used[0],
        "cpu_s": used[1],
        "seed": chosen.seed,
        "settings": settings,
        "curve": curve[:: max(1, len(curve) // 40)],
    }
    print(json.dumps(line), flush=True)


def not_available(chosen: argparse.Namespace, library: str, reason: str) -> None:
    """Prints the JSON line of a variant that the library does not have."""
    line = {"library": library, "variant": chosen.variant, "target": chosen.target, "not_available": reason}
    print(json.dumps(line), flush=True)
