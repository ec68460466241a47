"""Experiments of papers: many runs over seeds, one table. Imports no torch until an experiment is run.

An experiment's runs lie in folders below one; run again, what is done is kept and what was killed goes on, so that a
comparison survives anything. The figures of a table are those of each run's last record.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.recipes import hypergrid_experiments
from equipoise.recipes.antibody_experiments import ABFLOWNET2025
from equipoise.recipes.configuration import Training
from equipoise.recipes.digits_experiments import FTB2026, RTB2024
from equipoise.recipes.gaussians_experiments import DELEU2025, DELEU2025_FULL, DIVERGENCES
from equipoise.recipes.hypergrid_experiments import MADAN2023
from equipoise.recipes.leaderboard import LEADERBOARD
from equipoise.recipes.mappings import nearest
from equipoise.recipes.molecules_experiments import BACKWARD2024
from equipoise.recipes.molecules_experiments import FTB2026 as FTB2026_MOLECULES
from equipoise.recipes.sequence_experiments import MALKIN2022
from equipoise.recipes.shen_experiments import SHEN2023
from equipoise.recipes.tables import EVALUATION, Compared, Derived, Published, write_table


@dataclass(frozen=True)
class Experiment:
    """A paper's comparison.

    Attributes:
        about: one line.
        source: the paper, and where its settings are.
        runs: (seed, folder of the seed's runs) -> configurations by label, in the order in which they run; a later one
            may name an earlier one's folder, folder / label.
        figures: columns of the table: names of figures, with a heading each.
        compared: figures that have a row each, beside the paper's, the exact ones and a perfect sampler's; where there
            are some, that is the table.
        published: what the paper printed of them.
        derived: figures that are read off all of a run's records.
        curves: figures that are drawn by step.
        judged: whether a finished run is judged once more by its task, for figures too dear for every record.
        slow: costs hours.
        paired: whether `complexes` of what the task says at the end are compared, run with run, in `paired.md`.
    """

    about: str
    source: str
    runs: Callable[[int, Path], Mapping[str, Training]]
    figures: Mapping[str, str] = field(default_factory=dict)
    compared: Mapping[str, Compared] = field(default_factory=dict)
    published: Published = field(default_factory=dict)
    derived: Derived = field(default_factory=dict)
    curves: tuple[str, ...] = ()
    judged: bool = False
    slow: bool = False
    paired: bool = False


EXPERIMENTS: dict[str, Experiment] = {
    name: Experiment(**entry)
    for name, entry in {
        "deleu2025-gaussians": DELEU2025,
        "deleu2025-gaussians-full": DELEU2025_FULL,
        "gaussians-divergences": DIVERGENCES,
        "rtb2024-digits": RTB2024,
        "ftb2026-digits": FTB2026,
        "malkin2022": MALKIN2022,
        "madan2023": MADAN2023,
        "ftb2026-hypergrid": hypergrid_experiments.FTB2026,
        "shen2023": SHEN2023,
        "leaderboard": LEADERBOARD,
        "abflownet2025": ABFLOWNET2025,
        "synflownet2024-backward": BACKWARD2024,
        "ftb2026-synflownet": FTB2026_MOLECULES,
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
    begin: Callable[[str], None] = lambda run: None,
) -> dict[str, list[Path]]:
    """Runs an experiment, or what of it is not done yet, and writes `out`/table.md and `out`/table.json.

    Args:
        chosen: the experiment.
        out: folder of everything.
        seeds: each has its own runs.
        scale: of every run's steps: below 1 for a quick look.
        only: labels to run; empty: all.
        begin: told of each run before it starts, with its place among all.

    Returns:
        The run folders by label, one a seed.

    Raises:
        ValueError: an unknown label, or a run below `out` that was made with other settings.
    """
    from equipoise.recipes.runs import continue_run, open_run, train

    every = [
        (label, _scaled(config, scale, out / f"seed-{seed}" / label))
        for seed in seeds
        for label, config in chosen.runs(seed, out / f"seed-{seed}").items()
    ]
    labels = list(dict.fromkeys(label for label, _ in every))
    unknown = [label for label in only if label not in labels]
    if unknown:
        raise ValueError(f"unknown run '{unknown[0]}'{nearest(unknown[0], labels)}; runs: {', '.join(labels)}")
    wanted = [(label, config) for label, config in every if not only or label in only]
    for place, (label, config) in enumerate(wanted, 1):
        path = _path(config)
        if (path / "config.yaml").exists():
            _require_same(config)
        if not (path / "DONE").exists():
            begin(f"run {place} of {len(wanted)}, seed {config.seed}: {label}")
            if (path / "config.yaml").exists():
                continue_run(open_run(path))
            else:
                train(config)
        if chosen.judged:
            _judge(path)
        _write(chosen, every, out)
    return _write(chosen, every, out)


def _write(chosen: Experiment, every: Sequence[tuple[str, Training]], out: Path) -> dict[str, list[Path]]:
    """The table of all finished runs of these settings, chosen now or before; their folders by label."""
    found: dict[str, list[Path]] = {}
    for label, config in every:
        if (_path(config) / "DONE").exists() and _differing(config) is None:
            found.setdefault(label, []).append(_path(config))
    write_table(
        found,
        out,
        figures=chosen.figures,
        compared=chosen.compared,
        published=chosen.published,
        derived=chosen.derived,
    )
    if chosen.paired:
        from equipoise.recipes.antibody_experiments import write_paired

        write_paired(found, out)
    return found


def _judged(built: Any) -> Mapping[str, Any]:
    """The figures, with those of each condition where the task has them."""
    return built.judged() if hasattr(built, "judged") else built.evaluate()


def _judge(path: Path) -> None:
    """Keeps what the task says of a finished run at the end, once."""
    from equipoise.recipes.runs import open_run
    from equipoise.training.folder import write_whole

    if not (path / EVALUATION).exists():
        write_whole(path / EVALUATION, (json.dumps(_judged(open_run(path).built)) + "\n").encode())


def _scaled(config: Training, scale: float, out: Path) -> Training:
    steps = max(1, round(config.steps * scale))
    return dataclasses.replace(config, steps=steps, every=min(config.every, steps), out=out).resolved()


def _path(config: Training) -> Path:
    assert config.out is not None
    return config.out


def _differing(config: Training) -> tuple[str, object] | None:
    """The first setting in which the run in the configuration's folder differs from it, and what it was there."""
    from equipoise.recipes.runs import read_config

    stored = read_config(_path(config))[1]
    for entry in dataclasses.fields(config):
        held = getattr(stored, entry.name, None)
        if entry.name not in ("out", "prior") and held != getattr(config, entry.name):
            return entry.name, held
    return None


def _require_same(config: Training) -> None:
    found = _differing(config)
    if found is not None:
        name, held = found
        raise ValueError(
            f"'{_path(config)}' was run with {name} {held}, not {getattr(config, name)}: give another --out, or the "
            "same settings"
        )
