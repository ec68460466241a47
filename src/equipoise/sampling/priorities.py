"""By what a store of groups draws rows: log-weights of the rows of one condition."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

GroupPriority = Callable[[Tensor, Tensor], Tensor]
"""(log_reward, age) -> log-weight, (n,) each; age is how many rows were stored since, from 0."""


def uniform_rows(log_reward: Tensor, age: Tensor) -> Tensor:
    """Every row alike.

    Example:
        >>> uniform_rows(torch.tensor([0.0, 1.0]), torch.tensor([1, 0])).tolist()
        [0.0, 0.0]
    """
    return torch.zeros(len(log_reward), dtype=torch.float64)


def softmax_reward(inverse_temperature: float = 1.0) -> GroupPriority:
    """Rows in proportion to exp(inverse_temperature * log_reward).

    Source: Bartoldson et al., 2025, arXiv 2503.18929, section 4: softmax of the score, or uniform (0).

    Args:
        inverse_temperature: finite; negative draws what was badly rewarded.

    Example:
        >>> softmax_reward(2.0)(torch.tensor([0.0, 1.0]), torch.tensor([1, 0])).tolist()
        [0.0, 2.0]
    """

    def priority(log_reward: Tensor, age: Tensor) -> Tensor:
        return inverse_temperature * log_reward.double()

    return priority


def recency(half_life: float) -> GroupPriority:
    """Rows in proportion to 2^(-age / half_life).

    Args:
        half_life: rows stored after which a row is drawn half as often, > 0.

    Raises:
        ValueError: not positive.

    Example:
        >>> [round(value, 4) for value in recency(2.0)(torch.zeros(2), torch.tensor([2, 0])).exp().tolist()]
        [0.5, 1.0]
    """
    if not half_life > 0:
        raise ValueError(f"half_life is {half_life}: a positive number of rows was expected")

    def priority(log_reward: Tensor, age: Tensor) -> Tensor:
        return -age.double() * (torch.log(torch.tensor(2.0, dtype=torch.float64)) / half_life)

    return priority
