"""Sums over groups: the rows of a batch that share a condition, and with it a log Z.

A group is named by any integer, in any order; rows of a group need not stand together. Sums are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.objectives.arguments import INTEGERS, real


@dataclass(frozen=True)
class Groups:
    """Which group each row belongs to, and how many rows each group has."""

    index: Tensor  # (batch,) int64, from 0
    count: Tensor  # (groups,) float64

    def total(self, values: Tensor) -> Tensor:
        """Sum over each group of the last dimension, (..., batch) -> (..., groups)."""
        zeros = values.new_zeros((*values.shape[:-1], len(self.count)))
        return zeros.index_add(-1, self.index, values)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over each group, (..., batch) -> (..., groups)."""
        return self.total(values) / self.count

    def largest(self, values: Tensor) -> Tensor:
        """Maximum of each group, (batch,) -> (groups,)."""
        lowest = torch.full_like(self.count, -torch.inf)
        return lowest.scatter_reduce(0, self.index, values, "amax")

    def of_rows(self, values: Tensor) -> Tensor:
        """Each group's value at its rows, (..., groups) -> (..., batch)."""
        return values[..., self.index]

    def in_order(self, values: Tensor) -> Tensor:
        """Row numbers sorted by group, then by value, (batch,); equal values keep their order."""
        by_value = values.argsort(stable=True)
        return by_value[self.index[by_value].argsort(stable=True)]

    def starts(self) -> Tensor:
        """Where each group begins among the rows sorted by group, (groups,) int64."""
        count = self.count.long()
        return count.cumsum(0) - count


def grouped(name: str, values: Tensor, group: Tensor | None) -> tuple[Tensor, Groups]:
    """The values, detached and in float64, and their groups; without ids all rows are one group.

    Raises:
        ValueError: The values are not (batch,), are none or not finite (the first such row is named); the group is not
            integers of that shape; or a group has one row (its id is named).
    """
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} has shape {tuple(values.shape)}; expected (batch,), at least two rows")
    values = real(name, values).detach().double()
    broken = ~values.isfinite()
    if bool(broken.any()):
        row = int(broken.nonzero()[0])
        raise ValueError(f"{name}[{row}] is {float(values[row])}; expected finite numbers")
    ids = torch.zeros_like(values, dtype=torch.int64) if group is None else group
    if ids.shape != values.shape or ids.dtype not in INTEGERS:
        raise ValueError(f"group is {ids.dtype} of shape {tuple(ids.shape)}; expected integers {tuple(values.shape)}")
    names, index, count = ids.unique(return_inverse=True, return_counts=True)
    if bool((count < 2).any()):
        alone = int(names[count < 2][0])
        raise ValueError(f"group {alone} has one trajectory; a log Z of the batch's own needs at least two")
    return values, Groups(index, count.double())
