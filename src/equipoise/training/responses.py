"""Published losses of post-training by groups of responses, as terms beside the balance terms.

Each takes what its own paper takes: where the KL goes, how tokens are averaged, at which level ratios are clipped. All
read `fixed["log_behaviour"]` where they correct for who drew a response.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equipoise.contracts import Sampler
from equipoise.objectives import importance, kl_terms, policy_gradient, preferences
from equipoise.training.balance import informative_groups
from equipoise.training.policy_gradient import behaviour_of
from equipoise.training.terms import Loss, Term, path_sum
from equipoise.trajectories import Scores, Trajectories

TokenMean = str
"""How a batch of tokens becomes one number: one of `TOKEN_MEANS`."""

TOKEN_MEANS = ("response", "longest", "tokens", "sum")
"""Mean over each response's tokens; sum over them, divided by the longest response there can be, the mean length of the
batch's responses, or nothing; then the mean over responses."""

REINFORCE = frozenset({"log_pf"})
WITH_PRIOR = frozenset({"log_pf", "log_prior"})


def reinforce(name: str, source: str, sampler: Sampler, *, weight: Callable[[int], float] = lambda step: 1.0) -> Term:
    """REINFORCE on the score with the group's mean for baseline; no KL, and no correction for who drew a response.

    With the KL in the reward it would be TBA's gradient (Bartoldson et al. 2025, eq. 7), so that this is what TBA is
    compared with.

    Source: Williams, 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning".

    Args:
        name: of the term.
        source: name of its source, of groups.
        sampler: what is trained.
        weight: of the term, by step.
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        coefficient = policy_gradient.dr_grpo(_score(trajectories), trajectories.group)
        return Loss((coefficient * path_sum(scores.get("log_pf"))).mean(), coefficient, _counted(trajectories))

    return Term(name, source, sampler, loss, REINFORCE, weight)


def rloo(
    name: str,
    source: str,
    sampler: Sampler,
    *,
    alpha: Callable[[int], float],
    clip: float = 0.2,
    weight: Callable[[int], float] = lambda step: 1.0,
) -> Term:
    """RLOO: leave-one-out advantages of score - alpha KL, a whole response's ratio clipped.

    The KL is the behaviour policy's, log_behaviour - log_prior, as it is when rewards are computed at generation.

    Source: Ahmadian et al., 2024, "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human
        Feedback in LLMs", arXiv 2402.14740; the clip at the level of responses is that of TRL's RLOOTrainer and of the
        proximal RLOO of Noukhovitch et al., 2024, arXiv 2410.18252.

    Args:
        name: of the term.
        source: name of its source, of groups.
        sampler: what is trained.
        alpha: temperature of the KL, by step, not negative.
        clip: how far from 1 a response's ratio may go.
        weight: of the term, by step.
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        behaviour = _inside(behaviour_of(trajectories), scores)
        drift = path_sum(behaviour) - path_sum(scores.get("log_prior"))
        coefficient = policy_gradient.rloo(_score(trajectories) - alpha(step) * drift, trajectories.group)
        log_pf, drawn = path_sum(scores.get("log_pf")), path_sum(behaviour)
        value = importance.ppo_surrogate(coefficient, log_pf[:, None], drawn[:, None], clip=clip)
        return Loss(value.mean(), coefficient, _counted(trajectories))

    return Term(name, source, sampler, loss, WITH_PRIOR, weight)


def grpo(
    name: str,
    source: str,
    sampler: Sampler,
    *,
    normalise: bool = True,
    kl_weight: float = 0.04,
    clip: float = 0.2,
    clip_high: float | None = None,
    tokens: TokenMean = "response",
    longest: int | None = None,
    weight: Callable[[int], float] = lambda step: 1.0,
) -> Term:
    """GRPO: advantages centred, and scaled by the group's deviation, through PPO's clip token by token, plus a k3 term.

    Dr. GRPO is `normalise=False, kl_weight=0, tokens="longest"`.

    Source: Shao et al., 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        arXiv 2402.03300 (KL weight 0.04); Liu et al., 2025, "Understanding R1-Zero-Like Training: A Critical
        Perspective", arXiv 2503.20783 (Dr. GRPO).

    Args:
        name: of the term.
        source: name of its source, of groups.
        sampler: what is trained.
        normalise: divide advantages by the group's standard deviation.
        kl_weight: of the k3 estimate, token by token; 0: none, and no reference is needed.
        clip: how far below 1 a token's ratio may go.
        clip_high: how far above 1; as clip by default.
        tokens: one of `TOKEN_MEANS`.
        longest: tokens of the longest response there can be, for tokens="longest".
        weight: of the term, by step.

    Raises:
        ValueError: an unknown mean, or "longest" without it.
    """
    _check_mean(tokens, longest)

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        advantage = policy_gradient.grpo if normalise else policy_gradient.dr_grpo
        coefficient = advantage(_score(trajectories), trajectories.group)
        log_pf = scores.get("log_pf")
        behaviour = _inside(behaviour_of(trajectories), scores)
        value = importance.ppo_surrogate(coefficient, log_pf, behaviour, clip=clip, clip_high=clip_high)
        if kl_weight:
            value = value + kl_weight * kl_terms.k3(log_pf, scores.get("log_prior"))
        return Loss(_token_mean(value, scores.mask, tokens, longest), coefficient, _counted(trajectories))

    return Term(name, source, sampler, loss, WITH_PRIOR if kl_weight else REINFORCE, weight)


def cispo(
    name: str,
    source: str,
    sampler: Sampler,
    *,
    ceiling: float = 8.0,
    weight: Callable[[int], float] = lambda step: 1.0,
) -> Term:
    """CISPO: GRPO's advantages, tokens weighted by their truncated ratio and never silenced, mean over all tokens.

    Source: MiniMax, 2025, "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention", arXiv
        2506.13585.

    Args:
        name: of the term.
        source: name of its source, of groups.
        sampler: what is trained.
        ceiling: largest weight of a token.
        weight: of the term, by step.
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        advantage = policy_gradient.grpo(_score(trajectories), trajectories.group)
        log_pf = scores.get("log_pf")
        behaviour = _inside(behaviour_of(trajectories), scores)
        value = importance.cispo(advantage, log_pf, behaviour, ceiling=ceiling) * log_pf
        return Loss(_token_mean(value, scores.mask, "tokens", None), advantage, _counted(trajectories))

    return Term(name, source, sampler, loss, REINFORCE, weight)


def online_dpo(
    name: str,
    source: str,
    sampler: Sampler,
    *,
    alpha: Callable[[int], float],
    weight: Callable[[int], float] = lambda step: 1.0,
) -> Term:
    """Online DPO between the best and the worst response of each group (`objectives.preferences.online_dpo`).

    Args:
        name: of the term.
        source: name of its source, of groups.
        sampler: what is trained.
        alpha: temperature of the KL, by step, positive.
        weight: of the term, by step.
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        score = _score(trajectories)
        log_pf, log_prior = path_sum(scores.get("log_pf")), path_sum(scores.get("log_prior"))
        value = preferences.online_dpo(log_pf, log_prior, score, trajectories.group, alpha=alpha(step))
        observed = policy_gradient.dr_grpo(score, trajectories.group)
        return Loss(value.mean(), observed, _counted(trajectories))

    return Term(name, source, sampler, loss, WITH_PRIOR, weight)


def _token_mean(value: Tensor, mask: Tensor, tokens: TokenMean, longest: int | None) -> Tensor:
    inside = torch.where(mask, value, 0.0)
    if tokens == "response":
        return (inside.sum(1) / mask.sum(1).clamp(min=1)).mean()
    if tokens == "tokens":
        return inside.sum() / mask.sum().clamp(min=1)
    return inside.sum(1).mean() / (longest if tokens == "longest" and longest else 1)


def _check_mean(tokens: TokenMean, longest: int | None) -> None:
    if tokens not in TOKEN_MEANS:
        raise ValueError(f"tokens is '{tokens}': one of {', '.join(TOKEN_MEANS)} was expected")
    if (tokens == "longest") != (longest is not None):
        raise ValueError(f"tokens '{tokens}' with longest {longest}: the longest response goes with 'longest' alone")


def _score(trajectories: Trajectories) -> Tensor:
    if trajectories.log_reward is None:
        raise ValueError("trajectories without a log_reward: the source must call the reward")
    return trajectories.log_reward


def _inside(value: Tensor, scores: Scores) -> Tensor:
    return torch.where(scores.mask, value, 0.0)


def _counted(trajectories: Trajectories) -> dict[str, Tensor]:
    return {"groups_skipped": informative_groups(trajectories)[1]}
