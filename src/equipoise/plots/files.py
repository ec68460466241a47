"""The figures of runs as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equipoise.plots.canvas import png
from equipoise.plots.exhibits import OFFERS, Exhibit, curves_of
from equipoise.plots.records import RunRecord, read_runs, reason
from equipoise.recipes.runs import StoredRun, open_run
from equipoise.training.folder import write_whole

UNREADABLE = (OSError, ValueError, ImportError, RuntimeError)
"""What opening and judging a run may raise for a reason that lies in the run."""


def write_figures(paths: Sequence[Path], out: Path | None = None) -> tuple[list[Path], list[str]]:
    """Writes the figures of runs: each run's own, its curves alone, in its `plots/`; or those of all in one folder.

    Args:
        paths: run folders.
        out: a folder; there curves are of all runs together, and a run's own files begin with its name.

    Returns:
        The files, and a warning for each run of which something cannot be drawn.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: none of the folders holds a run.
    """
    runs = read_runs(paths)
    written: list[Path] = []
    warnings: list[str] = []
    if out is not None:
        written += _write(out, "", curves_of([run for run in runs if run.readable]))
    for run in runs:
        exhibits, problems = exhibits_of(run)
        warnings += [f"{run.name}: {problem}" for problem in problems]
        if out is not None:
            written += _write(out, f"{_file_name(run.name)}-" if len(runs) > 1 else "", exhibits)
        elif run.readable:
            written += _write(run.path / "plots", "", [*curves_of([run]), *exhibits])
    return written, warnings


def exhibits_of(run: RunRecord) -> tuple[list[Exhibit], list[str]]:
    """What the run's sampler offers, and all that is amiss with the run.

    Raises:
        ImportError: matplotlib is not installed.
    """
    if not run.readable:
        return [], list(run.problems)
    try:
        stored = open_run(run.path)
    except UNREADABLE as error:
        return [], [*run.problems, f"no figures of its sampler: {reason(error)}"]
    exhibits, problems = offered(stored)
    return exhibits, [*run.problems, *stored.warnings, *problems]


def offered(stored: StoredRun) -> tuple[list[Exhibit], list[str]]:
    """`figures_of`, where one that cannot be drawn leaves the others: with the reason of each that failed."""
    exhibits: list[Exhibit] = []
    problems: list[str] = []
    for offer in OFFERS:
        try:
            exhibits += offer(stored)
        except (OSError, ValueError, RuntimeError) as error:
            problems.append(f"no {offer.__name__}: {reason(error)}")
    return exhibits, problems


def _write(folder: Path, prefix: str, exhibits: Sequence[Exhibit]) -> list[Path]:
    if exhibits:
        folder.mkdir(parents=True, exist_ok=True)
    found = [(folder / f"{prefix}{_file_name(exhibit.name)}.png", exhibit.figure) for exhibit in exhibits]
    for path, figure in found:
        write_whole(path, png(figure))
    return [path for path, _ in found]


def _file_name(name: str) -> str:
    return name.strip("/").replace("/", "-").lstrip(".") or "run"
