"""Running a loop in a folder: evaluation, metrics, checkpoints and progress at a fixed rhythm."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm import tqdm

from equipoise.training.folder import RunFolder, write_whole
from equipoise.training.loop import Loop, NotFinite
from equipoise.trajectories import to_bytes

Record = dict[str, Any]

ENGINE = ("queue", "searcher_rows_per_second", "learner_idle", "searchers_idle")
"""What an engine of several processes tells in a record."""


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

    SIGTERM lets the step end and saves it, where there is a folder; the process then ends with status 143.

    Raises:
        ValueError: a loss that is not finite; the batch is saved in the folder, and named.
        OSError: the disk is full or not writable; the message names the last good checkpoint.
        SystemExit: after SIGTERM.
    """
    clock = clock or Clock()
    steps = loop.run.steps
    try:
        if folder is not None and not folder.begun:
            _record(loop, folder, {}, listen, clock)
        with Progress(steps, loop.step) as progress, Terminated() as asked:
            while loop.step < steps:
                metrics = _advance(loop, folder)
                progress.step(metrics)
                if loop.step % every == 0 or loop.step == steps:
                    progress.show(_record(loop, folder, metrics, listen, clock))
                elif asked and folder is not None:
                    folder.save(loop.step, loop.state_dict(), clock.seconds())
                if asked:
                    _stop(loop.step, folder)
        if folder is not None:
            folder.finish({"steps": loop.step, **clock.seconds()})
    except OSError as error:
        if folder is None or not folder.begun:
            raise
        raise OSError(f"{error}: the run stopped at step {loop.step}; {_last_good(folder)}") from error
    finally:
        loop.run.close()


class Terminated:
    """While it is entered, SIGTERM is noted instead of obeyed; true once it came. Only the main thread is told."""

    def __init__(self) -> None:
        self.came = False
        self.main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Terminated:
        self.held = signal.signal(signal.SIGTERM, self._note) if self.main else None
        return self

    def __exit__(self, *error: object) -> None:
        if self.main:
            signal.signal(signal.SIGTERM, self.held)

    def __bool__(self) -> bool:
        return self.came

    def _note(self, *given: object) -> None:
        self.came = True


def _stop(step: int, folder: RunFolder | None) -> None:
    kept = "" if folder is None else f" and saved; take it up by: equipoise resume {folder.path}"
    print(f"SIGTERM: step {step} was finished{kept}", file=sys.stderr, flush=True)
    raise SystemExit(128 + signal.SIGTERM)


def _last_good(folder: RunFolder) -> str:
    last = max((path.stem for path in (folder.path / "checkpoints").glob("step-*.json")), default=None)
    if last is None:
        return "it has no whole checkpoint"
    return f"the last good checkpoint is {last}; make room, then: equipoise resume {folder.path}"


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
            names = ("loss", "log_z", "staleness")
            shown = [f"{name} {float(metrics[name]):.4g}" for name in names if name in metrics]
            self.bar.set_postfix_str("  ".join([*shown, self.metric]).strip())

    def show(self, record: Record) -> None:
        """A record: the metric that matters on the bar, a plain line in a pipe."""
        matters = next((name for name in ("total_variation", "mode_total_variation") if name in record), None)
        if matters is not None:
            self.metric = f"{matters} {record[matters]:.4f}"
        if "queue" in record:
            idle = f"{100 * record['learner_idle']:.0f} %/{100 * record['searchers_idle']:.0f} %"
            told = f"{record['searcher_rows_per_second']:.3g} rows/s, queue {record['queue']:.0f}, idle {idle}"
            self.metric = f"{self.metric.partition('  ')[0]}  {told}".strip()
        if self.metric:
            self.bar.set_postfix_str(self.metric)
        if not self.terminal:
            names = ("loss", "log_z", "total_variation", "mode_total_variation", "mean_reward", "greedy_accuracy")
            names += ("staleness", *ENGINE)
            shown = "  ".join(f"{name} {record[name]:.4g}" for name in names if name in record)
            print(f"step {record['step']}/{self.steps}  {shown}", file=sys.stderr, flush=True)
