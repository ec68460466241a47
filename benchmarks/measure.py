"""What every worker of the speed benchmark shares: the workload's numbers, the timing loop and the JSON line.

A worker is a script run by one library's own interpreter.  It supplies a `build(regime, seed)` and hands it to
`run_worker`; both sides are then timed by the same code, so a difference between two JSON lines is a difference
between two libraries.  Only the standard library and torch are used here: this file is imported by interpreters that
do not have Equipoise installed.

The length of a trajectory is its number of actions, the exit action included; on the grid of the workload it lies
between 1 and 77.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

Step = Callable[[], tuple[float, Tensor]]
"""One training step: samples a batch, updates the parameters, returns (loss, lengths of the batch's trajectories)."""


@dataclass(frozen=True)
class Workload:
    """Hypergrid with a multilayer perceptron and a learned backward policy sharing its trunk, trajectory balance."""

    dimensions: int = 4
    side: int = 20
    hidden: int = 256
    hidden_layers: int = 2
    batch: int = 16
    rewards: tuple[float, float, float] = (0.1, 0.5, 2.0)
    learning_rate: float = 1e-3
    log_z_learning_rate: float = 1e-1


@dataclass(frozen=True)
class Finetuning:
    """Relative trajectory balance of a diffusion model in the plane: a prior over 25 Gaussians, a reward for 9 of them.

    Each step of a path adds Gaussian noise of variance `variance` / `steps`, and `exploration` squared on top of it
    while sampling. The last layers of prior and model are drawn with standard deviation `out_std`, so that neither is 0
    and they differ; all steps of all paths carry gradients.
    """

    steps: int = 100
    variance: float = 5.0
    width: int = 64
    batch: int = 256
    exploration: float = 0.5
    out_std: float = 0.1
    learning_rate: float = 1e-3
    log_z_learning_rate: float = 1e-1
    spacing: tuple[float, ...] = (-10.0, -5.0, 0.0, 5.0, 10.0)
    variance_of_modes: float = 0.3
    modes: tuple[tuple[float, float, float], ...] = (
        *((-10.0, -5.0, 4.0), (-5.0, -10.0, 10.0), (-5.0, 0.0, 4.0), (10.0, -5.0, 5.0), (0.0, 0.0, 10.0)),
        *((0.0, 5.0, 5.0), (5.0, -5.0, 4.0), (5.0, 0.0, 15.0), (5.0, 10.0, 4.0)),
    )
    """The nine: both coordinates and the weight."""


@dataclass(frozen=True)
class Regime:
    """Which trajectories the timed steps see.

    After initialisation the forward policy's output layer is set to 0, and its bias for the exit action to
    `exit_bias`: all legal actions but the exit are equally likely, so that the lengths of trajectories have the same
    distribution whatever a library's initialisation.  The timed steps run the whole optimiser at learning rate 0: the
    work is that of training, and the policy stays what it is for any number of steps.
    """

    exit_bias: float


HYPERGRID = Workload()
FINETUNING = Finetuning()
GRADIENTS = ("all_steps", "subsampled")
"""Of the fine-tuning step: through all 100 steps of a path, or (ours alone) through 25 of them, drawn anew."""

REGIMES = {
    "short": Regime(exit_bias=0.0),
    "long": Regime(exit_bias=-2.4),
}
"""Mean length, and mean of the longest of 16: 5.0 and 15.7 (short); 36.6 and 76.3 (long)."""


@dataclass
class Built:
    """What a worker's `build` returns.

    step: one training step.
    set_learning_rates: sets the learning rates of (policy, log Z); called between steps, never while timing.
    parameters: the policy's parameters and log Z, for the check that training changes them.
    settings: what was chosen in the library, in words, for the record.
    """

    step: Step
    set_learning_rates: Callable[[float, float], None]
    parameters: Callable[[], list[Tensor]]
    settings: str


@dataclass(frozen=True)
class Result:
    """One worker's JSON line.  Times are per training step; `cpu_ms` is the process's own CPU time."""

    library: str
    version: str
    regime: str
    seed: int
    steps: int
    warmup: int
    cpu_ms: float
    wall_ms: float
    cpu_ms_median: float
    wall_ms_median: float
    wall_ms_slowest: float
    warmup_cpu_s: float
    length_mean: float
    length_longest_mean: float
    length_max: int
    loss_mean: float
    check_loss_first: float
    check_loss_last: float
    check_change: float
    trains: bool
    threads: int
    torch: str
    python: str
    settings: str


def _median(values: Sequence[float]) -> float:
    """The middle value (the mean of the middle two)."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else 0.5 * (ordered[half - 1] + ordered[half])


def check_training(built: Built, workload: Workload | Finetuning, steps: int = 25) -> tuple[float, float, float, bool]:
    """Trains for a few untimed steps at the workload's learning rates.

    Returns the mean loss of the first and of the last five steps, the largest change of a parameter, and whether all
    losses were finite and something changed.  It guards against a fast step that does not learn.
    """
    before = [p.detach().clone() for p in built.parameters()]
    built.set_learning_rates(workload.learning_rate, workload.log_z_learning_rate)
    losses = [built.step()[0] for _ in range(steps)]
    change = max(float((p.detach() - q).abs().max()) for p, q in zip(built.parameters(), before, strict=True))
    finite = all(math.isfinite(loss) for loss in losses) and math.isfinite(change)
    return sum(losses[:5]) / 5, sum(losses[-5:]) / 5, change, finite and change > 0.0


def measure(
    built: Built,
    *,
    library: str,
    version: str,
    regime: str,
    seed: int,
    steps: int,
    warmup: int,
    workload: Workload | Finetuning,
) -> Result:
    """Times `steps` steps after `warmup` untimed ones, all at learning rate 0, then checks that the step trains."""
    built.set_learning_rates(0.0, 0.0)
    started = time.process_time()
    for _ in range(warmup):
        built.step()
    warmup_cpu = time.process_time() - started
    gc.collect()
    cpu, wall, losses, lengths = [], [], [], []
    for _ in range(steps):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        loss, batch_lengths = built.step()
        wall.append(1e3 * (time.perf_counter() - wall_start))
        cpu.append(1e3 * (time.process_time() - cpu_start))
        losses.append(loss)
        lengths.append(batch_lengths)
    stacked = torch.stack([one.detach().cpu().to(torch.float64) for one in lengths])
    first, last, change, trains = check_training(built, workload)
    return Result(
        library=library,
        version=version,
        regime=regime,
        seed=seed,
        steps=steps,
        warmup=warmup,
        cpu_ms=sum(cpu) / steps,
        wall_ms=sum(wall) / steps,
        cpu_ms_median=_median(cpu),
        wall_ms_median=_median(wall),
        wall_ms_slowest=max(wall),
        warmup_cpu_s=warmup_cpu,
        length_mean=float(stacked.mean()),
        length_longest_mean=float(stacked.max(dim=1).values.mean()),
        length_max=int(stacked.max()),
        loss_mean=sum(losses) / steps,
        check_loss_first=first,
        check_loss_last=last,
        check_change=change,
        trains=trains and all(math.isfinite(loss) for loss in losses),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        python=platform.python_version(),
        settings=built.settings,
    )


def arguments(description: str, regimes: Sequence[str] = tuple(REGIMES)) -> argparse.ArgumentParser:
    """The options that every worker has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--regime", choices=regimes, default=regimes[0], help="what to time")
    parser.add_argument("--steps", type=int, default=200, help="timed training steps")
    parser.add_argument("--warmup", type=int, default=20, help="untimed training steps before them")
    parser.add_argument("--seed", type=int, default=0, help="seed of the initialisation and of the sampling")
    parser.add_argument("--json", metavar="FILE", help="also write the JSON line to FILE")
    return parser


def run_worker(
    build: Callable[[str, int], Built],
    options: argparse.Namespace,
    *,
    library: str,
    version: str,
    workload: Workload | Finetuning = HYPERGRID,
) -> Result:
    """Builds, measures on one thread and prints the JSON line; the whole of a worker's main function."""
    if options.steps < 1 or options.warmup < 0:
        raise SystemExit("--steps must be at least 1 and --warmup at least 0")
    torch.set_num_threads(1)
    result = measure(
        build(options.regime, options.seed),
        library=library,
        version=version,
        regime=options.regime,
        seed=options.seed,
        steps=options.steps,
        warmup=options.warmup,
        workload=workload,
    )
    line = json.dumps(asdict(result))
    print(line, flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(line + "\n")
    return result
