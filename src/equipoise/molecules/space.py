"""What both spaces of molecules made by reactions share: the steps, their masks, and how a state is seen.

A trajectory: a first block; then, for each reaction, three steps: a slot (a template and the molecule's place in it),
a block for the other place, and which of the distinct products is kept; at last the stop, after at least one reaction.
Steps without a choice are forced and cost no probability, so that every way to a state has the same number of steps.

Actions share their numbers, since what one means follows from the state: 1 + i is the i-th block, slot or product; 0
stops, or adds nothing where a template has one reactant, or gives up where patterns matched and no product is sound.
A trajectory that gives up ends in a failed object, whose SMILES is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch import Tensor

from equipoise.molecules.chemistry import rdkit_chem
from equipoise.molecules.reactions import NOTHING, Reactions, Table
from equipoise.trajectories import Columns, Trajectories

if TYPE_CHECKING:
    from rdkit.Chem import Mol

START, MOLECULE, SLOT, BLOCK, ENDED = range(5)
"""Kinds of state: nothing yet; a molecule; a slot is chosen; a block too; the trajectory is over."""

BITS = 2048
"""Width of the fingerprints: Morgan, radius 2."""


@dataclass(frozen=True)
class View:
    """States as chemistry sees them.

    Attributes:
        kind: (n,) int64.
        reactions: (n,) reactions so far; of stopped molecules 0.
        slot: (n,) the chosen slot; -1: none.
        block: (n,) the chosen block; -1: none.
        smiles: the n molecules; "" at the start and of what failed.
    """

    kind: Tensor
    reactions: Tensor
    slot: Tensor
    block: Tensor
    smiles: Sequence[str]

    def rows(self, kind: int) -> list[int]:
        """Rows of that kind."""
        return (self.kind == kind).nonzero()[:, 0].tolist()


class ReactionSpace:
    """The steps, and the masks that follow from a view of the states. A subclass says what a state is.

    Args:
        reactions: of a chemistry.
        most: reactions of a trajectory, at most.

    Raises:
        ValueError: no reaction.
    """

    stops = False

    def __init__(self, reactions: Reactions, *, most: int) -> None:
        if most < 1:
            raise ValueError(f"most is {most}: at least one reaction was expected")
        self.reactions, self.chemistry, self.most = reactions, reactions.chemistry, most
        self.slots, self.blocks = len(self.chemistry.slots), len(self.chemistry.blocks)
        self.actions = 1 + max(self.slots, self.blocks, reactions.most_products)
        self.horizon = 2 + 3 * most
        self.features = BITS + 5 + most + 1 + self.slots
        self._start = self._padded(self.chemistry.starts)
        self._partners = torch.from_numpy(numpy.pad(self.chemistry.partners, ((0, 0), (1, 0))))
        alone = torch.tensor([slot.other is None for slot in self.chemistry.slots])
        self._partners[:, 0] = alone
        self._partners = torch.nn.functional.pad(self._partners, (0, self.actions - self._partners.shape[1]))
        self._bits = Table[str, Tensor](200_000)

    def __deepcopy__(self, memo: dict[int, Any]) -> ReactionSpace:
        """Itself: a copy of a policy shares what is known."""
        return self

    def _padded(self, mask: numpy.ndarray) -> Tensor:
        found = torch.zeros(self.actions, dtype=torch.bool)
        found[1 : 1 + len(mask)] = torch.from_numpy(mask)
        return found

    def initial(self, n: int) -> Tensor:
        """n states before the first step."""
        raise NotImplementedError

    def arrived(self, trajectories: Trajectories) -> Tensor:
        """(n,) bool: whether a path begins at the start, and is not a walk back that was lost."""
        return (trajectories.path["state"][:, 0] == self.initial(1)).all(1)

    def view(self, state: Tensor) -> View:
        """What the states are."""
        raise NotImplementedError

    def allowed(self, state: Tensor) -> Tensor:
        """(n, actions) bool."""
        seen = self.view(state)
        found = torch.zeros((len(state), self.actions), dtype=torch.bool)
        found[seen.kind == START] = self._start
        slot = seen.kind == SLOT
        found[slot] = self._partners[seen.slot[slot]]
        molecules = seen.rows(MOLECULE)
        if molecules:
            reactions = seen.reactions[molecules]
            opened = numpy.stack([self.reactions.open(seen.smiles[row]) for row in molecules])
            going = torch.from_numpy(opened) & (reactions < self.most)[:, None]
            found[molecules, 1 : 1 + self.slots] = going
            found[molecules, 0] = reactions > 0
        for row in seen.rows(BLOCK):
            count = len(self.products(seen, row))
            found[row, 1 : 1 + count] = True
            found[row, 0] = count == 0
        return found

    def products(self, seen: View, row: int) -> tuple[str, ...]:
        """The products among which a state with slot and block chooses."""
        return self.reactions.products(seen.smiles[row], int(seen.slot[row]), int(seen.block[row]))

    def encode(self, state: Tensor) -> Tensor:
        """Fingerprint of the molecule, kind, reactions and slot: (n, features) float32."""
        seen = self.view(state)
        found = torch.zeros((len(state), self.features))
        for row, smiles in enumerate(seen.smiles):
            if smiles:
                found[row, self.bits(smiles)] = 1.0
        rows = torch.arange(len(state))
        found[rows, BITS + seen.kind] = 1.0
        found[rows, BITS + 5 + seen.reactions] = 1.0
        chosen = (seen.slot >= 0).nonzero()[:, 0]
        found[chosen, BITS + 6 + self.most + seen.slot[chosen]] = 1.0
        return found

    def bits(self, smiles: str) -> Tensor:
        """The bits that are set in a molecule's fingerprint, ascending."""
        found = self._bits.get(smiles)
        if found is None:
            found = torch.tensor(_bits(self.reactions.mol(smiles)), dtype=torch.int64)
            self._bits[smiles] = found
        return found

    def action_block(self, action: Tensor) -> Tensor:
        """The block that an action adds; `NOTHING` for 0."""
        return torch.where(action > 0, action - 1, NOTHING)


def fingerprint(smiles: str) -> list[int]:
    """Bits of the Morgan fingerprint of radius 2.

    Example:
        >>> len(fingerprint("CCO"))
        6
    """
    return _bits(rdkit_chem().MolFromSmiles(smiles))


def smiles_of(objects: Columns) -> tuple[str, ...]:
    """The SMILES of objects of either space, or of SMILES themselves; "" for what failed.

    Raises:
        ValueError: objects of another kind.
    """
    found = objects["smiles"] if isinstance(objects, dict) else objects
    if isinstance(found, list):
        found = tuple(found)
    if not isinstance(found, tuple):
        raise ValueError(f"objects are {type(objects).__name__}: SMILES were expected")
    return found


_GENERATORS: list[Any] = []


def fingerprint_of(mol: Mol) -> Any:
    """The Morgan fingerprint, as rdkit holds it."""
    if not _GENERATORS:
        from rdkit.Chem import rdFingerprintGenerator

        _GENERATORS.append(rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=BITS))
    return _GENERATORS[0].GetFingerprint(mol)


def _bits(mol: Mol) -> list[int]:
    return list(fingerprint_of(mol).GetOnBits())
