"""Spaces listed as rows, with the place of each row."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor


class Listing:
    """Rows of integers in a fixed order, and the place of each in it.

    Args:
        rows: (size, width) int64, all different.

    Raises:
        ValueError: two rows are equal.

    Example:
        >>> listing = Listing(counts(kinds=2, total=2))
        >>> listing.rows.tolist()
        [[0, 0], [0, 1], [1, 0], [0, 2], [1, 1], [2, 0]]
        >>> listing.index(torch.tensor([[1, 1]])).tolist()
        [4]
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self._weights = torch.randint(1 << 61, (rows.shape[1],), generator=torch.Generator().manual_seed(0))
        self._keys, self._places = self._hashed(rows).sort()
        if bool((self._keys[1:] == self._keys[:-1]).any()):
            raise ValueError(f"the {len(rows)} rows are not all different: each state must be listed once")

    def index(self, rows: Tensor) -> Tensor:
        """The place of each row; unspecified for rows that are not listed."""
        place = torch.searchsorted(self._keys, self._hashed(rows))
        return self._places[place.clamp(max=len(self._keys) - 1)]

    def _hashed(self, rows: Tensor) -> Tensor:
        # Random weights modulo 2^64: rows of any width get one number each; that no two share one was checked.
        return (rows * self._weights).sum(1)


class Listed:
    """Gives an environment `states` and `index` from its `rows`, which are made at first use.

    A class that inherits it defines `rows()`: every state, in an order in which terminal ones are last.
    """

    def rows(self) -> Tensor:
        """Every state."""
        raise NotImplementedError

    @cached_property
    def _listing(self) -> Listing:
        return Listing(self.rows())

    def states(self) -> Tensor:
        """Every state, terminal ones last."""
        return self._listing.rows

    def index(self, state: Tensor) -> Tensor:
        """The place of each state in `states`."""
        return self._listing.index(state)


def counts(*, kinds: int, total: int, most: int | None = None) -> Tensor:
    """All rows of `kinds` counts of at most `most` each that sum to at most `total`, by sum and then in order.

    Example:
        >>> len(counts(kinds=7, total=13)), int((counts(kinds=7, total=13).sum(1) == 13).sum())
        (77520, 27132)
    """
    most = total if most is None else most
    rows, left = torch.zeros((1, 0), dtype=torch.int64), torch.full((1,), total)
    for _ in range(kinds):
        choices = left.clamp(max=most) + 1
        parent = torch.arange(len(rows)).repeat_interleave(choices)
        first = choices.cumsum(0) - choices
        taken = torch.arange(len(parent)) - first[parent]
        rows, left = torch.cat([rows[parent], taken[:, None]], 1), left[parent] - taken
    return rows[rows.sum(1).argsort(stable=True)]
