"""Terms that train a backward policy, and the forward terms that leave it alone.

Balance trains P_B only as far as the forward policy needs it. Each pair here is two terms on one source: the first
trains the forward policy and log Z with P_B held fixed, the second P_B alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from equipoise.contracts import Sampler
from equipoise.objectives import residuals
from equipoise.objectives.divergences import Divergence
from equipoise.sampling.fixed import ARRIVED, GUIDE
from equipoise.training.balance import LogZ, Residual, balance, guided
from equipoise.training.terms import Loss, Term, path_sum, target_of
from equipoise.trajectories import Scores, Trajectories


def held(residual: Residual, name: str = "log_pb") -> Residual:
    """The same residual with the backward policy's log-probabilities detached.

    Args:
        residual: that needs `log_pb`.
        name: what stands in for them: `log_pb` itself, or a fixed value such as `sampling.fixed.LAGGED`.

    Example:
        >>> from equipoise.training.balance import RESIDUALS
        >>> sorted(held(RESIDUALS["trajectory"], "log_pb_lagged").needs)
        ['log_pb', 'log_pb_lagged', 'log_pf']
    """

    def function(scores: Scores, trajectories: Trajectories, target: Tensor) -> object:
        value = scores.get("log_pb") if name == "log_pb" else trajectories.fixed[name].value * scores.mask
        return residual.function(replace(scores, log_pb=value.detach()), trajectories, target)

    more = frozenset() if name == "log_pb" else frozenset({name})
    return replace(residual, needs=residual.needs | more, function=function)


def guided_balance(
    source: str,
    sampler: Sampler,
    divergence: Divergence,
    log_z: LogZ,
    *,
    mix: Callable[[int], float] = lambda step: 1.0,
    beta: Callable[[int, Trajectories], float | Tensor] = lambda step, trajectories: 1.0,
) -> Term:
    """The forward term: log Z + log P_F - log R - mix log p(path | x) - (1 - mix) log P_B, in a divergence.

    Source: Shen et al. 2023, arXiv:2305.07170, eq. 5-7; a mix of 1 is best in their appendix B. A mix that falls to 0
    ends in trajectory balance with P_B as the guide left it, whose optimum is exactly R / Z.

    Args:
        source: name of the source, which fixes `log_guide`.
        sampler: what is trained.
        divergence: of the residual.
        log_z: an estimator of log Z.
        mix: the guide's share by step, from 0 to 1.
        beta: the reward's exponent.

    Example:
        >>> from equipoise.discrete.environments.bags import Bags
        >>> from equipoise.discrete.policies.mlp import MLP
        >>> from equipoise.discrete.sampler import DiscreteSampler
        >>> from equipoise.objectives.divergences import divergence
        >>> from equipoise.objectives.partition import Learned
        >>> space = Bags(letters=3, full=4)
        >>> sampler = DiscreteSampler(space, MLP(space.features, (8,), {"forward": 3, "backward": 3}))
        >>> term = guided_balance("on_policy", sampler, divergence("reverse_kl"), Learned())
        >>> sorted(term.needs)
        ['log_guide', 'log_pb', 'log_pf']
    """

    def at(share: float) -> Term:
        return balance("balance", source, sampler, guided(share), divergence, log_z, beta=beta)

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        found = at(mix(step)).loss(trajectories, scores, step)
        return replace(found, metrics={**found.metrics, "mix": found.value.detach().new_tensor(mix(step))})

    return replace(at(1.0), loss=loss)


def fit_to_guide(
    source: str,
    sampler: Sampler,
    divergence: Divergence,
    *,
    beta: Callable[[int, Trajectories], float | Tensor] = lambda step, trajectories: 1.0,
    with_reward: bool = False,
) -> Term:
    """The backward term: log P_B(path | x) - log p(path | x), in a divergence; it trains P_B to the guide.

    Source: Shen et al. 2023, arXiv:2305.07170, eq. 4. Their released code compares log R + log P_B with log p, so that
    P_B is driven towards p / R, which no policy can be: `with_reward` does the same.

    Args:
        source: name of the source, which fixes `log_guide`.
        sampler: whose backward policy is trained, best a network of its own.
        divergence: of the residual.
        beta: the reward's exponent, where the reward is read.
        with_reward: as in the released code.

    Example:
        >>> from equipoise.discrete.environments.bags import Bags
        >>> from equipoise.discrete.policies.mlp import MLP
        >>> from equipoise.discrete.sampler import DiscreteSampler
        >>> from equipoise.objectives.divergences import divergence
        >>> space = Bags(letters=3, full=4)
        >>> sampler = DiscreteSampler(space, MLP(space.features, (8,), {"forward": 3, "backward": 3}))
        >>> sorted(fit_to_guide("on_policy", sampler, divergence("reverse_kl")).needs)
        ['log_guide', 'log_pb']
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        log_pb, log_guide = path_sum(scores.get("log_pb")), path_sum(trajectories.fixed[GUIDE].value)
        residual = residuals.trajectory_balance(0.0, log_pb, log_guide, log_pb.new_zeros(len(log_pb)))
        if with_reward:
            residual = residual + target_of(trajectories, beta(step, trajectories))
        return Loss(divergence.loss(residual).mean())

    return Term("backward", source, sampler, loss, frozenset({"log_pb", GUIDE}))


def backward_likelihood(source: str, sampler: Sampler, *, weight: Callable[[int], float] = lambda step: 1.0) -> Term:
    """-mean log P_B over the steps of the source's paths: P_B becomes the posterior over the paths that lead to x.

    On the forward policy's own draws it is trajectory likelihood maximisation; on what was observed so far (a replay of
    whole paths), the pessimistic backward policy, which leads where the training has been. Paths drawn from P_B itself
    teach it nothing.

    Source: Gritsaev et al. 2025, "Optimizing backward policies in GFlowNets via trajectory likelihood maximization",
    arXiv:2410.15474; Jang et al. 2024, "Pessimistic backward policy for GFlowNets", arXiv:2405.16012.

    Args:
        source: name of the source.
        sampler: whose backward policy is trained, best a network of its own.
        weight: by step.

    Example:
        >>> import torch
        >>> from equipoise.discrete.environments.bags import Bags
        >>> from equipoise.discrete.policies.mlp import MLP
        >>> from equipoise.discrete.sampler import DiscreteSampler
        >>> space = Bags(letters=3, full=4)
        >>> sampler = DiscreteSampler(space, MLP(space.features, (8,), {"forward": 3, "backward": 3}))
        >>> paths = sampler.sample(5, generator=torch.Generator().manual_seed(0))
        >>> term = backward_likelihood("on_policy", sampler)
        >>> loss = term.loss(paths, sampler.score(paths, term.needs), 0)
        >>> bool(loss.value > 0)  # four letters leave in some order: P_B is below 1
        True
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        steps = scores.mask.sum().clamp(min=1)
        return Loss(-scores.get("log_pb").sum() / steps)

    return Term("backward", source, sampler, loss, frozenset({"log_pb"}), weight)


def backward_reinforce(source: str, sampler: Sampler) -> Term:
    """-mean (a - mean a) log P_B(path): P_B learns to walk where a walk arrives, a = 1, and is not lost, a = 0.

    Source: REINFORCE (Williams 1992) on walks back, as in Cretu et al. 2024, "SynFlowNet", arXiv:2405.01155, who reward
    1 and -1; here the batch's mean is taken off, so that only differences count.

    Args:
        source: name of the source, `sampling.retraced.Walks`, which fixes `arrived`.
        sampler: whose backward policy is trained, a network of its own.

    Use it where parents are unchecked; over exact parents all walks arrive and there is nothing to learn.

    Example:
        >>> from equipoise.discrete.environments.bags import Bags
        >>> from equipoise.discrete.policies.mlp import MLP
        >>> from equipoise.discrete.sampler import DiscreteSampler
        >>> space = Bags(letters=3, full=4)
        >>> sampler = DiscreteSampler(space, MLP(space.features, (8,), {"forward": 3, "backward": 3}))
        >>> sorted(backward_reinforce("walks", sampler).needs)
        ['arrived', 'log_pb']
    """

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        arrived = trajectories.fixed[ARRIVED].value
        surprise = (arrived - arrived.mean()) * path_sum(scores.get("log_pb"))
        return Loss(-surprise.mean(), metrics={"arrived": arrived.mean()})

    return Term("backward", source, sampler, loss, frozenset({"log_pb", ARRIVED}))
