"""Counts of what a source has delivered, kept over all the times that a run is taken up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Sampler, Source
from equipoise.trajectories import Trajectories


class Watched:
    """A source as it is, with counts of the rows it gave, their staleness, and the groups that taught nothing.

    Args:
        inner: the source.
        sampler: whose version tells how old a row is.
        skipped: trajectories -> the groups () of a batch that the loss skips.

    Example:
        >>> from types import SimpleNamespace
        >>> from equipoise.sampling.given import Data
        >>> sampler = SimpleNamespace(version=torch.tensor(3))
        >>> source = Watched(Data(torch.zeros(4, 1)), sampler, lambda rows: torch.tensor(1))
        >>> _ = source.draw(4, torch.Generator()), source.draw(4, torch.Generator())
        >>> source.figures()
        {'mean_staleness': 3.0, 'groups_skipped': 2.0}
    """

    def __init__(self, inner: Source, sampler: Sampler, skipped: Callable[[Trajectories], Tensor]) -> None:
        self.inner, self.sampler, self.skipped = inner, sampler, skipped
        self.provides: frozenset[str] = getattr(inner, "provides", frozenset())
        self.rows, self.age, self.groups = 0, 0, 0

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """The inner source's draw, counted."""
        drawn = self.inner.draw(n, generator)
        self.rows += n
        self.age += int((self.sampler.version.cpu() - drawn.version).sum())
        self.groups += int(self.skipped(drawn))
        return drawn

    def figures(self) -> dict[str, float]:
        """Mean staleness in steps over all rows so far, and the groups skipped so far."""
        return {"mean_staleness": self.age / max(1, self.rows), "groups_skipped": float(self.groups)}

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The inner source is told."""
        self.inner.observe(trajectories, residual)

    def state_dict(self) -> dict[str, Any]:
        """The inner source's state, and the counts."""
        return {"inner": self.inner.state_dict(), "counts": [self.rows, self.age, self.groups]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called."""
        self.inner.load_state_dict(state["inner"])
        self.rows, self.age, self.groups = state["counts"]
