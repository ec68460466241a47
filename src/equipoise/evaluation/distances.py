"""Distances between a sampler's own distribution and its target, over a space that can be listed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST = torch.finfo(torch.float64).tiny
"""What a probability that underflows counts as in a logarithm: a KL of an object never drawn is large, not infinite."""


def compare(model: Tensor, log_target: Tensor, log_reward: Tensor, log_z: float) -> dict[str, float]:
    """How far a distribution is from exp(log_target) / Z.

    `total_variation` is half of `l1`, which is a sum over objects (some papers print the mean over objects instead).

    Args:
        model: (objects,) the sampler's probability of each object.
        log_target: (objects,) log of the unnormalised target, in nats.
        log_reward: (objects,) log R, of which the mean reward is E[exp].
        log_z: the sampler's estimate of log Z.

    Returns:
        total_variation, l1, reverse_kl (of model from target), forward_kl (of target from model), jensen_shannon
        (nats), log_z, log_z_exact, log_z_error (estimate minus exact), mean_reward, mean_reward_exact.

    Example:
        >>> import torch
        >>> log_reward = torch.tensor([3.0, 1.0], dtype=torch.float64).log()
        >>> round(compare(torch.tensor([0.5, 0.5]), log_reward, log_reward, 1.0)["l1"], 6)
        0.5
    """
    model, log_target, reward = model.double(), log_target.double(), log_reward.double().exp()
    log_z_exact = float(torch.logsumexp(log_target, 0))
    target = torch.softmax(log_target, 0)
    l1 = float((model - target).abs().sum())
    return {
        "total_variation": l1 / 2,
        "l1": l1,
        "reverse_kl": kl(model, target),
        "forward_kl": kl(target, model),
        "jensen_shannon": jensen_shannon(model, target),
        "log_z": log_z,
        "log_z_exact": log_z_exact,
        "log_z_error": log_z - log_z_exact,
        "mean_reward": float((model * reward).sum()),
        "mean_reward_exact": float((target * reward).sum()),
    }


def kl(first: Tensor, second: Tensor) -> float:
    """KL(first | second) = sum p log(p / q), in nats; probabilities below the least float64 count as that.

    Args:
        first: (objects,) probabilities p.
        second: (objects,) probabilities q.

    Example:
        >>> import torch
        >>> round(kl(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])), 6)
        0.693147
    """
    first, second = first.double(), second.double()
    return float((first * (first.clamp(min=LEAST).log() - second.clamp(min=LEAST).log())).sum())


def jensen_shannon(first: Tensor, second: Tensor) -> float:
    """Half of each one's KL from their mean, from 0 to log 2.

    Source: Lin, 1991, "Divergence Measures Based on the Shannon Entropy".

    Example:
        >>> import torch
        >>> round(jensen_shannon(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])), 6)
        0.693147
    """
    mean = (first.double() + second.double()) / 2
    return (kl(first, mean) + kl(second, mean)) / 2


def sampled_l1(count: Tensor, target: Tensor) -> float:
    """L1 distance, summed over objects, of a sample's empirical law to its target: what papers plot.

    Args:
        count: (objects,) how often each was drawn.
        target: (objects,) probabilities.

    Example:
        >>> import torch
        >>> sampled_l1(torch.tensor([2, 0]), torch.tensor([0.5, 0.5]))
        1.0

    Far above 0 for a perfect sampler where objects are many: give `l1_floor` beside it, or the exact `l1` in its place.
    """
    share = count.double() / count.sum()
    return float((share - target.double()).abs().sum())


def l1_floor(target: Tensor, n: int) -> float:
    """The expected `sampled_l1` of n independent draws from the target itself, in closed form.

    Each count is binomial, whose mean absolute deviation is 2 v C(n, v) p^v (1 - p)^(n - v + 1), v = floor(np) + 1.

    Source: De Moivre, 1730; Diaconis and Zabell, 1991, "Closed Form Summation for Classical Distributions".

    Args:
        target: (objects,) probabilities, summing to 1.
        n: draws.

    Example:
        >>> import torch
        >>> l1_floor(torch.tensor([0.5, 0.5]), 1)
        1.0
    """
    p = target.double()
    p = p[(p > 0) & (p < 1)]
    over = torch.floor(n * p) + 1
    log_ways = math.lgamma(n + 1) - torch.lgamma(over) - torch.lgamma(n - over + 1)
    log_deviation = log_ways + over * p.log() + (n - over + 1) * torch.log1p(-p)
    return float(2 * log_deviation.exp().sum()) / n
