"""Trajectories drawn from the sampler itself, on-policy or explored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import ON_POLICY, Behaviour, Reward, Sampler
from equipoise.trajectories import Columns, Fixed, Trajectories


class Rollouts:
    """A source that draws from a sampler and calls the reward, once for each new object.

    Args:
        sampler: draws.
        reward: (objects, context) -> (n,) log-reward.
        behaviour: exploration, by the sampler's version.
        conditions: (n, generator) -> (context, group); None: unconditional, one group.
        state_reward: trajectories -> (n, steps + 1), log R of each visited state, for residuals that need it; kept in
            `fixed["log_reward_state"]`.

    Raises:
        ValueError: in `draw`, a log-reward that is not finite, with the index and the object, or of the wrong shape.
    """

    def __init__(
        self,
        sampler: Sampler,
        reward: Reward,
        *,
        behaviour: Callable[[int], Behaviour] = lambda version: ON_POLICY,
        conditions: Callable[[int, torch.Generator], tuple[Columns, Tensor]] | None = None,
        state_reward: Callable[[Trajectories], Tensor] | None = None,
    ) -> None:
        self.sampler, self.reward = sampler, reward
        self.behaviour, self.conditions, self.state_reward = behaviour, conditions, state_reward
        kept: frozenset[str] = getattr(sampler, "keeps", frozenset())  # what a draw leaves in `fixed`
        self.provides = kept | ({"log_reward_state"} if state_reward else set())

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """n new trajectories with their log-rewards."""
        context, group = (None, None) if self.conditions is None else self.conditions(n, generator)
        drawn = self.sampler.sample(
            n, context=context, behaviour=self.behaviour(int(self.sampler.version)), generator=generator
        )
        log_reward = rewarded(self.reward, drawn.objects, context, n).float()
        drawn = replace(drawn, log_reward=log_reward, group=drawn.group if group is None else group)
        if self.state_reward is None:
            return drawn
        kept = Fixed(self.state_reward(drawn).float(), torch.zeros(n, dtype=torch.int64))
        return replace(drawn, fixed={**drawn.fixed, "log_reward_state": kept})

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Nothing is kept."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""


def rewarded(reward: Reward, objects: Columns, context: Columns, n: int, *, first: int = 0) -> Tensor:
    """The reward's values, held to its contract: (n,) finite floats; `first` is the index of the first object.

    Raises:
        ValueError: another type or shape, or a value that is not finite (names the first index and its object).
    """
    value = reward(objects, context)
    if not isinstance(value, Tensor) or value.shape != (n,) or not value.is_floating_point():
        given = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"the reward returned {given} for {n} objects: log R as a float tensor ({n},) was expected")
    if not math.isfinite(float(value.sum())) and not (finite := torch.isfinite(value)).all():
        row = int((~finite).int().argmax())
        shown = objects[row] if isinstance(objects, Tensor | tuple) else ""
        shown = shown.tolist() if isinstance(shown, Tensor) else shown
        raise ValueError(
            f"the log-reward at index {first + row} is {float(value[row])} (object {shown}): a finite number was "
            "expected; a reward of zero has no logarithm, give it a small positive floor"
        )
    return value.detach()
