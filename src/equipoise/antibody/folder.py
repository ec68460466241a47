"""Folders of complexes: read in the layouts that exist, prepared once, and loaded; what is malformed is listed.

Layouts: a prepared folder; the antibody benchmark's (`cases.tsv`, `complexes/ID_r.pdb.gz` and `ID_l.pdb.gz`); SAbDab's
(a summary table, and files by PDB id in the folder, in `chothia/` or `imgt/`, or in these of `all_structures/`); else
any structure files, with roles found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from equipoise.antibody.loops import Domain
from equipoise.antibody.residues import LOOPS
from equipoise.antibody.structures import (
    ANTIGEN,
    ENDINGS,
    Chain,
    Structure,
    assemble,
    from_blob,
    printed,
    read_chains,
    similarity,
    stem_and_ending,
    to_blob,
)
from equipoise.antibody.tables import rows_of

SIMILAR = 0.06
"""Share of common words of four letters from which two antigens are of one group."""


@dataclass(frozen=True)
class Prepared:
    """What a folder holds: complexes, and (where, reason) of each file, row or loop that is malformed."""

    structures: tuple[Structure, ...]
    malformed: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Entry:
    """One complex to be read: its name, its files, and the chains of a table."""

    name: str
    files: tuple[Path, ...]
    antibody: tuple[str, ...] | None = None
    antigen: tuple[str, ...] | None = None


def load(folder: Path) -> Prepared:
    """The complexes of a folder, prepared or not.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no complex in it, or a prepared file that cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder '{folder}': give one of complexes, such as 'equipoise antibody prepare' makes"
        )
    if not (folder / "complexes.tsv").is_file():
        return read_folder(folder)
    structures = [_prepared(path) for path in sorted((folder / "structures").glob("*.safetensors"))]
    if not structures:
        raise ValueError(f"'{folder}' is a prepared folder without complexes")
    return Prepared(tuple(structures), ())


def read_folder(
    folder: Path,
    report: Callable[[int, int], None] = lambda done, of: None,
    *,
    domain_of: Callable[[Chain], Domain | None] = printed,
) -> Prepared:
    """Reads every complex of a folder that is not prepared; nothing malformed stops it.

    Args:
        folder: in one of the layouts above.
        report: told how many are done, of how many.
        domain_of: finds a chain's variable domain, as in `structures.assemble`.

    Raises:
        ValueError: not one complex can be read.
    """
    entries, malformed = _distinct(folder, *_entries(folder))
    found: list[Structure] = []
    for place, entry in enumerate(entries, 1):
        structure, problems = read_entry(entry, domain_of)
        malformed += [(entry.name, problem) for problem in problems]
        if structure is not None:
            found.append(structure)
        report(place, len(entries))
    if not found:
        first = f"; the first of {len(malformed)} problems: {malformed[0][0]}: {malformed[0][1]}" if malformed else ""
        raise ValueError(f"'{folder}' holds no complex that can be read{first}")
    found.sort(key=lambda structure: structure.name)
    return Prepared(tuple(_grouped(found)), tuple(malformed))


def write_folder(prepared: Prepared, out: Path) -> None:
    """Writes `structures/`, `complexes.tsv` and `malformed.tsv`.

    Raises:
        FileExistsError: the folder is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"'{out}' is not empty and is never overwritten: give another --out")
    (out / "structures").mkdir(parents=True)
    for structure in prepared.structures:
        (out / "structures" / f"{structure.name}.safetensors").write_bytes(to_blob(structure))
    lines = ["\t".join(("complex", "heavy", "light", "antigen", "antigen_group", "antigen_residues", *LOOPS))]
    lines += [_row(structure) for structure in prepared.structures]
    (out / "complexes.tsv").write_text("\n".join(lines) + "\n")
    problems = ["\t".join((where, " ".join(reason.split()))) for where, reason in prepared.malformed]
    (out / "malformed.tsv").write_text("\n".join(["where\treason", *problems]) + "\n")


def read_entry(
    entry: Entry, domain_of: Callable[[Chain], Domain | None] = printed
) -> tuple[Structure | None, list[str]]:
    """One complex, or None; and what is malformed of it."""
    if not entry.files:
        return None, ["the table has a row for it, and there are no files"]
    try:
        chains = [chain for path in entry.files for chain in read_chains(path)]
        structure, problems = assemble(
            entry.name, chains, antibody=entry.antibody, antigen=entry.antigen, domain_of=domain_of
        )
    except (ValueError, OSError, EOFError, IndexError) as error:
        return None, [str(error)]
    if not structure.loops:
        return None, [*problems, "no loop can be designed"]
    return structure, problems


def read_file(path: Path) -> Structure:
    """The complex of one file, its roles found: what `equipoise sample --complex` is given.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be used; the reason.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file '{path}': give a complex as PDB or mmCIF")
    if path.suffix == ".safetensors":
        return _prepared(path)
    structure, problems = read_entry(Entry(stem_and_ending(path)[0], (path,)))
    if structure is None:
        raise ValueError(f"'{path}': {'; '.join(problems)}")
    return structure


def _prepared(path: Path) -> Structure:
    try:
        return from_blob(path.read_bytes())
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' cannot be read: {error}") from error


def _entries(folder: Path) -> tuple[list[Entry], list[tuple[str, str]]]:
    if (folder / "cases.tsv").is_file():
        return _benchmark(folder)
    tables = sorted(path for path in folder.glob("*summary*") if path.suffix in (".tsv", ".csv"))
    if tables:
        return _summary(folder, tables[0])
    return [Entry(stem_and_ending(path)[0], (path,)) for path in _files(folder)], []


def _distinct(
    folder: Path, entries: Sequence[Entry], malformed: Sequence[tuple[str, str]]
) -> tuple[list[Entry], list[tuple[str, str]]]:
    """The first entry of each name: a later one would be written over it."""
    first = {entry.name: entry for entry in reversed(entries)}
    later = [entry for entry in entries if entry is not first[entry.name]]
    where = [", ".join(str(path.relative_to(folder)) for path in entry.files) or entry.name for entry in later]
    told = [(place, f"an earlier one has its name, {entry.name}") for place, entry in zip(where, later, strict=True)]
    return [entry for entry in entries if entry is first[entry.name]], [*malformed, *told]


def _benchmark(folder: Path) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Rows such as `1AHW_AB:C`: chains of the antibody and of the antigen."""
    entries, malformed = [], []
    for number, row in _rows(folder / "cases.tsv"):
        said = row.get("Complex PDB", "").strip()
        match = re.fullmatch(r"(\w{4})_(\w+):(\w+)", said)
        if match is None:
            malformed.append((f"cases.tsv, line {number}", f"'{said}' is not of the form 1AHW_AB:C"))
            continue
        name, antibody, antigen = match.groups()
        pairs = [sorted((folder / "complexes").glob(f"{name}_{side}.*")) for side in "rl"]
        files = tuple(found[0] for found in pairs if found)
        entries.append(Entry(name, files if len(files) == 2 else (), tuple(antibody), tuple(antigen)))
    return entries, malformed


def _summary(folder: Path, table: Path) -> tuple[list[Entry], list[tuple[str, str]]]:
    """SAbDab's columns: pdb, Hchain, Lchain, antigen_chain (several with | between)."""
    files = {stem_and_ending(path)[0].lower(): path for path in reversed(_files(folder))}
    entries, malformed, seen = [], [], set[str]()
    for number, row in _rows(table):
        where = f"{table.name}, line {number}"
        name = row.get("pdb", "").strip()
        antibody = tuple(chain for key in ("Hchain", "Lchain") for chain in _chains(row.get(key)))
        kinds, antigen = _chains(row.get("antigen_type")), _chains(row.get("antigen_chain"))
        designed = tuple(kind in ("protein", "peptide") for kind in kinds) or (True,)
        if any(designed) and len(designed) == len(antigen):  # what else is bound has no backbone
            antigen = tuple(chain for chain, kept in zip(antigen, designed, strict=True) if kept)
        if not name or not antibody:
            malformed.append((where, "it names no pdb, or neither Hchain nor Lchain"))
        elif not antigen:
            malformed.append((where, f"{name} has no antigen chain"))
        elif not any(designed):
            malformed.append((where, f"the antigen of {name} is {' and '.join(kinds)}, not protein"))
        else:
            label = f"{name}_{''.join(antibody)}"
            if label in seen:
                malformed.append((where, f"{label} is named twice"))
                continue
            seen.add(label)
            path = files.get(name.lower())
            entries.append(Entry(label, () if path is None else (path,), antibody, antigen))
    return entries, malformed


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    lines = rows_of(table)
    _, names = next(lines, (0, []))
    for number, cells in lines:
        yield number, dict(zip(names, cells, strict=False))


def _chains(said: str | None) -> tuple[str, ...]:
    names = [name.strip() for name in (said or "").split("|")]
    return tuple(name for name in names if name and name.upper() not in ("NA", "NONE"))


def _files(folder: Path) -> list[Path]:
    roots = [folder, folder / "all_structures"]
    places = [folder, *(root / scheme for root in roots for scheme in ("chothia", "imgt"))]
    found = [path for place in places if place.is_dir() for path in sorted(place.iterdir())]
    return [path for path in found if path.is_file() and stem_and_ending(path)[1] in ENDINGS]


def _grouped(structures: Sequence[Structure]) -> Iterator[Structure]:
    """Each with the id of its antigen's group: linked, one to another, by sequences that are alike."""
    sequences = [structure.sequence(ANTIGEN) for structure in structures]
    group = list(range(len(structures)))
    for one in range(len(sequences)):
        for other in range(one):
            if group[one] != group[other] and similarity(sequences[one], sequences[other]) >= SIMILAR:
                old, new = max(group[one], group[other]), min(group[one], group[other])
                group = [new if held == old else held for held in group]
    return (replace(structure, antigen=held) for structure, held in zip(structures, group, strict=True))


def _row(structure: Structure) -> str:
    roles = [
        ",".join(
            name
            for place, name in enumerate(structure.chains)
            if int(structure.role[structure.chain == place][0]) == role
        )
        for role in range(3)
    ]
    loops = [structure.loop_text(loop) if loop in structure.loops else "-" for loop in LOOPS]
    size = str(int((structure.role == ANTIGEN).sum()))
    return "\t".join([structure.name, *(role or "-" for role in roles), str(structure.antigen), size, *loops])
