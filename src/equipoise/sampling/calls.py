"""How often a reward was called by the sources of a run: what methods are compared by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Reward, Source
from equipoise.trajectories import Columns, Trajectories, rows_of


class Calls:
    """A reward that counts the objects it was asked for.

    Example:
        >>> calls = Calls(lambda objects, context: objects[:, 0].double())
        >>> calls(torch.zeros(5, 2), None).shape, calls.count
        (torch.Size([5]), 5)
    """

    def __init__(self, reward: Reward) -> None:
        self.reward, self.count = reward, 0

    def elsewhere(self, n: int) -> None:
        """Counts n objects that another process asked the reward for."""
        self.count += n

    def __call__(self, objects: Columns, context: Columns = None) -> Tensor:
        self.count += rows_of(objects)
        return self.reward(objects, context)


class Tallied:
    """A source as it is, which keeps the count of calls over all the times that a run is taken up.

    Args:
        inner: the source.
        calls: the reward that it calls.
    """

    def __init__(self, inner: Source, calls: Calls) -> None:
        self.inner, self.calls = inner, calls
        self.provides: frozenset[str] = getattr(inner, "provides", frozenset())

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """The inner source's draw."""
        return self.inner.draw(n, generator)

    def figures(self) -> dict[str, float]:
        """Objects whose reward was asked for so far."""
        return {"reward_calls": float(self.calls.count)}

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The inner source is told."""
        self.inner.observe(trajectories, residual)

    def state_dict(self) -> dict[str, Any]:
        """The inner source's state, and the count."""
        return {"inner": self.inner.state_dict(), "calls": self.calls.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called."""
        self.inner.load_state_dict(state["inner"])
        self.calls.count = state["calls"]
