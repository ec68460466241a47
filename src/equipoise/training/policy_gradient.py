"""Terms of KL-regularised reinforcement learning: a coefficient on log_pf in the place of a residual.

The coefficients are those of `objectives.policy_gradient`, with their sign: minus an advantage. What the loop, sources
and figures see of such a term is what they see of a balance term, so that methods are compared in one harness.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from equipoise.contracts import Sampler
from equipoise.objectives import policy_gradient as coefficients
from equipoise.training.terms import Loss, Term, path_sum, target_of
from equipoise.trajectories import Scores, Trajectories

BEHAVIOUR = "log_behaviour"
"""The fixed value (n, steps): log-probability of each step under the policy that drew it; a sampler's draw fills it."""

Coefficient = Callable[[Trajectories, Scores, Tensor], Tensor]
"""(trajectories, scores, target) -> minus the advantage, (n,) or (n, steps); `target` is beta * log_reward, (n,)."""


def policy_gradient(
    name: str,
    source: str,
    sampler: Sampler,
    coefficient: Coefficient,
    *,
    needs: frozenset[str] = frozenset({"log_pf", "log_prior"}),
    beta: Callable[[int, Trajectories], float | Tensor] = lambda step, trajectories: 1.0,
    weight: Callable[[int], float] = lambda step: 1.0,
) -> Term:
    """loss = mean over trajectories of the sum over steps of sg[coefficient] * log_pf.

    Its value is not that of an objective; its gradient is. The metric `log_z` is the batch's evidence lower bound,
    mean(target - log_pf + log_prior), which on-policy is the objective of KL-regularised RL times beta.

    Args:
        name: of the term.
        source: name of its source.
        sampler: what is trained.
        coefficient: of each trajectory or step; what it returns is detached.
        needs: the scores and fixed values that it reads, `log_pf` among them.
        beta: the reward's exponent, by step and trajectory, positive: 1 / the temperature of the KL.
        weight: of the term, by step.

    Raises:
        ValueError: in the loss, a coefficient of the wrong shape, or trajectories without a log_reward.
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        target = target_of(trajectories, beta(step, trajectories))
        log_pf = scores.get("log_pf")
        found = coefficient(trajectories, scores, target).detach()
        if found.shape not in (log_pf.shape, log_pf.shape[:1]):
            raise ValueError(
                f"term '{name}': the coefficient is {tuple(found.shape)} for log_pf {tuple(log_pf.shape)}: "
                "one number a trajectory or one a step was expected"
            )
        per_step = found if found.dim() > 1 else found[:, None]
        observed = found if found.dim() == 1 else found.sum(1)
        return Loss((per_step * log_pf).sum(1).mean(), observed, _bound(scores, target))

    return Term(name, source, sampler, loss, needs, weight)


def reinforce(*, baseline: str = "mean") -> Coefficient:
    """REINFORCE with the KL in the reward (`objectives.policy_gradient.reinforce_kl`)."""

    def coefficient(trajectories: Trajectories, scores: Scores, target: Tensor) -> Tensor:
        return coefficients.reinforce_kl(_log_ratio(scores, target), trajectories.group, baseline=baseline)

    return coefficient


def reinforce_weighted(*, geometric: bool = True, baseline: str = "mean") -> Coefficient:
    """The same, weighted for who drew the trajectory; needs `log_behaviour`.

    Args:
        geometric: weights of the geometric mean of the steps' ratios, as published (small variance, biased towards the
            behaviour policy); else the trajectory's own self-normalised weights.
        baseline: as in `objectives.policy_gradient.off_policy`.
    """

    def coefficient(trajectories: Trajectories, scores: Scores, target: Tensor) -> Tensor:
        return coefficients.off_policy(
            _log_ratio(scores, target),
            path_sum(scores.get("log_pf")),
            path_sum(behaviour_of(trajectories)),
            trajectories.group,
            steps=trajectories.length if geometric else 1.0,
            baseline=baseline,
        )

    return coefficient


def ppo(*, clip: float = 0.2, baseline: str = "mean") -> Coefficient:
    """PPO's clipped surrogate, step by step, with the KL in the reward; needs `log_behaviour`.

    The KL in the advantage is the present model's, so that the first of several updates of a batch is REINFORCE's.
    """

    def coefficient(trajectories: Trajectories, scores: Scores, target: Tensor) -> Tensor:
        advantage = coefficients.reinforce_kl(_log_ratio(scores, target), trajectories.group, baseline=baseline)
        return coefficients.ppo_clip(advantage, scores.get("log_pf"), behaviour_of(trajectories), clip=clip)

    return coefficient


def original(kl_weight: float) -> Coefficient:
    """The baseline of the first RTB code: reward R in place of log R (`objectives.policy_gradient.original`)."""

    def coefficient(trajectories: Trajectories, scores: Scores, target: Tensor) -> Tensor:
        log_pf, log_prior = path_sum(scores.get("log_pf")), path_sum(scores.get("log_prior"))
        return coefficients.original(log_pf, log_prior, target, trajectories.group, kl_weight=kl_weight)

    return coefficient


def dpok(
    name: str,
    source: str,
    sampler: Sampler,
    *,
    beta: Callable[[int, Trajectories], float | Tensor] = lambda step, trajectories: 1.0,
    baseline: str = "mean",
    weight: Callable[[int], float] = lambda step: 1.0,
) -> Term:
    """REINFORCE on the reward, with each step's KL to the prior in closed form (`objectives.policy_gradient.dpok`).

    Args:
        name: of the term.
        source: name of its source.
        sampler: what is trained; it offers `kl_prior`.
        beta: the reward's exponent, by step and trajectory, positive.
        baseline: as in `objectives.policy_gradient.dpok`.
        weight: of the term, by step.

    Raises:
        ValueError: in the loss, trajectories without a log_reward.
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        target = target_of(trajectories, beta(step, trajectories))
        log_pf, kl_prior = scores.get("log_pf"), scores.get("kl_prior")
        value = coefficients.dpok(log_pf, kl_prior, target, trajectories.group, baseline=baseline)
        observed = coefficients.reinforce_kl(-target, trajectories.group, baseline=baseline)
        return Loss(value.mean(), observed, {"log_z": (target - path_sum(kl_prior.detach())).mean()})

    return Term(name, source, sampler, loss, frozenset({"log_pf", "kl_prior"}), weight)


def likelihood(name: str, source: str, sampler: Sampler, *, weight: Callable[[int], float] = lambda step: 1.0) -> Term:
    """Maximum likelihood of given objects by the sampler's `denoising` bound: how a prior is made.

    Args:
        name: of the term.
        source: of objects (`sampling.given.Data`).
        sampler: what is trained; it offers `denoising`, minus a lower bound of the log-likelihood up to a constant.
        weight: of the term, by step.
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        return Loss(scores.get("denoising").mean())

    return Term(name, source, sampler, loss, frozenset({"denoising"}), weight)


def behaviour_of(trajectories: Trajectories) -> Tensor:
    """fixed["log_behaviour"], (n, steps).

    Raises:
        ValueError: no one kept it, or a row has none.
    """
    kept = trajectories.fixed.get(BEHAVIOUR)
    if kept is None or bool((kept.version < 0).any()):
        raise ValueError(
            "trajectories without their log_behaviour: the weights of off-policy RL need the policy that drew them; "
            "draw from the sampler itself, or use a balance residual, which needs no weights"
        )
    return kept.value


def _log_ratio(scores: Scores, target: Tensor) -> Tensor:
    return path_sum(scores.get("log_pf").detach() - scores.get("log_prior")) - target


def _bound(scores: Scores, target: Tensor) -> dict[str, Tensor]:
    return {} if scores.log_prior is None else {"log_z": -_log_ratio(scores, target).mean()}
