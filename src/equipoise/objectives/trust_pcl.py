"""Trust-PCL: path consistency of KL-regularised reinforcement learning, and its translation to RTB.

On a deterministic problem whose only reward is log R(x) at the end, with temperature alpha = 1 / beta and soft value
V(s_0) = alpha log Z,

    consistency = -V(s_0) + log R - alpha (log_pf - log_prior) = -alpha * (relative trajectory balance),

so half its square is alpha^2 times RTB's, trajectory by trajectory and on any samples. The objectives are equivalent;
the algorithms are not: Trust-PCL as published lets the reference lag, replays, and discounts. Gradients in the policy
scale by alpha^2, in V by alpha, so with V a parameter equal learning rates are not RTB's.

Source: Nachum et al., 2018, "Trust-PCL: An Off-Policy Trust Region Method for Continuous Control", arXiv 1707.01891;
        Nachum et al., 2017, "Bridging the Gap Between Value and Policy Based Reinforcement Learning", arXiv 1702.08892;
        the equivalence: Deleu et al., 2025, "Relative Trajectory Balance is equivalent to Trust-PCL", arXiv 2509.01632.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from equipoise.objectives.arguments import constant, finite, grids, lengths, positive, rows
from equipoise.objectives.edges import per_state, within
from equipoise.objectives.segments import differences, segment_weights

__all__ = ["consistency", "path_consistency", "rtb_to_trust_pcl_params", "trust_pcl_to_rtb_params"]

Number = TypeVar("Number", float, Tensor)


def rtb_to_trust_pcl_params(logZ: Number, beta: Number) -> dict[str, Number]:
    """alpha = 1 / beta and v_soft_s0 = log Z / beta.

    Source: Deleu et al., 2025, arXiv 2509.01632.

    Args:
        logZ: Log-partition function of prior x R^beta, nats; a number or a tensor of any shape.
        beta: Exponent of the reward, > 0; a number or a tensor.

    Returns:
        {"alpha": ..., "v_soft_s0": ...}: numbers from numbers, tensors from tensors, differentiable.

    Raises:
        ValueError: beta is not positive, or a value is not finite.

    Example:
        >>> rtb_to_trust_pcl_params(2.0, 0.5)
        {'alpha': 2.0, 'v_soft_s0': 4.0}

    Use it to compare runs of the two; only at initialisation do equal learning rates keep them in step.
    """
    finite("logZ", logZ)
    positive("beta", beta)
    return {"alpha": 1 / beta, "v_soft_s0": logZ / beta}


def trust_pcl_to_rtb_params(alpha: Number, v_soft_s0: Number) -> dict[str, Number]:
    """beta = 1 / alpha and log Z = v_soft_s0 / alpha: the inverse of `rtb_to_trust_pcl_params`.

    Source: Deleu et al., 2025, arXiv 2509.01632.

    Args:
        alpha: Temperature of the KL, > 0; a number or a tensor of any shape.
        v_soft_s0: Soft value of the initial state, in the unit of the reward; a number or a tensor.

    Returns:
        {"beta": ..., "logZ": ...}: numbers from numbers, tensors from tensors, differentiable.

    Raises:
        ValueError: alpha is not positive, or a value is not finite.

    Example:
        >>> trust_pcl_to_rtb_params(2.0, 4.0)
        {'beta': 0.5, 'logZ': 2.0}

    Use it to read a trained soft value as a log-partition function.
    """
    positive("alpha", alpha)
    finite("v_soft_s0", v_soft_s0)
    return {"beta": 1 / alpha, "logZ": v_soft_s0 / alpha}


def consistency(
    v_soft: Tensor | float, log_pf: Tensor, log_prior: Tensor, log_reward: Tensor, alpha: Tensor | float
) -> Tensor:
    """C = -V(s_0) + V(s_T) + sum of rewards - (tau + lambda) log_pf + lambda log_prior, for whole trajectories.

    Here the only reward is log R at the end, V(s_T) = 0, nothing is discounted, the entropy coefficient tau is 0 and
    that of the KL, lambda, is alpha. Note the sign, Trust-PCL's own: target minus model.

    Source: Nachum et al., 2018, arXiv 1707.01891.

    Args:
        v_soft: Soft value of the initial state, () or (batch,), in the unit of the reward.
        log_pf: Log-probability of the trajectory under the trained model, (batch,), nats.
        log_prior: The same trajectory's under the reference, (batch,), nats.
        log_reward: The reward of RL, log R of the object, (batch,).
        alpha: Temperature of the KL, > 0; a number, () or (batch,).

    Returns:
        The consistency, (batch,), in at least float32.

    Raises:
        ValueError: Shapes differ, or alpha is not positive and finite.

    Example:
        >>> import torch
        >>> prior, reward = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 3.0])
        >>> v_soft = 0.5 * torch.tensor(5.0).log()
        >>> consistency(v_soft, (prior * reward**2 / 5).log(), prior.log(), reward.log(), 0.5).abs() < 1e-6
        tensor([True, True])

    Use it to check one method against the other. A divergence that is not symmetric wants the residual's sign:
    give it -C / alpha.
    """
    log_pf, log_prior, log_reward = rows({"log_pf": log_pf, "log_prior": log_prior, "log_reward": log_reward})
    positive("alpha", alpha)
    temperature = constant("alpha", alpha, len(log_pf))
    regularised = log_reward - temperature * log_pf + temperature * log_prior
    return regularised - constant("v_soft", v_soft, len(log_pf))


def path_consistency(
    value: Tensor, log_pf: Tensor, reward: Tensor, length: Tensor, *, alpha: float, weighting: str = "equal_within"
) -> tuple[Tensor, Tensor]:
    """C of a segment i < j = -V(s_i) + V(s_j) + sum_{i<=t<j} (reward_t - alpha log_pf_t), V = 0 at the end.

    With reward = alpha log_pb, plus log R at the last step, and V = alpha log F it is -alpha times sub-trajectory
    balance.

    Source: Nachum et al., 2017, arXiv 1702.08892; the correspondence: Deleu et al., 2024, "Discrete Probabilistic
        Inference as Control in Multi-path Environments", arXiv 2402.10309.

    Args:
        value: Soft value of the states, (batch, steps + 1), in the unit of the reward; not read at `length`.
        log_pf: Log-probability of each step, (batch, steps), nats.
        reward: Reward of each step, (batch, steps).
        length: Steps of each trajectory, integers (batch,), from 1.
        alpha: Temperature of the entropy, > 0.
        weighting: As in `residuals.sub_trajectory_balance`.

    Returns:
        Consistencies and weights, (batch, steps * (steps + 1) / 2), segments in the order of `torch.triu_indices`.

    Raises:
        ValueError: Shapes differ, a length lies outside 1 .. steps, the weighting is unknown, or alpha is not positive.

    Example:
        >>> import torch
        >>> value, log_pf = torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[-0.5, -0.5]])
        >>> path_consistency(value, log_pf, torch.zeros(1, 2), torch.tensor([2]), alpha=1.0)[0]
        tensor([[0., 0., 0.]])

    Use it to reproduce PCL; rewards that leave out log_pb count an object once for each path to it.
    """
    log_pf, reward = grids({"log_pf": log_pf, "reward": reward})
    lengths(length, *log_pf.shape)
    positive("alpha", alpha)
    inside = within(length, log_pf)
    gains = torch.where(inside, reward - alpha * log_pf, 0.0)
    value = torch.nn.functional.pad(torch.where(inside, per_state("value", value, log_pf)[:, :-1], 0.0), (0, 1))
    return differences(-value, gains, length), segment_weights(length, log_pf, weighting, 1.0)
