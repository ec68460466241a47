"""`equipoise sample`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from equipoise.cli.flags import parse
from equipoise.cli.messages import warn


@dataclass(frozen=True)
class Sample:
    """Draws objects from a run's sampler: one a line, with log R and the sampler's own log-probability (nats)."""

    run: Annotated[Path, tyro.conf.Positional]
    """run folder"""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 10
    """how many"""
    seed: int = 0
    """of the draw"""
    out: Path | None = None
    """file to write (default: the terminal); of molecules also .csv, .smi, .sdf; of designs, the folder of PDB files"""
    complex: Path | None = None
    """antibody runs: a PDB or mmCIF file, or a prepared one, whose loops are designed"""


def sample(words: list[str]) -> int:
    """`equipoise sample RUN [--n N] [--seed S] [--out FILE] [--complex FILE]`."""
    chosen = parse(Sample, words, prog="equipoise sample")
    if chosen.n < 1 or chosen.seed < 0:
        raise ValueError(f"n is {chosen.n} and seed {chosen.seed}: at least one draw, and a seed not negative")
    if chosen.out is not None and chosen.out.exists():
        raise FileExistsError(f"'{chosen.out}' exists and is not overwritten: give another --out")
    from equipoise.recipes.runs import open_run
    from equipoise.training.folder import write_whole
    from equipoise.training.loop import generator

    run = open_run(chosen.run)
    warn(run.warnings)
    if chosen.complex is not None:
        print(_designs(run.built, chosen), end="")
        return 0
    formats = getattr(run.built, "formats", {})  # a task's own, by the file's ending
    write = formats.get(chosen.out.suffix if chosen.out else "", run.built.table)
    text = write(chosen.n, generator(chosen.seed, "sample"))
    if chosen.out is None:
        print(text, end="")
    else:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(chosen.out, text.encode())
        print(chosen.out)
    return 0


def _designs(built: Any, chosen: Sample) -> str:
    design = getattr(built, "design", None)
    if design is None:
        raise ValueError("--complex is for runs of the antibody task: this run draws objects of its own task alone")
    if chosen.out is None or chosen.complex is None:
        raise ValueError("designs are files: give a folder for them by --out")
    from equipoise.antibody.folder import read_file
    from equipoise.training.loop import generator

    return design(read_file(chosen.complex), chosen.n, generator(chosen.seed, "sample"), chosen.out)
