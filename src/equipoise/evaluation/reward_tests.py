"""Whether a sample's rewards are those of the target: its mean, and the Anderson-Darling test, with their floors.

Source: Shen et al., 2023, "Towards Understanding and Improving GFlowNet Training", arXiv 2305.07170, section 3: for
spaces where the target's rewards are known and the sampler's probabilities are not. Equal rewards are necessary, not
sufficient: a sampler may have the target's rewards and miss half of its objects.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

CRITICAL = 1.961
"""The statistic's critical value at 5 % for two samples, of Scholz and Stephens, 1987, table 1 interpolated."""

MOST_TARGET = 100_000
"""Draws of the target that a sample is tested against, at most (Shen et al. 2023)."""


def relative_mean_error(reward: Tensor, target_mean: float) -> float:
    """(mean of the sample's rewards - target's mean) / target's mean.

    Args:
        reward: (n,) R of the sample.
        target_mean: E[R] under the target, (sum R^2) / (sum R) where that is R / Z.

    Example:
        >>> import torch
        >>> relative_mean_error(torch.tensor([1.0, 2.0]), 2.0)
        -0.25
    """
    return float(reward.double().mean()) / target_mean - 1


def mean_error_floor(target: Tensor, reward: Tensor, n: int) -> float:
    """What a perfect sampler's absolute `relative_mean_error` comes to with n draws: sqrt(2 / pi) standard errors.

    Args:
        target: (objects,) probabilities.
        reward: (objects,) R.
        n: draws.

    Example:
        >>> import torch
        >>> even = torch.tensor([0.5, 0.5])
        >>> round(mean_error_floor(even, torch.tensor([1.0, 3.0]), 100), 4)
        0.0399
    """
    target, reward = target.double(), reward.double()
    mean = (target * reward).sum()
    variance = (target * (reward - mean).square()).sum()
    return float((2 / math.pi * variance / n).sqrt() / mean)


def anderson_darling(sample: Tensor, target: Tensor) -> float:
    """The two-sample Anderson-Darling statistic of rewards, over its critical value at 5 %: below 1, not rejected.

    Two samples of one distribution have a mean of 0 and a standard deviation of about a half, and pass 1 once in
    twenty; far from the target it grows as the size of the samples.

    Source: Scholz and Stephens, 1987, "K-Sample Anderson-Darling Tests", eq. 7 (midranks, for ties); scaled as in
        Shen et al., 2023, arXiv 2305.07170.

    Args:
        sample: (n,) rewards of the sampler's objects.
        target: (m,) rewards of draws from the target.

    Raises:
        ValueError: rewards that are all equal, or fewer than two in a sample: there is nothing to compare.
        ImportError: scipy is not installed.

    Example:
        >>> import torch
        >>> anderson_darling(torch.arange(50.0), torch.arange(50.0) + 40) > 1
        True

    Use it beside the exact distances where there are some: it sees rewards, never objects.
    """
    try:
        from scipy.stats import anderson_ksamp
    except ImportError as error:
        raise ImportError("the Anderson-Darling test needs scipy: pip install 'equipoise[discrete]'") from error
    pair = [sample.double().numpy(), target.double().numpy()]
    if min(map(len, pair)) < 2 or bool((torch.cat([sample, target]) == sample[0]).all()):
        raise ValueError(f"{len(sample)} and {len(target)} rewards: two or more of each, not all equal, were expected")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of p-values beyond its table, and of names that scipy changes
        found: Any = anderson_ksamp(pair)
    return float(found.statistic) / CRITICAL


def reward_tests(
    model: Tensor, target: Tensor, reward: Tensor, *, n: int = 6400, floors: int = 5, seed: int = 0
) -> dict[str, float]:
    """Both tests of n draws from a distribution over listed objects, each beside a perfect sampler's.

    Drawing from the sampler's own exact distribution is drawing from the sampler; 6,400 is the published protocol.

    Args:
        model: (objects,) the sampler's probabilities.
        target: (objects,) the target's.
        reward: (objects,) R, of which there are two values at least.
        n: draws.
        floors: perfect samples whose mean statistic is the floor of the Anderson-Darling test.
        seed: of the draws.

    Returns:
        sampled_mean_reward; sampled_mean_error, relative and signed, with sampled_mean_error_floor, its absolute value
        for a perfect sampler; anderson_darling with anderson_darling_floor.

    Raises:
        ImportError: scipy is not installed.

    Example:
        >>> import torch
        >>> even = torch.full((1000,), 1e-3)
        >>> found = reward_tests(even, even, torch.linspace(1, 2, 1000))
        >>> found["anderson_darling"] < 1 and abs(found["sampled_mean_error"]) < 5 * found["sampled_mean_error_floor"]
        True
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(share: Tensor, size: int) -> Tensor:
        return reward[torch.multinomial(share.double(), size, replacement=True, generator=generator)].double()

    sample, wanted = drawn(model, n), drawn(target, min(len(target), MOST_TARGET))
    perfect = [anderson_darling(drawn(target, n), wanted) for _ in range(floors)]
    mean = float((target.double() * reward.double()).sum())
    return {
        "sampled_mean_reward": float(sample.mean()),
        "sampled_mean_error": relative_mean_error(sample, mean),
        "sampled_mean_error_floor": mean_error_floor(target, reward, n),
        "anderson_darling": anderson_darling(sample, wanted),
        "anderson_darling_floor": sum(perfect) / floors,
    }
