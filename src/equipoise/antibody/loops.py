"""Where a variable domain's loops (CDRs) lie: from Chothia numbers, else from the conserved residues around them.

Chothia numbers, as most uses of residue-frame models have them: H1 26-32, H2 52-56, H3 95-102, L1 24-34, L2 50-56, L3
89-97. A file counts as numbered so where the conserved residues have the numbers that they should. Otherwise the loops
are counted off from the two cysteines, the tryptophan between them and the [WF]G.G that follows: exact where the
framework has its usual length.

Source: Al-Lazikani, Lesk and Chothia, 1997, "Standard conformations for the canonical structures of immunoglobulins",
J. Mol. Biol. 273.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOTIFS = {
    "H": re.compile(r"C(?P<first>.{8,22})W(?=.[RKQLH][QKHELR])(?P<middle>.{45,80}?)C(?P<last>.{3,34}?)W[GSAR].G"),
    "L": re.compile(r"C(?P<first>.{8,22})W(?=.[RKQLH][QKHELR])(?P<middle>.{40,70}?)C(?P<last>.{4,20}?)FG.G"),
}
"""A variable domain: cysteine, tryptophan, cysteine, and the start of the last strand."""

RANGES = {"H1": (26, 32), "H2": (52, 56), "H3": (95, 102), "L1": (24, 34), "L2": (50, 56), "L3": (89, 97)}
LANDMARKS = {"H": {22: "C", 36: "W", 92: "C", 103: "W", 104: "G"}, "L": {23: "C", 35: "W", 88: "C", 98: "F", 99: "G"}}
LENGTHS = {"H1": (3, 14), "H2": (3, 10), "H3": (1, 32), "L1": (5, 20), "L2": (7, 7), "L3": (4, 20)}
"""Residues that a loop which was counted off may have: fewer or more, and the framework was not the usual one."""

LAST = {"H": 113, "L": 107}
TAIL = {"H": 11, "L": 10}
"""Residues of the last strand, from its W or F on: what follows is the constant domain."""


def find_role(letters: str) -> str | None:
    """'H' or 'L' of a chain with a variable domain, else None.

    Example:
        >>> find_role("ACDEFGHIK") is None
        True
    """
    places = {role: match.start() for role, motif in MOTIFS.items() if (match := motif.search(letters))}
    return min(places, key=lambda role: places[role]) if places else None


@dataclass(frozen=True)
class Domain:
    """A variable domain of a chain.

    Attributes:
        role: 'H' or 'L'.
        loops: first residue and one beyond the last, counted from 0, of each loop that was found.
        end: one beyond the domain's last residue.
    """

    role: str
    loops: Mapping[str, tuple[int, int]]
    end: int


def loops_of(letters: str, numbers: Sequence[str], role: str) -> Domain:
    """The loops of a variable domain, and where it ends.

    Args:
        letters: of the chain.
        numbers: of its residues as printed, such as '100A'.
        role: 'H' or 'L'.

    Raises:
        ValueError: neither numbers nor motifs of a variable domain.
    """
    whole = [int(re.sub(r"\D+$", "", number) or 0) for number in numbers]
    # Kabat's numbers have the same landmarks, and insertions of H1 after 35, where Chothia's have none.
    if _numbered(letters, whole, role) and not (role == "H" and "35A" in (number.upper() for number in numbers)):
        return numbered(whole, role)
    match = MOTIFS[role].search(letters)
    if match is None:
        raise ValueError(f"no variable domain of the {'heavy' if role == 'H' else 'light'} chain was found")
    found = _counted(match, role)
    found = {loop: rows for loop, rows in found.items() if LENGTHS[loop][0] <= rows[1] - rows[0] <= LENGTHS[loop][1]}
    return Domain(role, found, min(match.end("last") + TAIL[role], len(letters)))


def numbered(numbers: Sequence[int], role: str) -> Domain:
    """The domain of a chain whose residues have these Chothia numbers; 0 for a residue that has none.

    Example:
        >>> numbered([94, 95, 96, 102, 103], "H").loops
        {'H3': (1, 4)}
    """
    found = {}
    for loop, (first, last) in RANGES.items():
        rows = [row for row, number in enumerate(numbers) if first <= number <= last]
        # A file may number other chains' copies, or a tail, with the same numbers again: the first run counts.
        if loop[0] == role and rows:
            run = next((place for place, row in enumerate(rows) if row != rows[0] + place), len(rows))
            found[loop] = (rows[0], rows[0] + run)
    # A tag before the domain may have numbers beyond its last.
    begin = max((rows[0] for rows in found.values()), default=0)
    after = (row for row in range(begin, len(numbers)) if numbers[row] > LAST[role])
    return Domain(role, found, next(after, len(numbers)))


def _numbered(letters: str, numbers: Sequence[int], role: str) -> bool:
    at: dict[int, str] = {}
    for letter, number in zip(letters, numbers, strict=True):
        at.setdefault(number, letter)
    return all(at.get(number) == letter for number, letter in LANDMARKS[role].items())


def _counted(match: re.Match[str], role: str) -> dict[str, tuple[int, int]]:
    """Counted off from cysteine 22 or 23, tryptophan 36 or 35, cysteine 92 or 88 and W103 or F98."""
    cysteine, tryptophan, second, end = match.start(), match.end("first"), match.end("middle"), match.end("last")
    if role == "H":
        # From 57 to the second cysteine, 92, there are 36 numbers and the three insertions 82A, 82B and 82C.
        ranges = {"H1": (cysteine + 4, tryptophan - 3), "H2": (tryptophan + 16, second - 38), "H3": (second + 3, end)}
    else:
        ranges = {"L1": (cysteine + 1, tryptophan), "L2": (tryptophan + 15, tryptophan + 22), "L3": (second + 1, end)}
    return ranges
