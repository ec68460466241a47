"""`equipoise reproduce`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from equipoise.cli.flags import UsageError, parse
from equipoise.cli.messages import warn
from equipoise.recipes.experiments import experiment, reproduce


@dataclass(frozen=True)
class Reproduce:
    """Runs a paper's comparison over seeds, and ends in one table and one figure. Run again, it goes on."""

    name: Annotated[str, tyro.conf.Positional]
    """of the experiment (equipoise list)"""
    out: Path | None = None
    """folder of the runs, table.md and the figure (default: runs/NAME)"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """each has runs of its own"""
    scale: float = 1.0
    """of every run's steps: below 1 for a quick look"""
    only: tuple[str, ...] = ()
    """runs to make, by their labels (default: all)"""


def command(words: list[str]) -> int:
    """`equipoise reproduce NAME [--out FOLDER] [--seeds ...] [--scale S] [--only ...]`."""
    chosen = parse(Reproduce, words, prog="equipoise reproduce")
    if not chosen.seeds or min(chosen.seeds) < 0 or not 0 < chosen.scale <= 100:
        raise UsageError(f"seeds {chosen.seeds}, scale {chosen.scale}: at least one seed, and a positive scale")
    wanted = experiment(chosen.name)
    out = chosen.out or Path("runs") / chosen.name
    print(f"{wanted.about}\n{wanted.source}", file=sys.stderr)

    def begin(run: str) -> None:
        print(run, file=sys.stderr, flush=True)

    found = reproduce(wanted, out, chosen.seeds, scale=chosen.scale, only=chosen.only, begin=begin)
    if wanted.curves:
        from equipoise.plots.curves import write_curves

        path = write_curves(found, out, wanted.curves)
    else:
        from equipoise.plots.comparison import write_comparison

        path, warnings = write_comparison(found, out)
        warn(warnings)
    print((out / "table.md").read_text(), end="")
    print(*([out / "table.md"] if path is None else [out / "table.md", path]), sep="\n")
    return 0
