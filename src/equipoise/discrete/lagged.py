"""A copy of the backward policy that lags behind the one that is trained: the target network of likelihood training."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Source
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.sampling.fixed import LAGGED, with_fixed, without_fixed
from equipoise.trajectories import Trajectories


class LaggedBackward:
    """A source whose paths carry the log-probability of a moving average of the backward policy.

    After each loss the copy's weights move by `rate` towards the trained ones.

    Source: Gritsaev et al. 2025, arXiv:2410.15474, whose forward loss reads such a copy (rate 0.05 to 0.25).

    Args:
        inner: the source.
        sampler: with a learned backward policy.
        rate: in (0, 1].

    Raises:
        ValueError: a rate out of range.

    Example:
        >>> from equipoise.discrete.environments.bags import Bags
        >>> from equipoise.discrete.policies.mlp import MLP
        >>> from equipoise.sampling.rollouts import Rollouts
        >>> space = Bags(letters=3, full=4)
        >>> sampler = DiscreteSampler(space, MLP(space.features, (8,), {"forward": 3, "backward": 3}))
        >>> source = LaggedBackward(Rollouts(sampler, lambda objects, context: objects[:, 0].double()), sampler)
        >>> source.draw(5, torch.Generator().manual_seed(0)).fixed[LAGGED].value.shape
        torch.Size([5, 4])
    """

    def __init__(self, inner: Source, sampler: DiscreteSampler, *, rate: float = 0.1) -> None:
        if not 0 < rate <= 1:
            raise ValueError(f"rate is {rate}: above 0 and at most 1 was expected")
        self.inner, self.rate = inner, rate
        self.policy = sampler.policy
        self.copy = copy.deepcopy(self.policy).requires_grad_(False)
        self.frozen = DiscreteSampler(
            sampler.environment,
            self.policy,
            backward=self.copy,
            condition=sampler.condition,
            default=sampler.default,
        )
        self.provides: frozenset[str] = getattr(inner, "provides", frozenset()) | {LAGGED}

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """The inner source's draw, with the copy's log-probability of each step backwards."""
        drawn = self.frozen.renew(self.inner.draw(n, generator))
        value = self.frozen.score(drawn, frozenset({"log_pb"})).get("log_pb")
        return with_fixed(drawn, LAGGED, value)

    @torch.no_grad()
    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The copy moves; the inner source is told, of all but what the copy said."""
        for mine, trained in zip(self.copy.parameters(), self.policy.parameters(), strict=True):
            mine.lerp_(trained, self.rate)
        self.inner.observe(without_fixed(trajectories, LAGGED), residual)

    def state_dict(self) -> dict[str, Any]:
        """The inner source's state, and the copy's weights."""
        return {"inner": self.inner.state_dict(), "copy": [value.clone() for value in self.copy.parameters()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called."""
        self.inner.load_state_dict(state["inner"])
        for mine, stored in zip(self.copy.parameters(), state["copy"], strict=True):
            mine.data.copy_(stored)
