"""Walks back from what was just drawn, for terms that train a backward policy by where its walks end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Sampler, Source
from equipoise.sampling.fixed import ARRIVED, with_fixed
from equipoise.trajectories import Trajectories, ends


class Retraced:
    """A source that passes another's draws on; `walks` is the source of a walk back from each object of the last one.

    Args:
        inner: the source.
        sampler: whose backward policy walks.
        arrived: walks -> (n,) bool, which reached the start; on a space without dead ends all do.

    Put the term of the draws first: a walk begins where the same step's draw ended.
    """

    def __init__(self, inner: Source, sampler: Sampler, *, arrived: Callable[[Trajectories], Tensor]) -> None:
        self.inner = inner
        self.provides: frozenset[str] = getattr(inner, "provides", frozenset())
        self.walks = Walks(sampler, arrived)

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """The inner source's draw, whose objects are kept for the walks."""
        drawn = self.inner.draw(n, generator)
        self.walks.ends = ends(drawn.objects, context=drawn.context)
        return drawn

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The inner source is told."""
        self.inner.observe(trajectories, residual)

    def state_dict(self) -> dict[str, Any]:
        """The inner source's."""
        return {"inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called."""
        self.inner.load_state_dict(state["inner"])


class Walks:
    """Paths drawn backwards from given ends, each with `ARRIVED`. Nothing lives from step to step."""

    def __init__(self, sampler: Sampler, arrived: Callable[[Trajectories], Tensor]) -> None:
        self.sampler, self.arrived = sampler, arrived
        self.ends: Trajectories | None = None
        self.provides = frozenset({ARRIVED})

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """A walk from each of the ends, once.

        Raises:
            ValueError: there are none, or not n.
        """
        rows, self.ends = self.ends, None
        if rows is None or len(rows) != n:
            held = 0 if rows is None else len(rows)
            raise ValueError(f"{n} walks were asked for and there are {held} ends: draw from the inner source first")
        walked = self.sampler.sample_to(rows, generator=generator)
        return with_fixed(walked, ARRIVED, self.arrived(walked).to(torch.get_default_dtype()))

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Nothing is kept."""

    def state_dict(self) -> dict[str, Any]:
        """There is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""
