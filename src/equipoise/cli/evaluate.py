"""`equipoise evaluate`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from equipoise.cli.flags import parse
from equipoise.cli.messages import warn


@dataclass(frozen=True)
class Evaluate:
    """Judges a run's sampler, at its last checkpoint, against its target: exactly, where the space can be listed."""

    run: Annotated[Path, tyro.conf.Positional]
    """run folder"""
    data: Path | None = None
    """antibody runs: a folder of complexes, which need not have been seen (default: those held out)"""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print one JSON object"""


def evaluate(words: list[str]) -> int:
    """`equipoise evaluate RUN [--data DIR] [--json]`."""
    chosen = parse(Evaluate, words, prog="equipoise evaluate")
    from equipoise.recipes.runs import open_run

    run = open_run(chosen.run)
    warn(run.warnings)
    figures = _own(run.built, chosen.json) if chosen.data is None else _on(run.built, chosen.data)
    if chosen.json:
        print(json.dumps(figures))
        return 0
    figures = {name: value for name, value in figures.items() if not isinstance(value, dict)}
    print(f"{chosen.run} at step {run.loop.step}")
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"  {name:<{width}}  {value:.6g}")
    return 0


def _own(built: Any, each: bool) -> dict[str, Any]:
    """The run's own figures, with those of each complex for a task that has them."""
    return built.judged() if each and hasattr(built, "judged") else built.evaluate()


def _on(built: Any, folder: Path) -> dict[str, Any]:
    """Figures on other data than the run's, with those of each complex."""
    judged_on = getattr(built, "judged_on", None)
    if judged_on is None:
        raise ValueError("--data is for runs of the antibody task: this run is judged on its own target")
    return judged_on(folder)
