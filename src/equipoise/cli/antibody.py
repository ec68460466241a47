"""`equipoise antibody prepare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from equipoise.cli.flags import UsageError, parse
from equipoise.recipes.mappings import nearest


@dataclass(frozen=True)
class Prepare:
    """Reads a folder of complexes once: backbones, chain roles, loops. What is malformed is listed, and stops nothing.

    Layouts: the antibody benchmark's (cases.tsv and complexes/), SAbDab's (a summary table and files), or any PDB and
    mmCIF files, whose chain roles are found.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """folder of complexes"""
    out: Path
    """folder to write: structures/, complexes.tsv and malformed.tsv"""
    numbering: Literal["printed", "anarcii"] = "printed"
    """loops by the file's Chothia numbers, else by conserved residues; or by ANARCII, a sequence model (an extra)"""


def antibody(words: list[str]) -> int:
    """`equipoise antibody prepare DIR --out DIR`."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: equipoise antibody prepare DIR --out DIR\n\nTry 'equipoise antibody prepare --help'.")
        return 0
    if words[0] != "prepare":
        raise UsageError(f"unknown command 'antibody {words[0]}'{nearest(words[0], ['prepare'])}; known: prepare")
    chosen = parse(Prepare, words[1:], prog="equipoise antibody prepare")
    from equipoise.antibody.folder import read_folder, write_folder
    from equipoise.antibody.numbering import predicted
    from equipoise.antibody.structures import printed
    from equipoise.training.folder import require_free

    if not chosen.folder.is_dir():
        raise FileNotFoundError(f"no folder '{chosen.folder}'")
    require_free(chosen.out)
    with tqdm(unit="complex", disable=None, dynamic_ncols=True) as bar:

        def report(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        prepared = read_folder(chosen.folder, report, domain_of=predicted if chosen.numbering == "anarcii" else printed)
    write_folder(prepared, chosen.out)
    for where, reason in prepared.malformed:
        print(f"{where}: {reason}")
    loops = sum(len(structure.loops) for structure in prepared.structures)
    print(
        f"{chosen.out}: {len(prepared.structures)} complexes with {loops} loops; {len(prepared.malformed)} malformed, "
        f"listed in {chosen.out / 'malformed.tsv'}"
    )
    return 0
