"""Sources that are not rollouts: objects that are given, and batches that are used again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Source
from equipoise.trajectories import Columns, Trajectories, ends


class Data:
    """A source of given objects, with no path: what likelihoods are trained on.

    Args:
        objects: the data set, drawn from with replacement; or (n, generator) -> n objects, where there is no end of
            them.
        context: of the data set's rows; None: unconditional.

    Raises:
        ValueError: an empty data set, or a context with a function.

    Example:
        >>> Data(torch.tensor([[1.0], [1.0]])).draw(3, torch.Generator()).objects.flatten()
        tensor([1., 1., 1.])
    """

    def __init__(self, objects: Columns | Callable[[int, torch.Generator], Tensor], *, context: Columns = None) -> None:
        self.function = objects if callable(objects) else None
        self.rows = None if callable(objects) else ends(objects, context=context)
        if self.rows is not None and not len(self.rows):
            raise ValueError("a data set of no objects: give at least one")
        if self.function is not None and context is not None:
            raise ValueError("a function of objects has no rows that a context could belong to: give the objects")
        self.provides = frozenset[str]()

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """n objects."""
        if self.function is not None:
            return ends(self.function(n, generator))
        assert self.rows is not None
        return self.rows[torch.randint(len(self.rows), (n,), generator=generator)]

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Nothing is kept."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""


class Repeat:
    """A source that gives each batch of another several times: the epochs of PPO.

    Args:
        inner: draws the batches.
        times: how often each is given, at least 1.

    Raises:
        ValueError: `times` below 1; in `draw`, another size than the batch that is being repeated.
    """

    def __init__(self, inner: Source, times: int) -> None:
        if times < 1:
            raise ValueError(f"times is {times}: at least 1 was expected")
        self.inner, self.times = inner, times
        self.batch: Trajectories | None = None
        self.left = 0
        self.provides = getattr(inner, "provides", frozenset())

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """The batch that is being repeated, or a new one of n."""
        if self.left == 0 or self.batch is None:
            self.batch, self.left = self.inner.draw(n, generator), self.times
        if len(self.batch) != n:
            raise ValueError(f"{n} trajectories asked for while a batch of {len(self.batch)} is being repeated")
        self.left -= 1
        return self.batch

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Renewed values are kept for the next time; the inner source is told each time."""
        if self.left:
            self.batch = trajectories
        self.inner.observe(trajectories, residual)

    def state_dict(self) -> dict[str, Any]:
        return {"left": self.left, "batch": self.batch if self.left else None, "inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.left, self.batch = state["left"], state["batch"]
        self.inner.load_state_dict(state["inner"])
