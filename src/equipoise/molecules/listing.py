"""A space of molecules small enough to list: every state, so that a sampler can be judged exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.molecules.graph import MoleculeSpace
from equipoise.molecules.reactions import Reactions
from equipoise.molecules.routes import RouteSpace
from equipoise.molecules.space import ReactionSpace

MOST = 500_000
"""States that are listed, at most."""


class _Listing(ReactionSpace):
    """A space with its list of states, for the exact figures of `equipoise.discrete.exact`."""

    def __init__(self, reactions: Reactions, *, most: int) -> None:
        super().__init__(reactions, most=most)
        self._states = _every(self, MOST)
        self.size = len(self._states)
        self._place = {row.tobytes(): place for place, row in enumerate(self._states.numpy())}

    def states(self) -> Tensor:
        """Every state, those that are not terminal first."""
        return self._states

    def index(self, state: Tensor) -> Tensor:
        """The place of each state in `states`."""
        rows = state.contiguous().numpy()
        return torch.tensor([self._place[row.tobytes()] for row in rows], dtype=torch.int64)


class ListedRoutes(_Listing, RouteSpace):
    """`RouteSpace` with its list of states.

    Raises:
        ValueError: more than `MOST` states.

    Example:
        >>> from equipoise.molecules.chemistry import chemistry
        >>> amide = "[C:1](=[O:2])[OH].[NH2:3][C:4]>>[C:1](=[O:2])[N:3][C:4]"
        >>> ListedRoutes(Reactions(chemistry([amide], ["CC(=O)O", "CN"])), most=1).size
        11
    """


class ListedMolecules(_Listing, MoleculeSpace):
    """`MoleculeSpace` with its list of states.

    Raises:
        ValueError: more than `MOST` states.
    """


def _every(space: Any, most: int) -> Tensor:
    """All states that can be reached, level by level."""
    level, inner, ended = space.initial(1), [], {}
    count = 0
    while len(level):
        over = space.terminal(level)
        ended |= {row.numpy().tobytes(): row for row in level[over]}
        level = level[~over]
        inner.append(level)
        count += len(level)
        if count + len(ended) > most:
            raise ValueError(f"more than {most} states cannot be listed")
        if not len(level):
            break
        row, action = space.allowed(level).nonzero(as_tuple=True)
        level = space.step(level[row], action).unique(dim=0)
    return torch.cat([*inner, *([torch.stack(list(ended.values()))] if ended else [])])
