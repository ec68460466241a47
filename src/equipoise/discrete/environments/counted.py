"""Counts of kinds that are filled one by one: what bags and sets have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.discrete.environments.listing import Listed, counts
from equipoise.trajectories import Columns


class Counted(Listed):
    """`full` things out of `kinds`, at most `most` of each; action k puts one of kind k in, backward action k takes it.

    A state is the count of each kind; objects are the counts of full states, (n, kinds) int64. A class that inherits
    it says what things are called, how states are encoded, and how many there are.

    Args:
        kinds: at least 2.
        full: things in a full state, from 1 to kinds * most.
        most: of a kind.

    Example:
        >>> space = Counted(kinds=3, full=2, most=1)
        >>> space.step(space.initial(1), torch.tensor([2])).tolist(), len(space.rows())
        ([[0, 0, 1]], 7)
    """

    stops = False

    def __init__(self, *, kinds: int, full: int, most: int) -> None:
        self.kinds, self.full, self.most = kinds, full, most
        self.actions = self.back_actions = kinds
        self.horizon = full
        self._columns = torch.arange(kinds)

    def initial(self, n: int) -> Tensor:
        """(n, kinds) zeros: nothing is in."""
        return torch.zeros((n, self.kinds), dtype=torch.int64)

    def allowed(self, state: Tensor) -> Tensor:
        """Every kind of which there may be one more."""
        return state < self.most

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """Puts one of that kind in."""
        return state + (self._columns == action[:, None])

    def terminal(self, state: Tensor) -> Tensor:
        """Whether the state is full."""
        return state.sum(1) >= self.full

    def depth(self, state: Tensor) -> Tensor:
        """Things that are in."""
        return state.sum(1)

    def parents(self, state: Tensor) -> Tensor:
        """Any kind that is in can go."""
        return state > 0

    def back(self, state: Tensor, action: Tensor) -> Tensor:
        """The state with one of that kind less."""
        return state - (self._columns == action[:, None]).long()

    def back_action(self, state: Tensor, action: Tensor) -> Tensor:
        """Backward and forward actions carry the same number."""
        return action

    def forward_action(self, state: Tensor, back_action: Tensor) -> Tensor:
        """Backward and forward actions carry the same number."""
        return back_action

    def objects(self, state: Tensor) -> Tensor:
        """The counts."""
        return state

    def state_of(self, objects: Columns) -> Tensor:
        """The full state of each object.

        Raises:
            ValueError: objects that are no tensor.
        """
        if not isinstance(objects, Tensor):
            raise ValueError(f"{type(self).__name__.lower()} are a tensor (n, {self.kinds}) of counts")
        return objects

    def rows(self) -> Tensor:
        """Every state, by what is in it."""
        return counts(kinds=self.kinds, total=self.full, most=self.most)
