"""What every worker of the speed benchmark shares: the options, the timing loop and the JSON line.

A worker is a script run by one library's own interpreter.  It supplies a `build(workload, seed)` and hands it to
`run_worker`; all are then timed by the same code, so a difference between two JSON lines is a difference between two
libraries.  Only the standard library and numpy are used here: this file is imported by interpreters that have neither
Equipoise nor torch.

The length of a trajectory is its number of actions, the exit action included.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy
from workloads import REGIMES, Workload, changed

Step = Callable[[], tuple[float, Any]]
"""One call: samples, updates the parameters, returns (mean loss, the trajectories' lengths as an array of integers)."""

FEWEST_CALLS = 3
CHECKED_STEPS = 25


class NotAvailable(Exception):
    """What was asked for is not in the library: the worker says so in its JSON line, and the tables say it too."""


@dataclass
class Built:
    """What a worker's `build` returns.

    step: one call, of `steps_per_call` training steps.
    set_learning_rates: sets the learning rates of (policy, log Z); called between steps, never while timing. It must
        leave the work of a step as it is, and must not compile anything again.
    parameters: all parameters, log Z among them, as one flat array, for the check that training changes them.
    settings: what was chosen in the library, in words, for the record.
    framework: name and version of what the library computes with.
    steps_per_call: more than 1 where a library runs several steps as one compiled program.
    """

    step: Step
    set_learning_rates: Callable[[float, float], None]
    parameters: Callable[[], numpy.ndarray]
    settings: str
    framework: str
    steps_per_call: int = 1


@dataclass(frozen=True)
class Result:
    """One worker's JSON line.  Times are per training step; `cpu_ms` is the process's own CPU time."""

    library: str
    version: str
    variant: str
    regime: str
    workload: dict[str, Any]
    seed: int
    steps: int
    cpu_ms: float
    wall_ms: float
    cpu_ms_median: float
    wall_ms_slowest: float
    first_call_cpu_s: float
    first_call_wall_s: float
    warmup_cpu_s: float
    length_mean: float
    length_longest_mean: float
    length_max: int
    loss_mean: float
    check_loss_first: float
    check_loss_last: float
    check_change: float
    trains: bool
    peak_mb: float
    framework: str
    python: str
    settings: str


def check_training(built: Built, workload: Workload, steps: int = CHECKED_STEPS) -> tuple[float, float, float, bool]:
    """Trains for a few untimed steps at the workload's learning rates.

    Returns the mean loss of the first and of the last calls, the largest change of a parameter, and whether all losses
    were finite and something changed.  It guards against a fast step that does not learn.
    """
    before = built.parameters().copy()
    built.set_learning_rates(workload.learning_rate, workload.log_z_learning_rate)
    losses = [built.step()[0] for _ in range(max(2, steps // built.steps_per_call))]
    some = max(1, len(losses) // 5)
    change = float(numpy.abs(built.parameters() - before).max())
    finite = all(math.isfinite(loss) for loss in losses) and math.isfinite(change)
    return statistics.fmean(losses[:some]), statistics.fmean(losses[-some:]), change, finite and change > 0.0


def measure(
    built: Built, workload: Workload, options: argparse.Namespace, *, library: str, version: str, check: bool = True
) -> Result:
    """Times `options.steps` steps after `options.warmup` untimed ones, all at learning rate 0: the work is that of
    training, and the policy stays what it is. Then checks that the step trains."""
    built.set_learning_rates(0.0, 0.0)
    each = built.steps_per_call
    cpu_began, wall_began = time.process_time(), time.perf_counter()
    built.step()
    first_cpu, first_wall = time.process_time() - cpu_began, time.perf_counter() - wall_began
    for _ in range(math.ceil(options.warmup / each)):
        built.step()
    warmup_cpu = time.process_time() - cpu_began
    gc.collect()
    cpu, wall, losses, lengths = [], [], [], []
    calls = max(1, math.ceil(options.steps / each))
    while len(cpu) < calls and (len(cpu) < FEWEST_CALLS or sum(cpu) * each < 1e3 * options.seconds):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        loss, batch_lengths = built.step()
        wall.append(1e3 * (time.perf_counter() - wall_start) / each)
        cpu.append(1e3 * (time.process_time() - cpu_start) / each)
        losses.append(loss)
        lengths.append(numpy.asarray(batch_lengths, dtype=numpy.float64).reshape(-1, workload.batch))
    stacked = numpy.concatenate(lengths)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    first, last, change, trains = check_training(built, workload) if check else (0.0, 0.0, 0.0, True)
    return Result(
        library=library,
        version=version,
        variant=options.variant,
        regime=options.regime,
        workload=asdict(workload),
        seed=options.seed,
        steps=len(cpu) * each,
        cpu_ms=statistics.fmean(cpu),
        wall_ms=statistics.fmean(wall),
        cpu_ms_median=statistics.median(cpu),
        wall_ms_slowest=max(wall),
        first_call_cpu_s=first_cpu,
        first_call_wall_s=first_wall,
        warmup_cpu_s=warmup_cpu,
        length_mean=float(stacked.mean()),
        length_longest_mean=float(stacked.max(axis=1).mean()),
        length_max=int(stacked.max()),
        loss_mean=statistics.fmean(losses),
        check_loss_first=first,
        check_loss_last=last,
        check_change=change,
        trains=trains and all(math.isfinite(loss) for loss in losses),
        peak_mb=peak,
        framework=built.framework,
        python=platform.python_version(),
        settings=built.settings,
    )


def arguments(description: str, task: str, variants: Sequence[str]) -> argparse.ArgumentParser:
    """The options that every worker of a task has."""
    regimes = [name for name, regime in REGIMES.items() if regime.task == task]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--regime", choices=regimes, default=regimes[0], help="what to time")
    parser.add_argument("--steps", type=int, default=100, help="timed training steps, at most")
    parser.add_argument("--seconds", type=float, default=1e9, help="CPU seconds after which no more steps are timed")
    parser.add_argument("--warmup", type=int, default=20, help="untimed training steps before them")
    parser.add_argument("--seed", type=int, default=0, help="seed of the initialisation and of the sampling")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="NAME=NUMBER", help="of the work"
    )
    parser.add_argument("--variant", choices=variants, default=variants[0], help="of the library's set-up")
    parser.add_argument("--unchecked", action="store_true", help="do not check that the step trains (large batches)")
    return parser


def run_worker(
    build: Callable[[Any, argparse.Namespace], Built], options: argparse.Namespace, *, library: str, version: str
) -> None:
    """Builds, measures and prints the JSON line; the whole of a worker's main function."""
    if options.steps < 1 or options.warmup < 0:
        raise SystemExit("--steps must be at least 1 and --warmup at least 0")
    workload: Any = changed(REGIMES[options.regime].workload, options.settings)  # type: ignore[type-var]
    try:
        built = build(workload, options)
        result = measure(built, workload, options, library=library, version=version, check=not options.unchecked)
    except NotAvailable as reason:
        line = {"library": library, "version": version, "variant": options.variant, "regime": options.regime}
        print(json.dumps(line | {"not_available": str(reason)}), flush=True)
        return
    print(json.dumps(asdict(result)), flush=True)
