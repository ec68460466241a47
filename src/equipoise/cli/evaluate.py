"""`equipoise evaluate`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from equipoise.cli.flags import parse
from equipoise.cli.messages import warn


@dataclass(frozen=True)
class Evaluate:
    """Judges a run's sampler, at its last checkpoint, against its target: exactly, where the space can be listed."""

    run: Annotated[Path, tyro.conf.Positional]
    """run folder"""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """print one JSON object"""


def evaluate(words: list[str]) -> int:
    """`equipoise evaluate RUN [--json]`."""
    chosen = parse(Evaluate, words, prog="equipoise evaluate")
    from equipoise.recipes.runs import open_run

    run = open_run(chosen.run)
    warn(run.warnings)
    figures = run.built.evaluate()
    if chosen.json:
        print(json.dumps(figures))
        return 0
    print(f"{chosen.run} at step {run.loop.step}")
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"  {name:<{width}}  {value:.6g}")
    return 0
