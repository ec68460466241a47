"""Searchers in processes of their own against one process: wall time to the same accuracy, and what more would bring.

    python benchmarks/asynchrony.py --out benchmarks/asynchrony

`overlap`: bit sequences of 240 bits, one by one, by a cached transformer, whose drawing and training take about as
long; in one process with one thread and with two, and on Ray with one searcher; judged by the effective share of 256
samples (this target is near to uniform, without modes that a sample could miss). `reward`: a hypergrid, each batch's
reward of which sleeps (an emulated slow reward: nothing is computed meanwhile), one call at a time for each
searcher; in one process, and on Ray with 1, 2, 4 and 8; judged by the exact total variation. Pairs are run in turn and
repeated; medians are reported. The time begins with the first step's end, so that Ray's start (told apart) and imports
are not in it. Then a simulation, from the times measured in one process and from Ray's own, is held against the runs,
and continued to 1,000 searchers. Needs the extra `ray`, and a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from asynchrony_simulation import Times, bound, curve, simulate
from torch import Tensor

from equipoise.discrete.environments.hypergrid import corners
from equipoise.recipes import BitSequences, Hypergrid
from equipoise.recipes.configuration import Discrete
from equipoise.recipes.engines import run_of
from equipoise.recipes.tasks import task
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.fit import fit
from equipoise.training.loop import Loop
from equipoise.trajectories import Columns, from_bytes, to_bytes

SLEEP = 0.3
"""Seconds of the emulated reward for each batch."""

COUNTS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)
CORES = os.cpu_count() or 1
NAMES = {"overlap": "bit_sequences", "reward": "hypergrid"}
ACCURACY = {"overlap": 0.05, "reward": 0.1}
"""Distance from the target at which a run ends."""

SIDE = 8
LOG_REWARD = corners(SIDE)


def slow_reward(objects: Columns) -> Tensor:
    """The grid's own reward, an emulated 0.3 s late."""
    time.sleep(SLEEP)
    return LOG_REWARD(objects, None)


@dataclass(frozen=True)
class Measured:
    """A run.

    Attributes:
        steps_per_second: of the learner, evaluations left out.
        seconds_to_accuracy: wall time of drawing and training, until a record had the accuracy; None: it never had.
        steps_to_accuracy: the step of that record.
        start: seconds before the first step's end.
        parts: seconds of drawing and of training a step, in one process.
    """

    steps_per_second: float
    seconds_to_accuracy: float | None
    steps_to_accuracy: int | None
    start: float
    parts: dict[str, float]


def distance(record: dict[str, Any]) -> float:
    """From the target: total variation where it is known, else what is missing of a sample's effective share."""
    return record["total_variation"] if "total_variation" in record else 1 - record["ess"]


def measured(name: str, config: Discrete, accuracy: float, *, threads: int = 1) -> Measured:
    """Trains until the distance is at most `accuracy`, or to the end."""
    built = task(name).build(config, None)
    torch.set_num_threads(threads)
    spent: dict[str, float] = {"generation": 0.0, "reward": 0.0}
    rollouts = _rollouts(built.run.sources.values())
    if config.engine == "inline":
        rollouts.reward = _timed(rollouts.reward, spent, "reward")
        rollouts.draw = _timed(rollouts.draw, spent, "generation")  # type: ignore[method-assign]
    loop = Loop(run_of(name, config, built))
    clock = _Clock(loop)
    loop.run = replace(loop.run, evaluate=clock.paused(loop.run.evaluate), after=(*loop.run.after, clock.step))
    records: list[tuple[int, float, float]] = []

    def listen(record: dict[str, Any]) -> None:
        records.append((record["step"], clock.passed(), distance(record)))
        if records[-1][2] <= accuracy:
            raise _Reached

    with contextlib.suppress(_Reached):  # good enough: it ends there
        fit(loop, None, every=config.every, listen=listen)
    reached = next(((step, seconds) for step, seconds, found in records if found <= accuracy), (None, None))
    steps, seconds = loop.step - 1, clock.passed()
    generation = (spent["generation"] - spent["reward"]) / loop.step
    parts = {"generation": generation, "reward": spent["reward"] / loop.step}
    parts["training"] = seconds / steps - sum(parts.values())
    return Measured(steps / seconds, reached[1], reached[0], clock.start, parts if config.engine == "inline" else {})


class _Reached(Exception):
    """The accuracy is there."""


class _Clock:
    """Wall time since the first step ended, without evaluations."""

    def __init__(self, loop: Loop) -> None:
        self.loop, self.made, self.begun, self.out, self.start = loop, time.monotonic(), 0.0, 0.0, 0.0

    def step(self, step: int) -> None:
        if step == 1:
            self.begun, self.out = time.monotonic(), 0.0
            self.start = self.begun - self.made

    def passed(self) -> float:
        return time.monotonic() - self.begun - self.out

    def paused(self, evaluate: Callable[[], dict[str, float]]) -> Callable[[], dict[str, float]]:
        def timed() -> dict[str, float]:
            begun = time.monotonic()
            found = evaluate()
            self.out += time.monotonic() - begun
            return found

        return timed


def _timed(function: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    def timed(*given: Any, **named: Any) -> Any:
        begun = time.monotonic()
        found = function(*given, **named)
        spent[name] += time.monotonic() - begun
        return found

    return timed


def _rollouts(sources: Iterable[Any]) -> Rollouts:
    (source,) = sources
    while not isinstance(source, Rollouts):
        source = source.inner
    return source


def overheads(name: str, config: Discrete) -> dict[str, float]:
    """Seconds of a message to the buffer, of publishing weights and of pulling them, on an idle Ray."""
    from equipoise.recipes.engines import settings_of
    from equipoise.training.engines.ray import Team

    built = task(name).build(config, None)
    state: Any = built.sampler
    given = {"config": {"task": name, **_plain(config)}, "source": "on_policy"}
    team = Team(settings_of(config), parts="equipoise.recipes.engines:rollouts", task=given, source="on_policy",
                seed=0, folder=None)  # fmt: skip
    try:
        message = _median(lambda: team.call("status"), 200)
        publish = _median(lambda: team.publish(0, to_bytes(dict(state.state_dict()))), 50)
        pull = _median(lambda: state.load_state_dict(from_bytes(bytes(team.ray.get(team.weights)))), 50)
    finally:
        team.close()
    return {"message": message, "publish": publish, "pull": pull}


def _plain(config: Discrete) -> dict[str, Any]:
    from equipoise.recipes.mappings import to_mapping

    return to_mapping(config)


def _median(call: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(times):
        begun = time.monotonic()
        call()
        found.append(time.monotonic() - begun)
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the table and the figures")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind, in turn")
    parser.add_argument("--steps", type=int, default=3000, help="most steps of a run")
    parser.add_argument("--only", choices=("overlap", "reward"), help="one of the two (default: both)")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    overlap = BitSequences(bits=240, word=1, batch=8, hidden=(32, 32, 32), steps=chosen.steps, every=25)
    slow = Hypergrid(
        side=SIDE,
        batch=16,
        learning_rate=1e-3,
        hidden=(64, 64),
        reward="asynchrony:slow_reward",
        steps=chosen.steps,
        every=25,
    )
    runs: dict[str, tuple[Discrete, int]] = {
        "overlap, one process, 1 thread": (overlap, 1),
        "overlap, one process, 2 threads": (overlap, 2),
        "overlap, Ray, 1 searcher": (replace(overlap, engine="ray", lag=1), 1),
        "reward, one process": (slow, 1),
        **{f"reward, Ray, {n} searchers": (replace(slow, engine="ray", searchers=n), 1) for n in (1, 2, 4, 8)},
    }
    runs = {label: run for label, run in runs.items() if label.startswith(chosen.only or "")}
    path = chosen.out / "runs.json"
    found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text()) if path.exists() else {}
    for repeat in range(chosen.repeats):
        for label, (config, threads) in runs.items():
            if len(found.setdefault(label, [])) > repeat:
                continue
            print(f"repeat {repeat + 1}: {label}", file=sys.stderr, flush=True)
            kind = label.split(",")[0]
            run = measured(NAMES[kind], replace(config, seed=repeat), ACCURACY[kind], threads=threads)
            found[label].append(asdict(run))
            path.write_text(json.dumps(found, indent=1))
    configs = {"overlap": overlap, "reward": slow}
    extra = {kind: overheads(NAMES[kind], replace(configs[kind], engine="ray")) for kind in _kinds(found)}
    text = table(found, extra)
    (chosen.out / "table.md").write_text(text)
    print(text)


def _kinds(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(label.split(",")[0] for label in found))


def table(found: dict[str, list[dict[str, Any]]], extra: dict[str, dict[str, float]]) -> str:
    """What was measured, the bounds, and the simulation beside it."""
    lines = ["| run | steps a second | seconds to accuracy (steps) | times faster | bound | simulated | off by |"]
    lines.append("|---|---|---|---|---|---|---|")
    for kind in _kinds(found):
        alone = [label for label in found if label.startswith(kind) and "one process" in label]
        best = min(alone, key=lambda label: _seconds(found[label]))
        first = found[next(iter(alone))]
        parts = {name: statistics.median(run["parts"][name] for run in first) for name in first[0]["parts"]}
        times = Times(**parts, **extra[kind])
        for label in (label for label in found if label.startswith(kind)):
            rate = statistics.median(run["steps_per_second"] for run in found[label])
            cells = [label, f"{rate:.2f}", _reached(found[label])]
            cells.append(f"{_seconds(found[best]) / _seconds(found[label]):.2f}")
            if "Ray" in label:
                count = int(label.split("Ray, ")[1].split()[0])
                said = simulate(times, searchers=count, ahead=count, cores=CORES).steps_per_second
                most = bound(times, count, CORES) / (1 / (parts["generation"] + parts["reward"] + parts["training"]))
                cells += [f"{most:.2f}", f"{said:.2f}", f"{100 * (said / rate - 1):+.0f} %"]
            else:
                cells += ["", "", ""]
            lines.append(f"| {' | '.join(cells)} |")
        shown = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in asdict(times).items())
        both = (times.generation, times.training)
        lines.insert(0, f"{kind}: milliseconds {shown}; bound (g + t) / max(g, t) {sum(both) / max(both):.2f}\n")
        rows = [f"| {n} | {found.steps_per_second:.2f} | {found.bottleneck} |" for n, found in curve(times, COUNTS)]
        lines += ["", f"{kind}, searchers on cores of their own:", "", "| searchers | steps a second | busiest |"]
        lines += ["|---|---|---|", *rows, ""]
    return "\n".join([*lines, ""])


def _seconds(runs: list[dict[str, Any]]) -> float:
    reached = [run["seconds_to_accuracy"] for run in runs]
    return statistics.median(float("inf") if seconds is None else seconds for seconds in reached)


def _reached(runs: list[dict[str, Any]]) -> str:
    steps = [run["steps_to_accuracy"] for run in runs]
    if any(step is None for step in steps):
        return "not reached"
    return f"{_seconds(runs):.1f} ({statistics.median(steps):.0f})"


if __name__ == "__main__":
    main()
