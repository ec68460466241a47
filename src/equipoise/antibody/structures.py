"""Structures of complexes: PDB and mmCIF files, gzipped or not, to backbones with chain roles and marked loops."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.antibody.loops import Domain, find_role, loops_of
from equipoise.antibody.residues import LOOPS, numbers_of, text_of
from equipoise.trajectories import from_bytes, to_bytes

HEAVY, LIGHT, ANTIGEN = 0, 1, 2
ROLES = ("heavy", "light", "antigen")
ENDINGS = (".pdb", ".ent", ".cif", ".mmcif")
BOND = 4.5
"""Distance of neighbouring CA, angstrom, beyond which residues are missing between them."""

NEAR = 15.0
"""Distance of their nearest CA, angstrom, within which a heavy and a light chain are of one antibody."""

APART = 0.5
"""Distance of bonded atoms, angstrom, below which a residue's coordinates are no such."""


@dataclass(frozen=True)
class Chain:
    """One chain: its name, letters, backbone (residues, 3, 3) of N, CA, C in angstrom, and residue numbers as
    printed."""

    name: str
    letters: str
    atoms: Tensor
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Structure:
    """A complex of an antibody's variable domains with its antigen.

    Attributes:
        name: of the complex.
        letters: (residues,) int64.
        atoms: N, CA and C, (residues, 3, 3), angstrom.
        chain: (residues,) int64, place in `chains`.
        role: (residues,) int64: heavy 0, light 1, antigen 2.
        chains: their names.
        numbers: of the residues, as printed in the file.
        loops: rows of each loop, first and one beyond the last.
        antigen: id of the group of similar antigens, for splits; -1: not yet known.
    """

    name: str
    letters: Tensor
    atoms: Tensor
    chain: Tensor
    role: Tensor
    chains: tuple[str, ...]
    numbers: tuple[str, ...]
    loops: dict[str, tuple[int, int]]
    antigen: int = -1

    def sequence(self, role: int) -> str:
        """The letters of a role's chains, one after another."""
        return text_of(self.letters[self.role == role])

    def loop_text(self, loop: str) -> str:
        """A loop's letters."""
        start, end = self.loops[loop]
        return text_of(self.letters[start:end])


def read_chains(path: Path) -> list[Chain]:
    """The protein chains of a file's first model; residues that lack N, CA or C are left out.

    Raises:
        ValueError: not a structure, or no residue with a whole backbone.
        ImportError: gemmi is not installed.
    """
    gemmi = _gemmi()
    try:
        structure = _opened(gemmi, path)
    except (RuntimeError, ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"'{path.name}' cannot be read: {' '.join(str(error).split())}") from error
    structure.remove_alternative_conformations()
    structure.setup_entities()
    chains = [] if not len(structure) else [_chain(gemmi, chain) for chain in structure[0]]
    kept = [chain for chain in chains if chain.letters]
    if not kept:
        raise ValueError(f"'{path.name}' holds no residue with N, CA and C")
    return kept


def stem_and_ending(path: Path) -> tuple[str, str]:
    """A structure file's name without its endings, and its ending in small letters, gzipped or not.

    Example:
        >>> stem_and_ending(Path("1VFB.PDB.gz"))
        ('1VFB', '.pdb')
    """
    name = Path(path.stem if path.suffix.lower() == ".gz" else path.name)
    return name.stem, name.suffix.lower()


def printed(chain: Chain) -> Domain | None:
    """A chain's variable domain by its printed numbers or its conserved residues; None where it has no motifs."""
    role = find_role(chain.letters)
    return None if role is None else loops_of(chain.letters, chain.numbers, role)


def assemble(
    name: str,
    chains: Sequence[Chain],
    *,
    antibody: Iterable[str] | None = None,
    antigen: Iterable[str] | None = None,
    domain_of: Callable[[Chain], Domain | None] = printed,
) -> tuple[Structure, list[str]]:
    """A complex of chains, its roles from names or found, and the loops that could not be used, with reasons.

    Args:
        name: of the complex.
        chains: of its files.
        antibody: names of the antibody's chains; None: the first with a variable domain, and the one beside it.
        antigen: names of the antigen's; None: all others.
        domain_of: finds a chain's variable domain: `printed`, or `equipoise.antibody.numbering.predicted`.

    Raises:
        ValueError: a chain that is named and not there, no antibody chain with a variable domain, or no antigen.
    """
    by_name: dict[str, Chain] = {}
    for chain in chains:
        by_name.setdefault(chain.name, chain)
    wanted = None if antibody is None else _named(by_name, antibody)
    every = [(chain, domain_of(chain)) for chain in (by_name.values() if wanted is None else wanted)]
    found = [(chain, domain) for chain, domain in every if domain is not None]
    domains, unused = _paired(found) if wanted is None else _firsts(found)
    if wanted is not None:
        unused += [
            f"chain {chain.name} has no variable domain and is left out" for chain, domain in every if not domain
        ]
    if not domains:
        given = "no chain" if wanted is None else f"none of the chains {', '.join(chain.name for chain in wanted)}"
        raise ValueError(f"{given} has a variable domain (by motifs: C..W..C..[WF]G.G)")
    taken_names = {chain.name for chain, _ in domains} | set(() if antibody is None else antibody)
    others = by_name.values() if antigen is None else _named(by_name, antigen)
    partner = [chain for chain in others if chain.name not in taken_names]
    if antigen is None:  # a second copy of the antibody in the file is no antigen
        partner = [chain for chain in partner if domain_of(chain) is None]
    if not partner:
        raise ValueError("no antigen chain with residues")
    domains.sort(key=lambda entry: entry[1].role)
    structure, problems = _joined(name, domains, partner)
    return structure, [*unused, *problems]


def to_blob(structure: Structure) -> bytes:
    """A structure as one safetensors blob."""
    return to_bytes({key: _plain(value) for key, value in vars(structure).items()})


def from_blob(blob: bytes) -> Structure:
    """The structure that `to_blob` wrote.

    Raises:
        ValueError: another format.
    """
    tree: Any = from_bytes(blob)
    if not isinstance(tree, dict) or "loops" not in tree:
        raise ValueError("no prepared complex: make one with 'equipoise antibody prepare'")
    tree["loops"] = {loop: tuple(rows) for loop, rows in tree["loops"].items()}
    return Structure(**tree)


def similarity(first: str, second: str) -> float:
    """Share of the words of four letters of the shorter sequence that the other has too, 0 to 1.

    Unrelated proteins share about 0.01; those of which half of the residues are equal, 0.06 and more.

    Example:
        >>> similarity("ACDEFG", "ACDEFG"), similarity("ACDEFG", "GFEDCA")
        (1.0, 0.0)
    """
    words = [{text[place : place + 4] for place in range(len(text) - 3)} for text in (first, second)]
    least = min(map(len, words))
    return len(words[0] & words[1]) / least if least else 0.0


def _opened(gemmi: Any, path: Path) -> Any:
    try:
        return gemmi.read_structure(str(path))
    except (RuntimeError, ValueError):
        if stem_and_ending(path)[1] not in (".pdb", ".ent"):
            raise
    # Old files have the entry's name and a line number from column 73 on, where element and charge stand today.
    blob = path.read_bytes()
    text = (gzip.decompress(blob) if path.suffix.lower() == ".gz" else blob).decode("latin-1")
    lines = [line[:66] if line.startswith(("ATOM", "HETATM")) else line[:72] for line in text.splitlines()]
    return gemmi.read_pdb_string("\n".join(lines))


def _chain(gemmi: Any, chain: Any) -> Chain:
    letters, atoms, numbers = [], [], []
    for residue in chain:
        found = [residue.find_atom(name, "*") for name in ("N", "CA", "C")]
        known = gemmi.find_tabulated_residue(residue.name)
        if not all(found) or not known.is_amino_acid():
            continue
        letters.append(known.one_letter_code.upper())
        atoms.append([[atom.pos.x, atom.pos.y, atom.pos.z] for atom in found])
        numbers.append(str(residue.seqid))
    return Chain(chain.name, "".join(letters), torch.tensor(atoms).view(-1, 3, 3), tuple(numbers))


def _named(chains: Mapping[str, Chain], names: Iterable[str]) -> list[Chain]:
    names = tuple(dict.fromkeys(names))
    missing = [name for name in names if name not in chains]
    if missing:
        raise ValueError(f"no chain '{missing[0]}' with a whole backbone; there are {', '.join(chains)}")
    return [chains[name] for name in names]


def _firsts(found: Sequence[tuple[Chain, Domain]]) -> tuple[list[tuple[Chain, Domain]], list[str]]:
    """Of chains that were named, the first of each role; and what is said of the others."""
    first = {domain.role: chain for chain, domain in reversed(found)}
    unused = [
        f"chain {chain.name} is one more {'heavy' if domain.role == 'H' else 'light'} chain than "
        f"{first[domain.role].name} and is left out"
        for chain, domain in found
        if chain is not first[domain.role]
    ]
    return [entry for entry in found if entry[0] is first[entry[1].role]], unused


def _paired(found: Sequence[tuple[Chain, Domain]]) -> tuple[list[tuple[Chain, Domain]], list[str]]:
    """Of chains that were found, the first, and the nearest of the other role that touches it: files hold copies."""

    def apart(entry: tuple[Chain, Domain]) -> float:
        first, other = (chain.atoms[: domain.end, 1] for chain, domain in (found[0], entry))
        return float(torch.cdist(first, other).nan_to_num(0.0).min())

    others = [entry for entry in found[1:] if entry[1].role != found[0][1].role]
    return [*found[:1], *(entry for entry in sorted(others, key=apart)[:1] if apart(entry) <= NEAR)], []


def _joined(
    name: str, antibody: Sequence[tuple[Chain, Domain]], antigen: Sequence[Chain]
) -> tuple[Structure, list[str]]:
    parts = [(chain, HEAVY if domain.role == "H" else LIGHT, domain.end) for chain, domain in antibody]
    parts += [(chain, ANTIGEN, len(chain.letters)) for chain in antigen]
    atoms = torch.cat([chain.atoms[:end] for chain, _, end in parts])
    if not bool(torch.isfinite(atoms).all()):
        raise ValueError("a coordinate is not finite")
    if float((atoms[:, ::2] - atoms[:, 1:2]).norm(dim=-1).min()) < APART:
        raise ValueError(f"a residue's N, CA and C are less than {APART} angstrom apart: its coordinates are missing")
    loops, problems, first = {}, [], 0
    for chain, domain in antibody:
        for loop, (start, stop) in domain.loops.items():
            reason = _broken(chain, start, stop, domain.end)
            if reason is None:
                loops[loop] = (first + start, first + stop)
            else:
                problems.append(f"{loop}: {reason}")
        missing = [loop for loop in LOOPS if loop[0] == domain.role and loop not in domain.loops]
        problems += [f"{loop}: it was not found where the conserved residues have it" for loop in missing]
        first += domain.end
    structure = Structure(
        name=name,
        letters=torch.cat([numbers_of(chain.letters[:end]) for chain, _, end in parts]),
        atoms=atoms,
        chain=torch.cat([torch.full((end,), place) for place, (_, _, end) in enumerate(parts)]),
        role=torch.cat([torch.full((end,), role) for _, role, end in parts]),
        chains=tuple(chain.name for chain, _, _ in parts),
        numbers=tuple(number for chain, _, end in parts for number in chain.numbers[:end]),
        loops=loops,
    )
    return structure, problems


def _broken(chain: Chain, start: int, end: int, residues: int) -> str | None:
    """Why a loop cannot be designed; None where it can."""
    if start < 1 or end >= residues:
        return "it has no residue on one side"
    if "X" in chain.letters[start:end]:
        return "it has a residue that is none of the 20"
    steps = chain.atoms[start - 1 : end + 1, 1].diff(dim=0).norm(dim=-1)
    if float(steps.max()) > BOND:
        place = start - 1 + int(steps.argmax())
        return (
            f"residues are missing between {chain.numbers[place]} and {chain.numbers[place + 1]} "
            f"(CA {float(steps.max()):.1f} angstrom apart)"
        )
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: list(rows) for key, rows in value.items()}
    return value


def _gemmi() -> Any:
    try:
        import gemmi
    except ImportError as error:
        raise ImportError("reading PDB and mmCIF files needs gemmi: pip install 'equipoise[antibody]'") from error
    return gemmi
