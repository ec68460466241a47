"""The task of strings of molecular blocks by their HOMO-LUMO gap."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from equipoise import data
from equipoise.contracts import Reward
from equipoise.discrete.environments.strings import GROWTH
from equipoise.discrete.judge import rewards_of
from equipoise.recipes import discrete_configuration
from equipoise.recipes.discrete import DiscreteRun, build, mass_at_least
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.recipes.scores import read_scores
from equipoise.recipes.strings import lettered, table_reward

BLOCKS, LENGTH = "0123456789a", 5
MODES = 4.007
"""The least reward of the best 0.5 %, 805 strings."""


def qm9_strings(config: discrete_configuration.QM9Strings, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on strings of 5 blocks; the exact target has log Z 11.926702 and mean reward 2.032139.

    Source: Shen et al. 2023, arXiv:2305.07170.

    Raises:
        ValueError: the data cannot be found, or are not those that were published.
    """
    environment = GROWTH[config.growth](letters=len(BLOCKS), length=LENGTH)
    if reward is not None or config.reward != "gap":
        chosen = own_reward(config.reward) if reward is None else wrapped(reward)
        return build(config, environment, chosen, show=lettered(BLOCKS))
    asked = (rewards_of, mass_at_least(MODES))
    return build(config, environment, gap_reward(config.data), show=lettered(BLOCKS), asked=asked)


def gap_reward(folder: Path | None = None) -> Reward:
    """log R, R = 100 max(y, 1e-3)^5 / max, y the predicted gap."""
    gap = read_scores(data.find("qm9_strings", folder), letters=len(BLOCKS), length=LENGTH, what="gaps")
    power = 5 * torch.log(gap.double().clamp(min=1e-3))
    return table_reward(power - power.max() + torch.log(torch.tensor(100.0)), letters=len(BLOCKS))
