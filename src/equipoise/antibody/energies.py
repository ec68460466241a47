"""Energies of designs, in parts: a stand-in built of residue contacts, clashes and broken chains; and a user's own.

The stand-in is there to train and compare samplers by. It is no affinity and predicts none: contacts by these
energies do not rank measured complexes (Spearman correlation -0.07 with 42 measured binding energies). An energy is
given to the library as log R = -E; the factor `beta` is the run's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from equipoise.antibody.geometry import frames, placed
from equipoise.antibody.patches import Patches
from equipoise.antibody.residues import KINDS, SCALE, contact_energies
from equipoise.antibody.structures import ANTIGEN, Structure
from equipoise.antibody.tables import rows_of
from equipoise.trajectories import Columns

CONTACT, SOFTNESS = 8.0, 0.5
"""Distance of CB, angstrom, at which a contact counts half, and over which it fades."""

NEAREST = {"CA": 3.9, "CB": 3.6}
"""Distances below which residues clash that are not neighbours, angstrom."""

BONDS = {"CA": 3.8, "peptide": 1.33}
"""CA to CA of neighbours, and C to N between them, angstrom."""

TOLERANCE = 0.4
"""Deviation, angstrom, that costs half an RT; beyond it the cost grows linearly, so that exp(-E) can be normalised."""

CHUNK = 256

Energy = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""(objects, rows of the patches (n,)) -> energies (n,)."""


class StandIn:
    """Contacts with the antigen, clashes and broken bonds of loops, in RT.

    contact = sum e(a_i, a_j) / (1 + exp((|CB_i - CB_j| - 8) / 0.5)) over residues of loop and antigen, with the
    energies of Miyazawa and Jernigan; clash and connectivity are Huber functions of distances that are too short, and
    of bonds that are not as long as they are. All contacts attract, so that they alone would draw a loop into the
    antigen: the other parts hold it back, and each is reported.

    Args:
        patches: the complexes.
        table: (21, 21) energies of contacts; None: those of Miyazawa and Jernigan.
        parts: which parts count.

    Example:
        >>> StandIn.names
        ('contact', 'clash', 'connectivity')
    """

    names = ("contact", "clash", "connectivity")

    def __init__(self, patches: Patches, *, table: Tensor | None = None, parts: Sequence[str] = names) -> None:
        self.patches, self.table = patches, contact_energies() if table is None else table
        self.counted = tuple(parts)

    def __call__(self, objects: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """The energies, (n,) float32."""
        found = self.parts(objects, rows)
        return torch.stack([found[name] for name in self.counted]).sum(0)

    def parts(self, objects: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Each part, (n,)."""
        pieces = [
            self._parts({name: value[piece] for name, value in objects.items()}, rows[piece])
            for piece in torch.arange(len(rows)).split(CHUNK)
        ]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in self.names}

    def _parts(self, objects: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        patches = self.patches
        most = int(patches.lengths[rows].max())
        inside = patches.designed[rows][:, :most]
        letter, position, rotation = (objects[name][:, :most] for name in ("letter", "position", "rotation"))
        own = {"CA": SCALE * position, "CB": placed(rotation, SCALE * position, "CB")}
        around, frame = SCALE * patches.position[rows], patches.rotation[rows]
        other = {"CA": around, "CB": placed(frame, around, "CB")}
        mask = patches.mask[rows]
        place = patches.first[rows][:, None] + torch.arange(most)
        beside = (place[:, :, None] - patches.place[rows][:, None]).abs() <= 1
        beside &= patches.chain[rows][:, None] == patches.loop_chain[rows][:, None, None]
        distance = torch.cdist(own["CB"], other["CB"])
        partner = inside[:, :, None] & (mask & (patches.role[rows] == ANTIGEN))[:, None]
        energy = self.table[letter[:, :, None], patches.letters[rows][:, None]]
        contact = (partner * energy * ((CONTACT - distance) / SOFTNESS).sigmoid()).sum((1, 2))
        clash = torch.zeros_like(contact)
        apart = (place[:, :, None] - place[:, None]).abs() > 1
        pairs = inside[:, :, None] & inside[:, None] & apart
        for name, least in NEAREST.items():
            short = huber((least - torch.cdist(own[name], other[name])).clamp(min=0) / TOLERANCE)
            clash = clash + (short * (inside[:, :, None] & mask[:, None] & ~beside)).sum((1, 2))
            short = huber((least - _apart(own[name])).clamp(min=0) / TOLERANCE)
            clash = clash + 0.5 * (short * pairs).sum((1, 2))
        return {"contact": contact, "clash": clash, "connectivity": self._bonds(position, rotation, rows)}

    def _bonds(self, position: Tensor, rotation: Tensor, rows: Tensor) -> Tensor:
        """Of the chain from the anchor before the loop to the one after it."""
        patches, total = self.patches, torch.zeros(len(rows))
        for row in rows.unique().tolist():
            own, size = (rows == row).nonzero()[:, 0], int(patches.lengths[row])
            first = int(patches.first[row])
            ends = [
                int((patches.mask[row] & (patches.place[row] == at)).nonzero()[0, 0])
                for at in (first - 1, first + size)
            ]
            chain = [patches.position[row, ends[0]].expand(len(own), 1, 3), position[own, :size]]
            ca = SCALE * torch.cat([*chain, patches.position[row, ends[1]].expand(len(own), 1, 3)], 1)
            turns = [patches.rotation[row, ends[0]].expand(len(own), 1, 3, 3), rotation[own, :size]]
            frame = torch.cat([*turns, patches.rotation[row, ends[1]].expand(len(own), 1, 3, 3)], 1)
            peptide = placed(frame, ca, "N")[:, 1:] - placed(frame, ca, "C")[:, :-1]
            for bond, name in ((ca.diff(dim=1), "CA"), (peptide, "peptide")):
                total[own] += huber((bond.norm(dim=-1) - BONDS[name]) / TOLERANCE).sum(1)
        return total


def huber(value: Tensor) -> Tensor:
    """Half the square to 1, then linear.

    Example:
        >>> huber(torch.tensor([-0.5, 3.0])).tolist()
        [0.125, 2.5]
    """
    size = value.abs()
    return torch.where(size < 1, 0.5 * size.square(), size - 0.5)


def quasi_chemical(structures: Sequence[Structure], *, weight: float = 20.0) -> Tensor:
    """(21, 21) contact energies of these structures' own statistics, in RT: the second energy, never the reward.

    -log of how often two residues touch (CB within 8 angstrom, not within three places of a chain) over how often they
    would if partners were drawn at random, with `weight` contacts of each pair as if by chance.

    Source: the quasi-chemical approximation of Miyazawa and Jernigan, 1985, Macromolecules 18.

    Args:
        structures: of training; those that are judged must not be among them.
        weight: pseudo-counts of a pair.

    Raises:
        ValueError: no structures.
    """
    if not structures:
        raise ValueError("a contact potential is fitted to structures: at least one was expected")
    counts = torch.zeros(KINDS + 1, KINDS + 1, dtype=torch.float64)
    for structure in structures:
        ca = structure.atoms[:, 1]
        cb = placed(frames(structure.atoms[:, 0], ca, structure.atoms[:, 2]), ca, "CB")
        place = torch.arange(len(cb))
        far = (place[:, None] - place > 3) | ((place[:, None] > place) & (structure.chain[:, None] != structure.chain))
        first, second = ((torch.cdist(cb, cb) < CONTACT) & far).nonzero(as_tuple=True)
        counts.index_put_(
            (structure.letters[first], structure.letters[second]), torch.ones((), dtype=torch.float64), True
        )
    counts = (counts + counts.T)[:KINDS, :KINDS]
    share = counts.sum(1) / counts.sum()
    expected = counts.sum() * share[:, None] * share
    table = torch.zeros(KINDS + 1, KINDS + 1)
    table[:KINDS, :KINDS] = -((counts + weight) / (expected + weight)).log().float()
    return table


def read_table(path: Path) -> dict[str, float]:
    """A user's energies by complex: two columns, name and energy, tab-separated or by commas, header or not.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that has no finite number, or a complex named twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table '{path}': give a file of complex and energy, one a line")
    found: dict[str, float] = {}
    for number, cells in rows_of(path):
        if not any(cells) or cells[0].startswith("#"):
            continue
        try:
            value = float(cells[1])
        except (ValueError, IndexError):
            if number == 1:
                continue  # a header
            raise ValueError(f"'{path}', line {number}: complex and energy were expected, not {cells}") from None
        if cells[0] in found or not torch.isfinite(torch.tensor(value)):
            raise ValueError(f"'{path}', line {number}: '{cells[0]}' is named twice, or its energy is not finite")
        found[cells[0]] = value
    return found


class Tabled:
    """One energy a complex, whatever the design: the native's, from a table. For `paper` mode alone.

    Args:
        patches: the complexes.
        table: energies by the complex's name, or by its name and loop.
        source: what to call the table.

    Raises:
        ValueError: a complex without an energy.
    """

    def __init__(self, patches: Patches, table: Mapping[str, float], *, source: str = "the table") -> None:
        def energy(name: str) -> float | None:
            return table.get(name, table.get(name.rpartition("_")[0]))

        missing = [name for name in patches.names if energy(name) is None]
        if missing:
            raise ValueError(
                f"{source} has no energy of {len(missing)} of {len(patches)} complexes, first {missing[0]}: a missing "
                "energy is never guessed; add it, or leave the complex out"
            )
        self.values = torch.tensor([energy(name) for name in patches.names], dtype=torch.float32)

    def __call__(self, objects: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """Of each row's complex, (n,)."""
        return self.values[rows]


def as_reward(energy: Energy) -> Callable[[Columns, Columns], Tensor]:
    """log R = -E of designs and their complexes."""

    def reward(objects: Columns, context: Columns) -> Tensor:
        if not isinstance(objects, Mapping) or not isinstance(context, Tensor):
            raise ValueError("an energy is of loops (a dict) and of rows of patches (n,)")
        return -energy(objects, context).float()  # type: ignore[arg-type]

    return reward


def exchanged(energy: Energy) -> Energy:
    """The control: within each complex, every design is given the energy of the one before it in the batch.

    What remains is the energies' distribution, without its tie to the designs.
    """

    def function(objects: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        value = energy(objects, rows).clone()
        for row in rows.unique().tolist():
            own = (rows == row).nonzero()[:, 0]
            value[own] = value[own.roll(1)]
        return value

    return function


def _apart(position: Tensor) -> Tensor:
    return torch.cdist(position, position)
