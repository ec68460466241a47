"""Molecules, whichever way they were made: a graph in which a molecule has all its exact parents.

A state holds the SMILES itself, eight characters to a number, so that a stored trajectory needs nothing but the
chemistry to be read again: reactions so far, slot + 1, block + 2, flag (1 stopped, 2 failed, 3 lost), then the
characters. A stopped molecule has forgotten how many reactions it took: the target is over molecules.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy
import torch
from torch import Tensor

from equipoise.molecules.reactions import LONGEST, NOTHING, Parent, Reactions
from equipoise.molecules.space import BLOCK, ENDED, MOLECULE, SLOT, START, ReactionSpace, View, smiles_of
from equipoise.molecules.workers import Workers
from equipoise.trajectories import Columns

COUNT, CHOSEN_SLOT, CHOSEN_BLOCK, FLAG, HEAD = range(5)
"""Columns of a state; the characters begin at HEAD."""

LOST = 3
"""Flag of where a walk back ends that finds no parent; it is no steps from anywhere."""

BEGUN = Parent("", NOTHING, NOTHING)
"""The way to a first block."""

CHARACTERS = LONGEST
"""Of a SMILES, at most."""

PARENTS = 192
"""Exact parents of a molecule, at most."""


class MoleculeSpace(ReactionSpace):
    """Molecules made by 1 to `most` reactions. Objects are {"smiles": n strings, "state": rows}.

    Args:
        reactions: with `reversible=True`, so that every step forward is one of the exact parents.
        most: reactions, at most.
        exact: False: parents are unchecked proposals, as in published code. A walk back is then lost where a reaction
            does not lead to the molecule when run forwards, and at a molecule that is no block and has no parent. What
            is trained with such a backward policy does not draw in proportion to R, for some of the mass leads
            nowhere. For comparisons.
        workers: processes that compute exact parents, all that a call of `parents` asks for at once; None: this one
            computes them, one after another.

    Raises:
        ValueError: reactions that are not reversible; workers and parents that are not exact; on use, a molecule of
            more parents.

    Example:
        >>> from equipoise.molecules.chemistry import chemistry
        >>> amide = "[C:1](=[O:2])[OH].[NH2:3][C:4]>>[C:1](=[O:2])[N:3][C:4]"
        >>> space = MoleculeSpace(Reactions(chemistry([amide], ["CC(=O)O", "CN"]), reversible=True), most=1)
        >>> state = space.state_of(("CNC(C)=O",))
        >>> space.parents(space.back(state, torch.tensor([0]))).sum(1).tolist()  # the acid first, or the amine
        [2]

    Use it where molecules are to be drawn in proportion to R. Exact parents cost about ten times what routes cost.
    """

    keeps_parents = True

    def __init__(self, reactions: Reactions, *, most: int, exact: bool = True, workers: Workers | None = None) -> None:
        if not reactions.reversible:
            raise ValueError("exact parents need Reactions(..., reversible=True)")
        if workers is not None and not exact:
            raise ValueError("workers compute exact parents, and these are unchecked: leave the workers out")
        self.exact, self.workers = exact, workers
        self.back_actions = max(PARENTS, most)
        self.width = HEAD + CHARACTERS // 8
        super().__init__(reactions, most=most)

    @property
    def dead_ends(self) -> bool:
        """Whether a walk back can be lost."""
        return not self.exact

    def initial(self, n: int) -> Tensor:
        """(n, width) zeros."""
        return torch.zeros((n, self.width), dtype=torch.int64)

    def view(self, state: Tensor) -> View:
        """The columns, and the SMILES that the numbers hold."""
        smiles = unpacked(state[:, HEAD:])
        empty = state[:, HEAD] == 0
        kind = torch.where(
            state[:, FLAG] > 0,
            ENDED,
            torch.where(
                empty,
                START,
                torch.where(
                    state[:, CHOSEN_SLOT] == 0, MOLECULE, torch.where(state[:, CHOSEN_BLOCK] == 0, SLOT, BLOCK)
                ),
            ),
        )
        for row in (state[:, FLAG] == 2).nonzero()[:, 0].tolist():
            smiles[row] = ""
        block = torch.where(state[:, CHOSEN_BLOCK] > 0, state[:, CHOSEN_BLOCK] - 2, -1)
        return View(kind, state[:, COUNT], state[:, CHOSEN_SLOT] - 1, block, smiles)

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """The choice is written down, or the product takes the molecule's place."""
        seen = self.view(state)
        child = state.clone()
        slot = seen.kind == MOLECULE
        stopped = slot & (action == 0)
        child[stopped, FLAG] = 1
        child[stopped, COUNT] = 0
        child[slot & ~stopped, CHOSEN_SLOT] = action[slot & ~stopped]
        block = seen.kind == SLOT
        child[block, CHOSEN_BLOCK] = action[block] + 1
        child[(seen.kind == BLOCK) & (action == 0), FLAG] = 2
        rows, made = [], []
        for row in seen.rows(START):
            rows.append(row)
            made.append(self.chemistry.blocks[max(int(action[row]) - 1, 0) % self.blocks])
        for row in seen.rows(BLOCK):
            found = self.products(seen, row)
            if action[row] > 0 and int(action[row]) <= len(found):
                rows.append(row)
                made.append(found[int(action[row]) - 1])
                child[row, COUNT] += 1
        if rows:
            child[rows, HEAD:] = packed(made)
            child[rows, CHOSEN_SLOT : CHOSEN_BLOCK + 1] = 0
        return child

    def terminal(self, state: Tensor) -> Tensor:
        """Whether the trajectory has stopped or failed."""
        return state[:, FLAG] > 0

    def depth(self, state: Tensor) -> Tensor:
        """Steps taken; of a stopped molecule, which can be made by paths of several lengths, the most possible."""
        begun = (state[:, HEAD] != 0).long()
        chosen = (state[:, CHOSEN_SLOT] > 0).long() + (state[:, CHOSEN_BLOCK] > 0).long()
        found = begun + 3 * state[:, COUNT] + chosen + (state[:, FLAG] == 2).long()
        return torch.where(state[:, FLAG] == 1, self.horizon, found)

    def parents(self, state: Tensor) -> Tensor:
        """(n, back_actions) bool: exact parents in order; of a stopped molecule, 1 to `most` reactions."""
        seen = self.view(state)
        self.foresee(seen)
        found = torch.zeros((len(state), self.back_actions), dtype=torch.bool)
        for row, kind in enumerate(seen.kind.tolist()):
            count = int(seen.reactions[row])
            if kind == ENDED and state[row, FLAG] == 1:
                for reactions in range(1, self.most + 1):
                    found[row, reactions - 1] = not self.exact or self.reactions.reachable(seen.smiles[row], reactions)
            elif kind == MOLECULE and count:
                found[row, : max(1, len(self.ways(seen.smiles[row], count)))] = True
            else:
                found[row, 0] = kind != START
        return found

    def foresee(self, seen: View) -> None:
        """Has the workers compute, where there are any, the parents that will be asked of these states."""
        if self.workers is None:
            return
        ended, counts = [seen.smiles[row] for row in seen.rows(ENDED)], seen.reactions.tolist()
        # A stopped molecule brings its ancestors, which are most of what the rest of its path asks for.
        self.workers.learn((smiles, count) for smiles in ended if smiles for count in range(1, self.most + 1))
        self.workers.learn((seen.smiles[row], counts[row]) for row in seen.rows(MOLECULE) if counts[row])

    def ways(self, smiles: str, reactions: int) -> tuple[Parent, ...]:
        """The parents of a molecule made by that many reactions, exact ones or proposals; none of a dead one.

        Raises:
            ValueError: more than `PARENTS`.
        """
        found = self.reactions.parents(smiles, reactions) if self.exact else self.reactions.proposals(smiles)
        if len(found) > self.back_actions:
            raise ValueError(f"'{smiles}' has {len(found)} parents, more than {self.back_actions}")
        return found

    def back(self, state: Tensor, action: Tensor) -> Tensor:
        """The chosen parent."""
        seen = self.view(state)
        parent = state.clone()
        for row, kind in enumerate(seen.kind.tolist()):
            chosen = int(action[row])
            if kind == ENDED:
                if state[row, FLAG] == 1:
                    parent[row, COUNT] = chosen + 1
                parent[row, FLAG] = 0
            elif kind == BLOCK:
                parent[row, CHOSEN_BLOCK] = 0
            elif kind == SLOT:
                parent[row, CHOSEN_SLOT] = 0
            elif kind == MOLECULE:
                way = self._way(seen, row, chosen)
                parent[row] = 0
                if way is None:
                    parent[row, FLAG] = LOST
                elif way is not BEGUN:
                    parent[row, COUNT] = seen.reactions[row] - 1
                    parent[row, CHOSEN_SLOT], parent[row, CHOSEN_BLOCK] = way.slot + 1, way.block + 2
                    parent[row, HEAD:] = packed([way.smiles])[0]
        return parent

    def back_action(self, state: Tensor, action: Tensor) -> Tensor:
        """The place of the state among its child's parents."""
        seen = self.view(state)
        found = torch.zeros_like(action)
        stopped = (seen.kind == MOLECULE) & (action == 0)
        found[stopped] = seen.reactions[stopped] - 1
        lost = state[:, FLAG] == LOST
        found[lost] = action[lost]
        for row in seen.rows(BLOCK):
            products = self.products(seen, row)
            if 0 < action[row] <= len(products):
                me = Parent(seen.smiles[row], int(seen.slot[row]), int(seen.block[row]))
                child = products[int(action[row]) - 1]
                found[row] = self.ways(child, int(seen.reactions[row]) + 1).index(me)
        return found

    def forward_action(self, state: Tensor, back_action: Tensor) -> Tensor:
        """The action that leads from the chosen parent."""
        seen = self.view(state)
        found = torch.zeros_like(back_action)
        for row, kind in enumerate(seen.kind.tolist()):
            if kind == BLOCK:
                found[row] = seen.block[row] + 1
            elif kind == SLOT:
                found[row] = seen.slot[row] + 1
            elif kind == MOLECULE:
                way = self._way(seen, row, int(back_action[row]))
                if way is None:
                    found[row] = back_action[row]
                elif way is BEGUN:
                    found[row] = self.chemistry.number[seen.smiles[row]] + 1
                else:
                    products = self.reactions.products(way.smiles, way.slot, way.block)
                    found[row] = products.index(seen.smiles[row]) + 1
        return found

    def _way(self, seen: View, row: int, chosen: int) -> Parent | None:
        """The chosen way to a molecule; `BEGUN` to a first block; None where the walk back is lost."""
        smiles, reactions = seen.smiles[row], int(seen.reactions[row])
        if reactions == 0:
            return BEGUN if self.reactions.reachable(smiles, 0) else None
        ways = self.ways(smiles, reactions)
        if not ways:
            return None
        way = ways[min(chosen, len(ways) - 1)]
        leads = self.exact or smiles in self.reactions.products(way.smiles, way.slot, way.block)
        return way if leads else None

    def objects(self, state: Tensor) -> dict[str, Columns]:
        """The molecules, and the states that tell what failed apart."""
        return {"smiles": tuple(self.view(state).smiles), "state": state}

    def state_of(self, objects: Columns) -> Tensor:
        """The stopped state of each molecule, of objects or of SMILES as they are written here."""
        if isinstance(objects, Mapping) and isinstance(objects.get("state"), Tensor):
            return objects["state"]  # type: ignore[return-value]
        smiles = smiles_of(objects)
        state = self.initial(len(smiles))
        state[:, HEAD:] = packed(smiles)
        state[:, FLAG] = 1
        return state


def packed(smiles: list[str] | tuple[str, ...]) -> Tensor:
    """Eight characters to a number: (n, CHARACTERS / 8) int64.

    Raises:
        ValueError: a SMILES that is too long.

    Example:
        >>> unpacked(packed(["CCO", ""]))
        ['CCO', '']
    """
    long = next((entry for entry in smiles if len(entry) > CHARACTERS), None)
    if long is not None:
        raise ValueError(f"'{long[:40]}...' has {len(long)} characters: at most {CHARACTERS} were expected")
    held = numpy.array([entry.encode() for entry in smiles], dtype=f"S{CHARACTERS}")
    return torch.from_numpy(held.view(numpy.int64).reshape(len(smiles), CHARACTERS // 8).copy())


def unpacked(numbers: Tensor) -> list[str]:
    """The strings that `packed` packed."""
    held = numbers.contiguous().numpy().view(f"S{CHARACTERS}")[:, 0]
    return [entry.decode("latin-1") for entry in held.tolist()]
