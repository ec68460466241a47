"""Designs as PDB files: the complex's backbone, with the loop's residues ideal in their frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import ascii_letters

from torch import Tensor

from equipoise.antibody.geometry import backbone, frames
from equipoise.antibody.patches import Patches
from equipoise.antibody.residues import IDEAL, LETTERS, LOOPS, NAMES, SCALE
from equipoise.antibody.structures import Structure

SPARE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def pdb_text(structure: Structure, loop: str, patches: Patches, row: int, design: Mapping[str, Tensor]) -> str:
    """One design in its complex, as the text of a PDB file: N, CA, C, O and CB of every residue.

    Atoms beyond N, CA and C of the residues around the loop are ideal too; side chains are left to a packing program.

    Args:
        structure: the complex.
        loop: which was designed.
        patches: of the complex.
        row: of its patch.
        design: letter (m,), position (m, 3), rotation (m, 3, 3), from the sampler.
    """
    start, end = structure.loops[loop]
    size = end - start
    letters, atoms = structure.letters.clone(), structure.atoms
    rotation, position = frames(atoms[:, 0], atoms[:, 1], atoms[:, 2]), atoms[:, 1].clone()
    letters[start:end] = design["letter"][:size]
    rotation[start:end] = design["rotation"][:size]
    position[start:end] = SCALE * design["position"][:size] + patches.centre[row]
    lines, serial = [f"REMARK   1 {structure.name}, {loop} designed; backbone alone, ideal in the loop"], 0
    for place, name in enumerate(_chain_names(structure)):
        rows = (structure.chain == place).nonzero()[:, 0]
        built = backbone(rotation[rows], position[rows])
        for line, number in enumerate(rows.tolist()):
            if not start <= number < end:
                built[line, :3] = atoms[number]
            letter = int(letters[number])
            residue = NAMES[LETTERS[letter]] if letter < len(LETTERS) else "UNK"
            for atom, where in zip(IDEAL, built[line].tolist(), strict=True):
                if atom == "CB" and residue in ("GLY", "UNK"):
                    continue
                serial += 1
                lines.append(_line(serial, atom, residue, name, structure.numbers[number], where))
        lines.append("TER")
    return "\n".join([*lines, "END", ""])


def write_designs(
    structure: Structure, patches: Patches, row: int, objects: Mapping[str, Tensor], out: Path
) -> list[Path]:
    """Writes each of n designs of one patch as `out`/COMPLEX_LOOP_0001.pdb.

    Raises:
        FileExistsError: the folder is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"'{out}' is not empty and is never overwritten: give another --out")
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(len(objects["letter"])):
        design = {name: value[number] for name, value in objects.items()}
        path = out / f"{patches.names[row]}_{number + 1:04d}.pdb"
        path.write_text(pdb_text(structure, LOOPS[int(patches.loop[row])], patches, row, design))
        paths.append(path)
    return paths


def _chain_names(structure: Structure) -> list[str]:
    """One letter each, as PDB files have it: the chain's own where it is one and free."""
    used: list[str] = []
    for name in structure.chains:
        own = name if len(name) == 1 and name not in used else next(letter for letter in SPARE if letter not in used)
        used.append(own)
    return used


def _line(serial: int, atom: str, residue: str, chain: str, number: str, where: list[float]) -> str:
    digits = number.rstrip(ascii_letters)
    insertion = number[len(digits) :][:1] or " "
    x, y, z = where
    return (
        f"ATOM  {serial % 100_000:5d}  {atom:<3s} {residue:>3s} {chain}{int(digits):4d}{insertion}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {atom[0]:>2s}  "
    )
