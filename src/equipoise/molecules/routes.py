"""Molecules with the route that made them: a tree, in which the backward policy has no choice.

A state is the history itself: for each step its action plus 1, and a last column that is 1 once the trajectory has
stopped, 2 where it failed. The target is over routes: a molecule has the weight R times the number of its routes, in
which the order of the two reactants counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from equipoise.molecules.reactions import Reactions, Table
from equipoise.molecules.space import BLOCK, ENDED, MOLECULE, SLOT, START, ReactionSpace, View
from equipoise.trajectories import Columns


class RouteSpace(ReactionSpace):
    """Routes of 1 to `most` reactions. Objects are {"smiles": n strings, "route": (n, 1 + 3 most) int64}.

    Args:
        reactions: of a chemistry.
        most: reactions of a route, at most.

    Example:
        >>> from equipoise.molecules.chemistry import chemistry
        >>> amide = "[C:1](=[O:2])[OH].[NH2:3][C:4]>>[C:1](=[O:2])[N:3][C:4]"
        >>> space = RouteSpace(Reactions(chemistry([amide], ["CC(=O)O", "CN"])), most=1)
        >>> state = space.initial(1)
        >>> for action in (1, 1, 2, 1, 0):
        ...     state = space.step(state, torch.tensor([action]))
        >>> space.objects(state)["smiles"]
        ('CNC(C)=O',)

    Use it where training speed matters; where molecules are to be drawn in proportion to R, use `MoleculeSpace`.
    """

    back_actions = 1

    def __init__(self, reactions: Reactions, *, most: int) -> None:
        self.width = 1 + 3 * most
        self._molecule = Table[tuple[int, ...], str](400_000)
        super().__init__(reactions, most=most)

    def initial(self, n: int) -> Tensor:
        """(n, width + 1) zeros."""
        return torch.zeros((n, self.width + 1), dtype=torch.int64)

    def view(self, state: Tensor) -> View:
        """The molecule of each history, and what has been chosen since."""
        taken = (state[:, :-1] > 0).sum(1)
        phase = torch.where(taken > 0, (taken - 1) % 3, -1)
        done = state[:, -1] > 0
        kind = torch.where(done, ENDED, phase + 1)
        reactions = (taken - 1).clamp(min=0) // 3
        rows = torch.arange(len(state))
        back = torch.where(phase == 2, taken - 2, taken - 1).clamp(min=0)
        slot = torch.where((phase >= 1) & ~done, state[rows, back] - 2, -1)
        block = torch.where((phase == 2) & ~done, state[rows, (taken - 1).clamp(min=0)] - 2, -1)
        smiles = [
            self._made(tuple(history[: 1 + 3 * count]) if history[0] and flag < 2 else ())
            for history, count, flag in zip(state.tolist(), reactions.tolist(), state[:, -1].tolist(), strict=True)
        ]
        return View(kind, reactions, slot, block, smiles)

    def _made(self, history: tuple[int, ...]) -> str:
        """The molecule after whole reactions."""
        if not history:
            return ""
        found = self._molecule.get(history)
        if found is None:
            if len(history) == 1:
                found = self.chemistry.blocks[history[0] - 2]
            else:
                slot, block, product = (entry - 2 for entry in history[-3:])
                found = self.reactions.products(self._made(history[:-3]), slot, block)[product]
            self._molecule[history] = found
        return found

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """The action is written down; at a molecule 0 stops, and where nothing can be made it fails."""
        taken = (state[:, :-1] > 0).sum(1)
        phase = torch.where(taken > 0, (taken - 1) % 3, -1)
        ends = (action == 0) & ((phase == 0) | (phase == 2))
        place = torch.where(ends, self.width, taken.clamp(max=self.width - 1))
        value = torch.where(ends, 1 + (phase == 2).long(), action + 1)
        return state.scatter(1, place[:, None], value[:, None])

    def terminal(self, state: Tensor) -> Tensor:
        """Whether the trajectory has stopped or failed."""
        return state[:, -1] > 0

    def depth(self, state: Tensor) -> Tensor:
        """Steps taken."""
        return (state > 0).sum(1)

    def parents(self, state: Tensor) -> Tensor:
        """One: the history without its last step."""
        return (state > 0).any(1, keepdim=True)

    def back(self, state: Tensor, action: Tensor) -> Tensor:
        """The history without its last step."""
        return state.scatter(1, self._last(state)[:, None], 0)

    def back_action(self, state: Tensor, action: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(action)

    def forward_action(self, state: Tensor, back_action: Tensor) -> Tensor:
        """The last step's action."""
        last = state.gather(1, self._last(state)[:, None])[:, 0]
        return torch.where(state[:, -1] > 0, 0, last - 1)

    def _last(self, state: Tensor) -> Tensor:
        taken = (state[:, :-1] > 0).sum(1)
        return torch.where(state[:, -1] > 0, self.width, (taken - 1).clamp(min=0))

    def objects(self, state: Tensor) -> dict[str, Columns]:
        """The molecules and their routes."""
        return {"smiles": tuple(self.view(state).smiles), "route": state[:, :-1]}

    def state_of(self, objects: Columns) -> Tensor:
        """The stopped state of each route.

        Raises:
            ValueError: objects without routes.
        """
        route = objects["route"] if isinstance(objects, Mapping) and "route" in objects else None
        if not isinstance(route, Tensor) or route.shape[1] != self.width:
            raise ValueError(f"in this space an object is a molecule with its route, (n, {self.width}) numbers")
        taken = (route > 0).sum(1)
        flag = torch.where((taken - 1) % 3 == 2, 2, 1)
        return torch.cat([route, flag[:, None]], 1)


assert (START, MOLECULE, SLOT, BLOCK) == (0, 1, 2, 3)  # `view` counts on it
