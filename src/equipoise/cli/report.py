"""`equipoise report` and `equipoise plot`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from equipoise.cli.flags import UsageError, parse
from equipoise.cli.messages import warn


@dataclass(frozen=True)
class Report:
    """Writes one self-contained HTML page of runs: tables, learning curves, target beside sampler, residuals."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders, one or more"""
    out: Path = Path("report.html")
    """file of the page; one that is there is replaced"""


@dataclass(frozen=True)
class Plot:
    """Writes the report's figures as PNG files, and prints their paths."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders, one or more"""
    out: Path | None = None
    """folder of the files; learning curves are then of all runs together (default: each RUN/plots)"""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """instead of figures, write the metrics as TensorBoard's event files, in each RUN/tensorboard"""


def report(words: list[str]) -> int:
    """`equipoise report RUN... [--out report.html]`."""
    chosen = parse(Report, words, prog="equipoise report")
    _require_runs(chosen.runs, "equipoise report")
    from equipoise.plots.report import write_report

    warnings = write_report(chosen.runs, chosen.out)
    warn(warnings)
    print(chosen.out)
    return 0


def plot(words: list[str]) -> int:
    """`equipoise plot RUN... [--out FOLDER] [--tensorboard]`."""
    chosen = parse(Plot, words, prog="equipoise plot")
    _require_runs(chosen.runs, "equipoise plot")
    if chosen.tensorboard:
        return _events(chosen)
    from equipoise.plots.files import write_figures

    paths, warnings = write_figures(chosen.runs, chosen.out)
    warn(warnings)
    _print(paths)
    return 0


def _events(chosen: Plot) -> int:
    if chosen.out is not None:
        raise UsageError("--tensorboard writes in each RUN/tensorboard: leave --out away")
    from equipoise.plots.events import write_events
    from equipoise.training.folder import RunFolder

    _print([write_events(RunFolder.open(path)) for path in chosen.runs])
    return 0


def _require_runs(runs: tuple[Path, ...], prog: str) -> None:
    if not runs:
        raise UsageError(f"no run is given: one run folder or more were expected, for example {prog} runs/first")


def _print(paths: Iterable[Path]) -> None:
    for path in paths:
        print(path)
