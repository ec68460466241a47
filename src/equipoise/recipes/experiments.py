"""Experiments of papers: many runs over seeds, one table. Imports no torch until an experiment is run.

An experiment's runs lie in folders below one; run again, what is done is kept and what was killed goes on, so that a
comparison survives anything. The figures of a table are those of each run's last record.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.recipes.configuration import Training, nearest
from equipoise.recipes.digits_experiments import FTB2026, RTB2024
from equipoise.recipes.gaussians_experiments import DELEU2025, DELEU2025_FULL, DIVERGENCES


@dataclass(frozen=True)
class Experiment:
    """A paper's comparison.

    Attributes:
        about: one line.
        source: the paper, and where its settings are.
        runs: (seed, folder of the seed's runs) -> configurations by label, in the order in which they run; a later one
            may name an earlier one's folder, folder / label.
        figures: columns of the table: names of figures, with a heading each.
        slow: costs hours.
    """

    about: str
    source: str
    runs: Callable[[int, Path], Mapping[str, Training]]
    figures: Mapping[str, str]
    slow: bool = False


EXPERIMENTS: dict[str, Experiment] = {
    name: Experiment(**entry)
    for name, entry in {
        "deleu2025-gaussians": DELEU2025,
        "deleu2025-gaussians-full": DELEU2025_FULL,
        "gaussians-divergences": DIVERGENCES,
        "rtb2024-digits": RTB2024,
        "ftb2026-digits": FTB2026,
    }.items()
}
"""By the name that `equipoise reproduce` takes."""


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: unknown; the nearest is named.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment '{name}'{nearest(name, EXPERIMENTS)}; known: {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def reproduce(
    chosen: Experiment,
    out: Path,
    seeds: Sequence[int],
    *,
    scale: float = 1.0,
    only: Sequence[str] = (),
    begin: Callable[[str, int], None] = lambda label, seed: None,
) -> dict[str, list[Path]]:
    """Runs an experiment, or what of it is not done yet, and writes `out`/table.md and `out`/table.json.

    Args:
        chosen: the experiment.
        out: folder of everything.
        seeds: each has its own runs.
        scale: of every run's steps: below 1 for a quick look.
        only: labels to run; empty: all.
        begin: told of each run before it starts.

    Returns:
        The run folders by label, one a seed.

    Raises:
        ValueError: an unknown label, or a run below `out` that was made with other settings.
    """
    from equipoise.recipes.runs import continue_run, open_run, read_config, train

    found: dict[str, list[Path]] = {}
    for seed in seeds:
        folder = out / f"seed-{seed}"
        configs = chosen.runs(seed, folder)
        unknown = [label for label in only if label not in configs]
        if unknown:
            raise ValueError(f"unknown run '{unknown[0]}'{nearest(unknown[0], configs)}; runs: {', '.join(configs)}")
        for label, config in configs.items():
            if only and label not in only:
                continue
            config = _scaled(config, scale, folder / label)
            path = folder / label
            found.setdefault(label, []).append(path)
            if (path / "DONE").exists():
                _require_same(read_config(path)[1], config, path)
                continue
            begin(label, seed)
            if (path / "config.yaml").exists():
                stored = open_run(path)
                _require_same(stored.config, config, path)
                continue_run(stored)
            else:
                train(config)
            write_table(chosen, found, out)
    write_table(chosen, found, out)
    return found


def write_table(chosen: Experiment, found: Mapping[str, Sequence[Path]], out: Path) -> None:
    """`table.json`, every figure of every run, and `table.md`: mean over seeds, and their standard deviation."""
    rows = {label: [_last(path) for path in paths if (path / "DONE").exists()] for label, paths in found.items()}
    (out / "table.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        f"| run | seeds | {' | '.join(chosen.figures.values())} | CPU s |",
        f"|---|---|{'---|' * len(chosen.figures)}---|",
    ]
    for label, records in rows.items():
        if records:
            cells = [_cell([record.get(name) for record in records]) for name in (*chosen.figures, "cpu_seconds")]
            lines.append(f"| {label} | {len(records)} | {' | '.join(cells)} |")
    (out / "table.md").write_text("\n".join(lines) + "\n")


def _last(path: Path) -> dict[str, Any]:
    from equipoise.training.folder import RunFolder

    return {**RunFolder(path).metrics()[-1], **json.loads((path / "DONE").read_text())}


def _cell(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    if not numbers:
        return ""
    mean = statistics.fmean(numbers)
    shown = f"{mean:.0f}" if abs(mean) >= 100 else f"{mean:.3f}"
    return f"{shown} ± {statistics.stdev(numbers):.3f}" if len(numbers) > 1 else shown


def _scaled(config: Training, scale: float, out: Path) -> Training:
    steps = max(1, round(config.steps * scale))
    return dataclasses.replace(config, steps=steps, every=min(config.every, steps), out=out).resolved()


def _require_same(stored: Training, config: Training, path: Path) -> None:
    differing = [
        entry.name
        for entry in dataclasses.fields(config)
        if entry.name not in ("out", "prior") and getattr(stored, entry.name, None) != getattr(config, entry.name)
    ]
    if differing:
        name = differing[0]
        raise ValueError(
            f"'{path}' was run with {name} {getattr(stored, name, None)}, not {getattr(config, name)}: give another "
            "--out, or the same settings"
        )
