"""Residuals: how far a trajectory is from balance, log model minus log target, in nats. Always this sign.

A residual of 0 on every trajectory that covers the target means that the model draws x with probability proportional to
the target. A residual becomes a loss by a divergence (`divergences`); the half square is the reverse KL's. Here are the
residuals of whole trajectories, one number a row; `edges` and `segments` hold those of single steps, states and
segments, which come with weights that say how a row's residuals share its loss. Without its log_z a residual is a
`log_ratio`, what the estimators of `partition` read.

Nothing here detaches: what a loss should not train, its caller detaches.
"""

from __future__ import annotations

from torch import Tensor

from equipoise.objectives.arguments import between, constant, positive, rows, same_shape
from equipoise.objectives.edges import (
    detailed_balance,
    flow_matching,
    forward_looking_balance,
    modified_detailed_balance,
    soft_q,
)
from equipoise.objectives.segments import sub_trajectory_balance

__all__ = [
    "detailed_balance",
    "flow_matching",
    "forward_looking_balance",
    "guided_trajectory_balance",
    "modified_detailed_balance",
    "pairwise",
    "relative_trajectory_balance",
    "soft_q",
    "sub_trajectory_balance",
    "trajectory_balance",
]


def trajectory_balance(log_z: Tensor | float, log_pf: Tensor, log_pb: Tensor, log_reward: Tensor) -> Tensor:
    """residual = log_z + log_pf - log_pb - log_reward: zero on every trajectory when p(x) = R(x) / Z.

    Source: Malkin et al., 2022, "Trajectory Balance: Improved Credit Assignment in GFlowNets", arXiv 2201.13259
        (log-ratio and square there; one half of the square is ours).

    Args:
        log_z: Estimate of the log-partition function, () or (batch,), nats. Zero gives the log-ratio.
        log_pf: Log-probability of the trajectory in the generating direction, (batch,).
        log_pb: Log-probability of the path given its object under the backward policy, (batch,).
        log_reward: Log-reward of the object, times its exponent where it has one, (batch,).

    Returns:
        The residual, (batch,), in at least float32.

    Raises:
        ValueError: Shapes differ.

    Example:
        >>> import torch
        >>> log_pf, log_pb = torch.tensor([0.25, 0.75]).log(), torch.zeros(2)
        >>> reward = torch.tensor([1.0, 3.0])
        >>> trajectory_balance(torch.tensor(4.0).log(), log_pf, log_pb, reward.log())
        tensor([0., 0.])

    Use it where trajectories are short enough to be judged whole. A log_z that lags behind shifts all residuals alike:
    give it a learning rate of its own, or take it from the batch.
    """
    log_pf, log_pb, log_reward = rows({"log_pf": log_pf, "log_pb": log_pb, "log_reward": log_reward})
    return constant("log_z", log_z, len(log_pf)) + (log_pf - log_pb) - log_reward


def relative_trajectory_balance(
    log_z: Tensor | float, log_pf: Tensor, log_prior: Tensor, log_reward: Tensor, beta: Tensor | float
) -> Tensor:
    """residual = log_z + log_pf - log_prior - beta * log_reward: zero when p(tau) = prior(tau) R(x)^beta / Z.

    The noising or backward policy cancels: only the ratio of model and prior along the path enters.

    Source: Venkatraman et al., 2024, "Amortizing Intractable Inference in Diffusion Models for Vision, Language, and
        Control", arXiv 2405.20971.

    Args:
        log_z: Estimate of the log-partition function of prior x R^beta, () or (batch,), nats.
        log_pf: Log-probability of the trajectory under the trained model, (batch,).
        log_prior: The same trajectory's under the frozen prior, (batch,).
        log_reward: Log-reward of the object, before beta, (batch,).
        beta: Exponent of the reward, > 0; a number, () or (batch,). 1 / beta is the temperature of the KL.

    Returns:
        The residual, (batch,), in at least float32.

    Raises:
        ValueError: Shapes differ, or beta is not positive and finite.

    Example:
        >>> import torch
        >>> prior, reward = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 3.0])
        >>> posterior = prior * reward**2 / 5
        >>> log_z = torch.tensor(5.0).log()
        >>> relative_trajectory_balance(log_z, posterior.log(), prior.log(), reward.log(), 2.0).abs() < 1e-6
        tensor([True, True])

    Use it to tune a pre-trained sampler. It is Trust-PCL's consistency times -beta (`trust_pcl`); what it converges to
    is the prior *model* times the reward, misfit of the prior included.
    """
    log_pf, log_prior, log_reward = rows({"log_pf": log_pf, "log_prior": log_prior, "log_reward": log_reward})
    positive("beta", beta)
    target = constant("beta", beta, len(log_pf)) * log_reward
    return constant("log_z", log_z, len(log_pf)) + (log_pf - log_prior) - target


def guided_trajectory_balance(
    log_z: Tensor | float, log_pf: Tensor, log_pb: Tensor, log_guide: Tensor, log_reward: Tensor, *, mix: float
) -> Tensor:
    """residual = log_z + log_pf - (log_reward + mix * log_guide + (1 - mix) * log_pb).

    The guide is any distribution over the trajectories that end in x; it need not be Markov and may change while the
    model trains, since for each of them the balanced model still draws x with probability R(x) / Z when mix is 1.

    Source: Shen et al., 2023, "Towards Understanding and Improving GFlowNet Training", arXiv 2305.07170, eq. 5-7; the
        alpha there is `mix`, the `target_mix_backpolicy_weight` of their code 1 - mix.

    Args:
        log_z: Estimate of the log-partition function, () or (batch,), nats.
        log_pf: Log-probability of the trajectory in the generating direction, (batch,).
        log_pb: Log-probability of the path given its object under the backward policy, (batch,). Detach it: a term of
            its own fits it to the guide, trajectory_balance(0, log_pb, log_guide, zeros).
        log_guide: The same path's under the guide, (batch,).
        log_reward: Log-reward of the object, times its exponent where it has one, (batch,).
        mix: Share of the guide, from 0 (trajectory balance) to 1.

    Returns:
        The residual, (batch,), in at least float32.

    Raises:
        ValueError: Shapes differ, or mix lies outside [0, 1].

    Example:
        >>> import torch
        >>> half, third = torch.tensor([0.5]).log(), torch.tensor([1 / 3]).log()
        >>> guided_trajectory_balance(0.0, half, third, half, torch.zeros(1), mix=1.0)
        tensor([0.])

    Use it to send credit to the parts that good objects share. Between 0 and 1 the mixture is not normalised over a
    path's rivals, so the model's marginal is exact only once log_pb has met the guide.
    """
    named = {"log_pf": log_pf, "log_pb": log_pb, "log_guide": log_guide, "log_reward": log_reward}
    log_pf, log_pb, log_guide, log_reward = rows(named)
    between("mix", mix, 0.0, 1.0)
    backward = mix * log_guide + (1 - mix) * log_pb
    return constant("log_z", log_z, len(log_pf)) + (log_pf - backward) - log_reward


def pairwise(first: Tensor, second: Tensor) -> Tensor:
    """residual of a pair = log_ratio of the first minus log_ratio of the second: log Z cancels.

    The mean of a quarter of its square over all ordered pairs of a batch is half the batch's variance, so this is
    VarGrad taken two rows at a time. In a logistic loss in place of a squared one the same difference is DPO's margin.

    Source: Venkatraman et al., 2024, arXiv 2405.20971 (their code's back-and-forth pairs); Rafailov et al., 2023,
        "Direct Preference Optimization", arXiv 2305.18290.

    Args:
        first: Log-ratios, or residuals that share their log_z, any shape, nats.
        second: Those of the partners, the same shape; both of one condition.

    Returns:
        The difference, in at least float32.

    Raises:
        ValueError: Shapes differ.

    Example:
        >>> import torch
        >>> pairwise(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0]))
        tensor([ 0.5000, -1.0000])

    Use it where rows come in pairs, one from each of two sources. Its on-policy gradient is twice that of the KL,
    since both rows are trained; `partition.pairwise` is the estimator that detaches the partner.
    """
    first, second = same_shape({"first": first, "second": second})
    return first - second
