"""The task of strings of fragments by their binding to sEH, from a user's file."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from equipoise.discrete.environments.strings import GROWTH
from equipoise.recipes import discrete_configuration
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.rewards import wrapped
from equipoise.recipes.scores import read_scores
from equipoise.recipes.strings import lettered, table_reward

FRAGMENTS, LENGTH = "0123456789abcdefgh", 6


def seh_strings(config: discrete_configuration.SEHStrings, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on strings of 6 fragments; R = 10 max(y, 1e-3)^6 / max.

    The space is too large for a small machine to list, so that samples are judged, beside the target's exact figures.

    Source: Shen et al. 2023, arXiv:2305.07170.

    Raises:
        ValueError: no table, or one off its format.
    """
    environment = GROWTH[config.growth](letters=len(FRAGMENTS), length=LENGTH)
    if reward is not None:
        return build(config, environment, wrapped(reward), show=lettered(FRAGMENTS))
    log_reward = read_scores(config.table, letters=len(FRAGMENTS), length=LENGTH, what="predictions of all strings")
    log_reward.clamp_(min=1e-3).log_().mul_(6)  # in place: the table is of 34 million numbers
    log_reward.add_(math.log(10) - float(log_reward.max()))

    def log_z(beta: float) -> float:
        parts = [torch.logsumexp(beta * part.double(), 0) for part in log_reward.split(1 << 22)]
        return float(torch.logsumexp(torch.stack(parts), 0))

    chosen = table_reward(log_reward, letters=len(FRAGMENTS))
    return build(config, environment, chosen, show=lettered(FRAGMENTS), total=log_z)
