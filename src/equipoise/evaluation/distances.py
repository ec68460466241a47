"""Distances between a sampler's own distribution and its target, over a space that can be listed."""

from __future__ import annotations

import torch
from torch import Tensor


def compare(model: Tensor, log_target: Tensor, log_reward: Tensor, log_z: float) -> dict[str, float]:
    """How far a distribution is from exp(log_target) / Z.

    `total_variation` is half of `l1`, which is a sum over objects (some papers print the mean over objects instead).

    Args:
        model: (objects,) the sampler's probability of each object.
        log_target: (objects,) log of the unnormalised target, in nats.
        log_reward: (objects,) log R, of which the mean reward is E[exp].
        log_z: the sampler's estimate of log Z.

    Returns:
        total_variation, l1, log_z, log_z_exact, log_z_error (estimate minus exact), mean_reward, mean_reward_exact.

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
        "log_z": log_z,
        "log_z_exact": log_z_exact,
        "log_z_error": log_z - log_z_exact,
        "mean_reward": float((model * reward).sum()),
        "mean_reward_exact": float((target * reward).sum()),
    }
