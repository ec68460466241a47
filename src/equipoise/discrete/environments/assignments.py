"""Assignments: every position gets a value, in any order. The space of bit sequences and of spins.

A state is one integer a position: 0 where there is none yet, else the value plus 1. Objects are the values, (n,
positions) int64. A full assignment is reached by positions! paths, of which a uniform backward policy makes equals.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.discrete.environments.listing import Listed
from equipoise.trajectories import Columns


class Assignments(Listed):
    """Positions that take one of `values` values each; action p * values + v gives position p the value v.

    Backward action p takes the value of position p away.

    Source: the discrete energy-based models of Zhang et al. 2022, "Generative flow networks for discrete probabilistic
        modeling", arXiv:2202.01361.

    Args:
        positions: at least 1.
        values: at least 2.

    Raises:
        ValueError: positions or values out of range.

    Example:
        >>> spins = Assignments(positions=9, values=2)
        >>> spins.size, spins.actions, spins.back_actions
        (19683, 18, 9)
    """

    stops = False

    def __init__(self, *, positions: int, values: int) -> None:
        if positions < 1 or values < 2:
            raise ValueError(f"{positions} positions of {values} values: at least 1 position and 2 values")
        self.positions, self.values = positions, values
        self.actions, self.back_actions = positions * values, positions
        self.horizon = positions
        self.features = positions * (values + 1)
        self.size = (values + 1) ** positions
        self._columns = torch.arange(positions)
        self._one_hot = torch.eye(values + 1)

    def initial(self, n: int) -> Tensor:
        """(n, positions) zeros: nothing assigned."""
        return torch.zeros((n, self.positions), dtype=torch.int64)

    def allowed(self, state: Tensor) -> Tensor:
        """Every value of every position that has none."""
        return (state == 0).repeat_interleave(self.values, 1)

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """Gives the position its value."""
        place, value = action // self.values, action % self.values
        return torch.where(self._columns == place[:, None], value[:, None] + 1, state)

    def terminal(self, state: Tensor) -> Tensor:
        """Whether every position has a value."""
        return (state > 0).all(1)

    def depth(self, state: Tensor) -> Tensor:
        """Positions that have a value."""
        return (state > 0).sum(1)

    def parents(self, state: Tensor) -> Tensor:
        """Any value can be taken away."""
        return state > 0

    def back(self, state: Tensor, action: Tensor) -> Tensor:
        """The assignment without that position's value."""
        return state * (self._columns != action[:, None])

    def back_action(self, state: Tensor, action: Tensor) -> Tensor:
        """The position."""
        return action // self.values

    def forward_action(self, state: Tensor, back_action: Tensor) -> Tensor:
        """The position and the value that stands there."""
        value = (state.gather(1, back_action[:, None])[:, 0] - 1).clamp(min=0)
        return back_action * self.values + value

    def encode(self, state: Tensor) -> Tensor:
        """One-hot values, with one more symbol for none: (n, positions * (values + 1)) float32."""
        return functional.embedding(state, self._one_hot).flatten(1)

    def objects(self, state: Tensor) -> Tensor:
        """The values."""
        return state - 1

    def state_of(self, objects: Columns) -> Tensor:
        """The full state of each object."""
        if not isinstance(objects, Tensor):
            raise ValueError(f"assignments are a tensor (n, {self.positions}) of values")
        return objects + 1

    def rows(self) -> Tensor:
        """Every state: unfinished ones, then full ones in the order of the number that their values write."""
        places = (self.values + 1) ** torch.arange(self.positions - 1, -1, -1)
        rows = torch.arange(self.size)[:, None] // places % (self.values + 1)
        full = self.terminal(rows)
        return torch.cat([rows[~full], rows[full]])
