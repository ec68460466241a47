"""The task of DNA 10-mers by their binding, from a user's file."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.discrete.environments.strings import GROWTH
from equipoise.discrete.judge import rewards_of
from equipoise.recipes import discrete_configuration
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.rewards import wrapped
from equipoise.recipes.scores import read_scores
from equipoise.recipes.strings import lettered, table_reward


def tfbind10(config: discrete_configuration.TFBind10, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on DNA 10-mers; R = 10 expit(3 y)^3 / max.

    Source: Shen et al. 2023, arXiv:2305.07170; measurements of Barrera et al. 2016, TFBind10 of Design-Bench.

    Raises:
        ValueError: no table, or one off its format.
    """
    environment = GROWTH[config.growth](letters=4, length=10)
    if reward is not None:
        return build(config, environment, wrapped(reward), show=lettered("ACGT"))
    scores = read_scores(config.table, letters=4, length=10, what="the scores of all DNA 10-mers")
    power = 3 * functional.logsigmoid(3 * scores.double())
    chosen = table_reward(power - power.max() + torch.log(torch.tensor(10.0)), letters=4)
    return build(config, environment, chosen, show=lettered("ACGT"), asked=(rewards_of,))
