"""The baselines of KL-regularised reinforcement learning, as coefficients on log_pf.

One sign throughout, the residual's, model minus target: a loss to be *minimised* is mean(coefficient * log_pf), so a
coefficient is minus an advantage. For REINFORCE with the KL in the reward it is log_ratio - baseline, log_ratio being
log_pf - log_prior - beta * log_reward as everywhere. Coefficients are detached and (batch,), or (batch, steps) where
they differ by step; then the loss is the mean over trajectories of the sum over steps, and steps outside a trajectory
count nothing because their log_pf is 0.

Two things are losses with a gradient of their own: `dpok`, and the KL terms of `kl_terms`.
"""

from __future__ import annotations

from torch import Tensor

from equipoise.objectives.arguments import grids, known, positive, real, rows, shaped
from equipoise.objectives.groups import grouped
from equipoise.objectives.importance import cispo, ppo_clip, ppo_surrogate, self_normalised_weights
from equipoise.objectives.kl_terms import k1, k2, k3
from equipoise.objectives.names import BASELINES
from equipoise.objectives.partition import group_mean, leave_one_out, mean_reward

__all__ = [
    "BASELINES",
    "cispo",
    "dpok",
    "dr_grpo",
    "grpo",
    "k1",
    "k2",
    "k3",
    "mirror_descent",
    "off_policy",
    "original",
    "ppo_clip",
    "ppo_surrogate",
    "reinforce_kl",
    "rloo",
    "self_normalised_weights",
]


def reinforce_kl(log_ratio: Tensor, group: Tensor | None = None, *, baseline: str = "mean") -> Tensor:
    """coefficient = log_ratio - baseline: REINFORCE on the reward beta * log_reward - (log_pf - log_prior).

    Its expected on-policy gradient is that of KL(model||target) for any baseline, hence RTB's; with "mean" the
    coefficients are VarGrad's residuals, with "leave_one_out" RLOO's.

    Source: Deleu et al., 2025, "Relative Trajectory Balance is equivalent to Trust-PCL", arXiv 2509.01632 (their
        corrected baseline).

    Args:
        log_ratio: log_pf - log_prior - beta * log_reward, (batch,), nats.
        group: Ids of conditions, integers (batch,); None: one group.
        baseline: "none", "mean" over the group, or "leave_one_out".

    Returns:
        The coefficient, (batch,), detached.

    Raises:
        ValueError: The baseline is unknown, a group has one row, a log_ratio is not finite, or shapes differ.

    Example:
        >>> import torch
        >>> reinforce_kl(torch.tensor([1.0, 2.0, 6.0]))
        tensor([-2., -1.,  3.])

    Use it as the on-policy yardstick. Off-policy it has no target of its own: see `off_policy`.
    """
    known("baseline", baseline, BASELINES)
    (ratio,) = rows({"log_ratio": log_ratio.detach()})
    if baseline == "none":
        return ratio
    return ratio + (group_mean if baseline == "mean" else leave_one_out)(ratio, group)


def original(
    log_pf: Tensor, log_prior: Tensor, log_reward: Tensor, group: Tensor | None = None, *, kl_weight: float
) -> Tensor:
    """coefficient = -(r - mean r) + 2 kl_weight (log_pf - log_prior), with r = exp(log_reward) and not log r.

    The gradient of mean(-(r - mean r) log_pf + kl_weight (log_pf - log_prior)^2), the RL baseline of RTB's first code.
    Its optimum is prior * exp(r / (2 kl_weight)), which no kl_weight makes RTB's prior * r: the reason it compared ill.

    Source: the code of Venkatraman et al., 2024, arXiv 2405.20971; corrected by Deleu et al., 2025, arXiv 2509.01632.

    Args:
        log_pf: Log-probability of the trajectory under the trained model, (batch,), nats.
        log_prior: The same trajectory's under the frozen prior, (batch,).
        log_reward: Log-reward of the object, (batch,).
        group: Ids of conditions over which r is centred, integers (batch,); None: one group.
        kl_weight: Weight of the squared log-ratio, > 0.

    Returns:
        The coefficient, (batch,), detached.

    Raises:
        ValueError: Shapes differ, kl_weight is not positive, a group has one row, or a reward is not finite.

    Example:
        >>> import torch
        >>> log_pf, log_prior = torch.tensor([-1.0, -1.0]), torch.tensor([-1.0, -3.0])
        >>> original(log_pf, log_prior, torch.tensor([1.0, 3.0]).log(), kl_weight=0.5)
        tensor([1., 1.])

    Use it to reproduce the published comparison, never as a method.
    """
    named = {"log_pf": log_pf.detach(), "log_prior": log_prior.detach(), "log_reward": log_reward.detach()}
    log_pf, log_prior, log_reward = rows(named)
    positive("kl_weight", kl_weight)
    reward = log_reward.exp()
    return mean_reward(reward, group) - reward + 2 * kl_weight * (log_pf - log_prior)


def off_policy(
    log_ratio: Tensor,
    log_pf: Tensor,
    log_behaviour: Tensor,
    group: Tensor | None = None,
    *,
    steps: Tensor | float = 1.0,
    baseline: str = "mean",
) -> Tensor:
    """coefficient = batch * weight * (log_ratio - baseline), weights as in `self_normalised_weights`.

    With steps = 1 the gradient tends to that of KL(model||target) as the batch grows, whoever drew it.

    Source: the off-policy baseline in the code of Deleu et al., 2025, arXiv 2509.01632.

    Args:
        log_ratio: log_pf - log_prior - beta * log_reward, (batch,), nats.
        log_pf: Log-probability of the trajectory under the trained model, (batch,).
        log_behaviour: The same trajectory's under the policy that drew it, (batch,).
        group: Ids of conditions of the baseline, integers (batch,); the weights are the whole batch's.
        steps: What the log of a weight is divided by, > 0; a number, () or (batch,).
        baseline: "none", "mean" or "leave_one_out", unweighted, as published.

    Returns:
        The coefficient, (batch,), detached.

    Raises:
        ValueError: Shapes differ, steps are not positive, or as `reinforce_kl`.

    Example:
        >>> import torch
        >>> log_pf, log_behaviour = torch.tensor([0.2, 0.6]).log(), torch.tensor([0.5, 0.5]).log()
        >>> off_policy(torch.tensor([1.0, 3.0]), log_pf, log_behaviour)
        tensor([-0.5000,  1.5000])

    Use it as the off-policy baseline of RTB; the residuals need no weights at all.
    """
    coefficient = reinforce_kl(log_ratio, group, baseline=baseline)
    shaped("log_pf", log_pf, tuple(coefficient.shape), "the shape of log_ratio")
    return len(coefficient) * self_normalised_weights(log_pf, log_behaviour, steps=steps) * coefficient


def grpo(log_reward: Tensor, group: Tensor | None = None, *, epsilon: float = 1e-4) -> Tensor:
    """coefficient = -(r - mean r) / (std r + epsilon) over the group, r = log_reward, std with B - 1.

    Source: Shao et al., 2024, "DeepSeekMath", arXiv 2402.03300; epsilon and B - 1 as in TRL.

    Args:
        log_reward: The score that is maximised, (batch,).
        group: Ids of conditions, integers (batch,); None: one group.
        epsilon: Added to the standard deviation, > 0.

    Returns:
        The coefficient, (batch,), detached; 0 where a group's scores agree.

    Raises:
        ValueError: A group of one, a score that is not finite, shapes that differ, or epsilon not positive.

    Example:
        >>> import torch
        >>> grpo(torch.tensor([0.0, 1.0, 0.0, 1.0]), epsilon=1e-8)
        tensor([ 0.8660, -0.8660,  0.8660, -0.8660])

    Use it with `ppo_clip` and a k3 term for GRPO. Dividing by the deviation weighs easy and hard conditions up: see
    `dr_grpo`.
    """
    positive("epsilon", epsilon)
    values, groups = grouped("log_reward", log_reward, group)
    centred = values - groups.of_rows(groups.mean(values))
    deviation = (groups.total(centred**2) / (groups.count - 1)).sqrt()
    return (-centred / (groups.of_rows(deviation) + epsilon)).to(real("log_reward", log_reward).dtype)


def dr_grpo(log_reward: Tensor, group: Tensor | None = None) -> Tensor:
    """coefficient = -(r - mean r) over the group: GRPO without the deviation, an expected (1 - 1/B) grad E[-r].

    Source: Liu et al., 2025, "Understanding R1-Zero-Like Training: A Critical Perspective", arXiv 2503.20783.

    Args:
        log_reward: The score that is maximised, (batch,).
        group: Ids of conditions, integers (batch,); None: one group.

    Returns:
        The coefficient, (batch,), detached.

    Raises:
        ValueError: A group of one, a score that is not finite, or shapes that differ.

    Example:
        >>> import torch
        >>> dr_grpo(torch.tensor([0.0, 1.0, 1.0, 2.0]))
        tensor([ 1.,  0.,  0., -1.])

    Use it for GRPO without its bias between conditions; sum over tokens, do not average over a response's length.
    """
    return mean_reward(log_reward, group) - real("log_reward", log_reward).detach()


def rloo(log_reward: Tensor, group: Tensor | None = None) -> Tensor:
    """coefficient = -(r - mean r of the others in the group): an unbiased grad E[-r].

    Source: Kool et al., 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!"; Ahmadian et al., 2024, arXiv
        2402.14740.

    Args:
        log_reward: The score that is maximised, (batch,). For RLOO with the KL inside, `reinforce_kl` with
            baseline="leave_one_out".
        group: Ids of conditions, integers (batch,); None: one group.

    Returns:
        The coefficient, (batch,), detached.

    Raises:
        ValueError: A group of one, a score that is not finite, or shapes that differ.

    Example:
        >>> import torch
        >>> rloo(torch.tensor([0.0, 3.0]))
        tensor([ 3., -3.])

    Use it on-policy with small groups.
    """
    score = real("log_reward", log_reward).detach()
    return -leave_one_out(score, group) - score


def dpok(
    log_pf: Tensor, kl_prior: Tensor, target: Tensor, group: Tensor | None = None, *, baseline: str = "mean"
) -> Tensor:
    """loss = sum_t kl_t + sum_t sg[-(target - baseline) + sum_{u>t} kl_u] log_pf_t: the KL of each step in closed form.

    Its expected on-policy gradient is that of KL(model||target). Where each step's KL is differentiated alone, as DPOK
    is usually written (not checked against the paper), the KL of later steps is missing, though a step chooses where
    they start: that optimum is another as soon as there are two steps.

    Source: Fan et al., 2023, "DPOK: Reinforcement Learning for Fine-tuning Text-to-Image Diffusion Models", arXiv
        2305.16381; the KL to go is derived here.

    Args:
        log_pf: Log-probability of each step under the trained model, (batch, steps), nats, with its gradient.
        kl_prior: KL of the model's step distribution to the prior's in the state visited, (batch, steps), with its
            gradient; 0 outside the trajectory.
        target: beta * log_reward, (batch,).
        group: Ids of conditions of the baseline, integers (batch,); None: one group.
        baseline: "none", "mean" over the group, or "leave_one_out".

    Returns:
        The loss, (batch,), differentiable; its value is not that of an objective.

    Raises:
        ValueError: Shapes differ, the baseline is unknown, a group has one row, or a target is not finite.

    Example:
        >>> import torch
        >>> log_pf, kl_prior = torch.tensor([[-1.0, -1.0]]), torch.tensor([[0.5, 0.25]])
        >>> dpok(log_pf, kl_prior, torch.tensor([2.0]), baseline="none")
        tensor([4.5000])

    Use it on-policy where a step's KL has a closed form, as between Gaussians of equal variance.
    """
    log_pf, kl_prior = grids({"log_pf": log_pf, "kl_prior": kl_prior})
    target = shaped("target", target, (len(log_pf),), "(batch,)")
    kl_to_go = kl_prior.sum(1, keepdim=True) - kl_prior.cumsum(1)
    coefficient = (reinforce_kl(-target, group, baseline=baseline)[:, None] + kl_to_go).detach()
    return (kl_prior + coefficient * log_pf).sum(1)


def mirror_descent(log_pf: Tensor, log_iterate: Tensor, target: Tensor, group: Tensor | None = None) -> Tensor:
    """residual = log_pf - log_iterate - target + mean target: RTB with the current iterate for prior and a cheap log Z.

    Half its square is minimised before the iterate moves on, so that the model drifts from its first prior: after n
    iterates the target is the first one times exp(n * target). The mean target stands for log Z.

    Source: Kimi Team, 2025, "Kimi k1.5: Scaling Reinforcement Learning with LLMs", arXiv 2501.12599 (times their tau).

    Args:
        log_pf: Log-probability of the trajectory under the trained model, (batch,), nats, with its gradient.
        log_iterate: The same trajectory's under the iterate that drew it, frozen, (batch,).
        target: log_reward / tau, (batch,).
        group: Ids of conditions, integers (batch,); None: one group.

    Returns:
        The residual, (batch,), differentiable in log_pf.

    Raises:
        ValueError: Shapes differ, a group has one row, or a target is not finite.

    Example:
        >>> import torch
        >>> log_pf = torch.tensor([-1.0, -1.0])
        >>> mirror_descent(log_pf, log_pf, torch.tensor([0.0, 2.0]))
        tensor([ 1., -1.])

    Use it to reproduce Kimi's policy optimisation; with more than one update of an iterate the residuals do not sum to
    0, which `partition.group_mean` mends.
    """
    log_pf, log_iterate, target = rows({"log_pf": log_pf, "log_iterate": log_iterate, "target": target})
    return (log_pf - log_iterate) - target + mean_reward(target, group)
