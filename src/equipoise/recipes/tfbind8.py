"""The TFBind8 task: 65,536 real measurements, so that a sampler is judged exactly against them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from torch import Tensor

from equipoise import data
from equipoise.contracts import Reward
from equipoise.discrete.environments.strings import GROWTH
from equipoise.discrete.judge import rewards_of
from equipoise.recipes import configuration
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.recipes.strings import lettered, table_reward


def tfbind8(config: configuration.TFBind8, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on DNA 8-mers.

    Source: the reward of Shen et al. 2023, arXiv:2305.07170; measurements of Barrera et al. 2016.

    Raises:
        ValueError: the data cannot be found, or are not those that were measured.
    """
    environment = GROWTH[config.growth](letters=4, length=8)
    return build(config, environment, _reward(config, reward), show=lettered("ACGT"), asked=(rewards_of,))


def measured_reward(folder: Path | None = None) -> Reward:
    """log R of DNA 8-mers, R = max(10 y^3 / max y^3, 1e-3), y the measured binding."""
    scores = torch.from_numpy(numpy.load(data.find("tfbind8", folder), allow_pickle=False)).double()
    return table_reward(torch.log(torch.clamp(10 * scores**3 / scores.max() ** 3, min=1e-3)), letters=4)


def _reward(config: configuration.TFBind8, given: Callable[..., Tensor] | None) -> Reward:
    if given is not None:
        return wrapped(given)
    return measured_reward(config.data) if config.reward == "measured" else own_reward(config.reward)
