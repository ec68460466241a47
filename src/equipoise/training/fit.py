"""Running a loop in a folder: evaluation, metrics, checkpoints and progress at a fixed rhythm."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm

from equipoise.training.folder import RunFolder, write_whole
from equipoise.training.loop import Loop, NotFinite
from equipoise.trajectories import to_bytes

Record = dict[str, Any]


def fit(
    loop: Loop,
    folder: RunFolder | None,
    *,
    every: int,
    listen: Callable[[Record], None] = lambda record: None,
    clock: Clock | None = None,
) -> None:
    """Trains to the run's last step; every `every` steps evaluates, logs and saves, and once at the end.

    What is logged and saved depends on configuration and seed alone, so that a run that was killed and taken up ends
    bit for bit where it would have; times go into DONE and beside the checkpoints.

    Args:
        loop: new, or loaded from a checkpoint.
        folder: of the run; None: nothing is written.
        every: steps between two records.
        listen: is given each record.
        clock: of a run that is taken up, with the seconds it had spent.

    Raises:
        ValueError: a loss that is not finite; the batch is saved in the folder, and named.
    """
    clock = clock or Clock()
    steps = loop.run.steps
    if folder is not None and not folder.begun:
        _record(loop, folder, {}, listen, clock)
    with Progress(steps, loop.step) as progress:
        while loop.step < steps:
            metrics = _advance(loop, folder)
            progress.step(metrics)
            if loop.step % every == 0 or loop.step == steps:
                progress.show(_record(loop, folder, metrics, listen, clock))
    if folder is not None:
        folder.finish({"steps": loop.step, **clock.seconds()})


class Clock:
    """Wall and CPU seconds that a run has spent, over all the times that it was taken up."""

    def __init__(self, wall_seconds: float = 0.0, cpu_seconds: float = 0.0) -> None:
        self.wall, self.cpu = time.perf_counter() - wall_seconds, time.process_time() - cpu_seconds

    def seconds(self) -> dict[str, float]:
        """The seconds so far, by name."""
        spent = {"wall_seconds": time.perf_counter() - self.wall, "cpu_seconds": time.process_time() - self.cpu}
        return {name: round(value, 3) for name, value in spent.items()}


def _advance(loop: Loop, folder: RunFolder | None) -> dict[str, torch.Tensor]:
    try:
        return loop.advance()
    except NotFinite as error:
        if folder is None:
            raise
        path = folder.path / "not-finite.safetensors"
        write_whole(path, to_bytes(error.batch))
        raise ValueError(f"{error}; the batch is saved as '{path}'") from error


def _record(
    loop: Loop,
    folder: RunFolder | None,
    metrics: dict[str, torch.Tensor],
    listen: Callable[[Record], None],
    clock: Clock,
) -> Record:
    record = {"step": loop.step, **{name: float(value) for name, value in metrics.items()}, **loop.run.evaluate()}
    if folder is not None:
        folder.log(record)
    listen(record)
    if folder is not None:
        folder.save(loop.step, loop.state_dict(), clock.seconds())
    return record


class Progress:
    """A progress bar on a terminal, plain lines in a pipe; both on standard error."""

    def __init__(self, steps: int, step: int, interval: float = 0.2) -> None:
        self.terminal = sys.stderr.isatty()
        self.steps, self.interval, self.shown = steps, interval, 0.0
        self.bar = tqdm(total=steps, initial=step, unit="step", disable=not self.terminal, dynamic_ncols=True)
        self.metric = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def step(self, metrics: dict[str, torch.Tensor]) -> None:
        """One step on; the bar's text is renewed a few times a second."""
        self.bar.update()
        now = time.monotonic()
        if self.terminal and now - self.shown > self.interval:
            self.shown = now
            shown = [f"{name} {float(metrics[name]):.4g}" for name in ("loss", "log_z") if name in metrics]
            self.bar.set_postfix_str("  ".join([*shown, self.metric]).strip())

    def show(self, record: Record) -> None:
        """A record: the metric that matters on the bar, a plain line in a pipe."""
        matters = next((name for name in ("total_variation", "mode_total_variation") if name in record), None)
        if matters is not None:
            self.metric = f"{matters} {record[matters]:.4f}"
            self.bar.set_postfix_str(self.metric)
        if not self.terminal:
            names = ("loss", "log_z", "total_variation", "mode_total_variation", "mean_reward", "greedy_accuracy")
            shown = "  ".join(f"{name} {record[name]:.4g}" for name in names if name in record)
            print(f"step {record['step']}/{self.steps}  {shown}", file=sys.stderr, flush=True)
