"""The balance term: a residual, a divergence, an estimator of log Z and a source, joined into one loss.

A residual is a function; plus log Z; then the divergence: for every method of the trajectory-balance family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.contracts import Sampler
from equipoise.objectives import residuals, trust_pcl
from equipoise.objectives.divergences import Divergence
from equipoise.sampling.fixed import GUIDE
from equipoise.training.terms import Core, Loss, Term, path_sum, target_of
from equipoise.trajectories import Columns, Scores, Trajectories

STATE_REWARD = "log_reward_state"
"""The fixed value (n, steps + 1): log R of each visited state, before beta; a source fills it, nothing trains it."""

FIXED = frozenset({"log_prior", GUIDE, STATE_REWARD})
"""Scores that a record carries."""

LogZ = Callable[[Tensor, Tensor, Trajectories], Tensor]
"""(log_ratio, target, trajectories) -> log Z, () or (n,)."""


@dataclass(frozen=True)
class Residual:
    """What `--residual` names.

    Attributes:
        needs: the scores (and fixed values) it reads.
        function: (scores, trajectories, target) -> residual (n,), or (residuals, weights). `target` is beta *
            log_reward (n,), or, for a residual that needs `log_reward_state`, beta times that, (n, steps + 1).
        partition: whether it is a log-ratio, to which an estimate of log Z is still added; a residual with flows of
            its own states has it in them.
        log_z: where it has: (scores, target) -> the estimate () that its flows hold, for the metrics.
        alpha: what its constant is divided by to be log Z: the temperature, where that constant is a soft value.
    """

    needs: frozenset[str]
    function: Callable[[Scores, Trajectories, Tensor], Any]
    partition: bool = True
    log_z: Callable[[Scores, Tensor], Tensor] | None = None
    alpha: float = 1.0


def _trajectory(scores: Scores, trajectories: Trajectories, target: Tensor) -> Tensor:
    zero = target.new_zeros(())
    return residuals.trajectory_balance(zero, _path(scores, "log_pf"), _path(scores, "log_pb"), target)


def _relative(scores: Scores, trajectories: Trajectories, target: Tensor) -> Tensor:
    zero = target.new_zeros(())
    return residuals.relative_trajectory_balance(zero, _path(scores, "log_pf"), _path(scores, "log_prior"), target, 1.0)


def _detailed(scores: Scores, trajectories: Trajectories, target: Tensor) -> tuple[Tensor, Tensor]:
    flow, forward, back = (scores.get(name) for name in ("log_flow", "log_pf", "log_pb"))
    return residuals.detailed_balance(flow, forward, back, target, trajectories.length)


def _forward_looking(scores: Scores, trajectories: Trajectories, target: Tensor) -> tuple[Tensor, Tensor]:
    flow, forward, back = (scores.get(name) for name in ("log_flow", "log_pf", "log_pb"))
    return residuals.forward_looking_balance(flow, forward, back, target, trajectories.length)


def _modified_detailed(scores: Scores, trajectories: Trajectories, target: Tensor) -> tuple[Tensor, Tensor]:
    stop, forward, back = (scores.get(name) for name in ("log_stop", "log_pf", "log_pb"))
    return residuals.modified_detailed_balance(stop, forward, back, target, trajectories.length)


def _flow_matching(scores: Scores, trajectories: Trajectories, target: Tensor) -> tuple[Tensor, Tensor]:
    inflow, outflow = scores.get("log_inflow"), scores.get("log_outflow")
    return residuals.flow_matching(inflow, outflow, target, trajectories.length)


def consistency(alpha: float) -> Residual:
    """Trust-PCL's: minus `trust_pcl.consistency`, in the unit of the reward, so that its constant is V = alpha log Z.

    Half its square is alpha^2 times RTB's, trajectory by trajectory; with V the parameter that is learned, gradients
    are alpha^2 times RTB's in the policy and alpha times in V. The reward's exponent is 1 / alpha and no other.

    Source: Deleu et al., 2025, arXiv 2509.01632.
    """

    def function(scores: Scores, trajectories: Trajectories, target: Tensor) -> Tensor:
        log_pf, log_prior = _path(scores, "log_pf"), _path(scores, "log_prior")
        assert trajectories.log_reward is not None
        return -trust_pcl.consistency(0.0, log_pf, log_prior, trajectories.log_reward, alpha)

    return Residual(frozenset({"log_pf", "log_prior"}), function, alpha=alpha)


def sub_trajectory(weighting: str = "geometric", decay: float = 0.9) -> Residual:
    """Sub-trajectory balance with the given weights of segments (see `residuals.sub_trajectory_balance`)."""

    def function(scores: Scores, trajectories: Trajectories, target: Tensor) -> tuple[Tensor, Tensor]:
        flow, forward, back = (scores.get(name) for name in ("log_flow", "log_pf", "log_pb"))
        return residuals.sub_trajectory_balance(
            flow, forward, back, target, trajectories.length, weighting=weighting, decay=decay
        )

    return _with_flow(function)


def guided(mix: float) -> Residual:
    """Guided trajectory balance, with log P_B detached (see `residuals.guided_trajectory_balance`).

    Args:
        mix: the guide's share, from 0 to 1.
    """

    def function(scores: Scores, trajectories: Trajectories, target: Tensor) -> Tensor:
        log_pf, log_pb, log_guide = _path(scores, "log_pf"), _path(scores, "log_pb"), trajectories.fixed[GUIDE].value
        return residuals.guided_trajectory_balance(0.0, log_pf, log_pb.detach(), path_sum(log_guide), target, mix=mix)

    return Residual(frozenset({"log_pf", "log_pb", GUIDE}), function)


def _with_flow(function: Callable[..., Any], *more: str) -> Residual:
    needs = frozenset({"log_flow", "log_pf", "log_pb", *more})

    def log_z(scores: Scores, target: Tensor) -> Tensor:
        flow = scores.get("log_flow")[:, 0].mean()
        # Where the flow is relative to the states' rewards, the source's own reward is part of its flow.
        return flow + target[:, 0].mean() if STATE_REWARD in needs else flow

    return Residual(needs, function, partition=False, log_z=log_z)


RESIDUALS: dict[str, Residual] = {
    "trajectory": Residual(frozenset({"log_pf", "log_pb"}), _trajectory),
    "relative": Residual(frozenset({"log_pf", "log_prior"}), _relative),
    "detailed": _with_flow(_detailed),
    "modified_detailed": Residual(
        frozenset({"log_stop", "log_pf", "log_pb", STATE_REWARD}), _modified_detailed, partition=False
    ),
    "forward_looking": _with_flow(_forward_looking, STATE_REWARD),
    "sub_trajectory": sub_trajectory(),
    "flow_matching": Residual(
        frozenset({"log_inflow", "log_outflow"}),
        _flow_matching,
        partition=False,
        log_z=lambda scores, target: scores.get("log_outflow")[:, 0].mean(),
    ),
    "guided": guided(1.0),
}


def balance(
    name: str,
    source: str,
    sampler: Sampler,
    residual: Residual,
    divergence: Divergence,
    log_z: LogZ | None,
    *,
    beta: Callable[[int, Trajectories], float | Tensor] = lambda step, trajectories: 1.0,
    weight: Callable[[int], float] = lambda step: 1.0,
    temper: Callable[[int], float] = lambda step: 1.0,
) -> Term:
    """The four choices as one term: mean g(temper * residual) / temper, g the divergence's loss.

    With temper = alpha = 1 / beta the gradient is in the unit of the score, whatever alpha: for the square, minus the
    advantage (r - mean r) - alpha (KL - mean KL) of TBA, eq. 7, times that of log_pf; in the unit of the residual it
    would grow as 1 / alpha. It also says at which residual, in score, the other divergences cease to be squares.

    Source: Bartoldson et al., 2025, "Trajectory Balance with Asynchrony", arXiv 2503.18929, eq. 5 and 7.

    Groups with fewer than two distinct objects carry no information about a batch's own log Z: they are skipped, and
    counted in the metric `groups_skipped`. A batch of such groups alone has loss 0: a sampler that has become sure of
    its answers trains on with the next batch.

    Args:
        name: of the term.
        source: name of its source.
        sampler: what is trained.
        residual: one of `RESIDUALS`, or a user's own.
        divergence: of the residual.
        log_z: a learned or conditional module, or a batch's own estimator; None for a residual with flows.
        beta: the reward's exponent, by step and trajectory, positive.
        weight: of the term, by step.
        temper: what residuals are multiplied by, by step, positive. A learned log Z stays log Z.

    Raises:
        ValueError: a residual that needs a log Z without one, or one with flows that is given one; in the loss, a
            batch in which every group is a single trajectory.
    """
    if residual.partition == (log_z is None):
        wanted = "needs an estimator of log Z" if residual.partition else "has log Z in its flows: give log_z=None"
        raise ValueError(f"term '{name}': the residual {wanted}")

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        target = _target(trajectories, residual, beta(step, trajectories))
        return judged(trajectories, scores, target, temper(step))

    def judged(trajectories: Trajectories, scores: Scores, target: Tensor, scale: float | Tensor) -> Loss:
        found = residual.function(scores, trajectories, target)
        if log_z is not None:
            return _partitioned(found, target, trajectories, divergence, log_z, residual.alpha, scale)
        residuals_, weights = found
        value = (weights * divergence.loss(scale * residuals_)).sum(1).mean() / scale
        metrics = {} if residual.log_z is None else {"log_z": residual.log_z(scores, target).detach()}
        return Loss(value, (weights * residuals_).detach().sum(1), metrics)

    def inputs(trajectories: Trajectories, step: int) -> tuple[Tensor, ...]:
        target = _target(trajectories, residual, beta(step, trajectories))
        return target, torch.tensor(temper(step)), trajectories.length

    def core(scores: Scores, target: Tensor, scale: Tensor, length: Tensor) -> Loss:
        unread: Any = _Unread(length)
        return judged(unread, scores, target, scale)

    module = log_z if isinstance(log_z, nn.Module) else None
    pure = (module is not None or log_z is None) and not residual.needs & FIXED
    fused = Core(inputs, core, module) if pure else None
    return Term(name, source, sampler, loss, residual.needs, weight, fused)


class _Unread:
    """Stands for a batch of which a compiled loss may read nothing but the rows' lengths."""

    def __init__(self, length: Tensor) -> None:
        self.length = length

    def __len__(self) -> int:
        return len(self.length)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the loss reads '{name}' of the trajectories")


def _partitioned(
    log_ratio: Tensor,
    target: Tensor,
    trajectories: Trajectories,
    divergence: Divergence,
    log_z: LogZ,
    alpha: float,
    scale: float | Tensor,
) -> Loss:
    metrics = {}
    kept, nothing = None, False
    if not isinstance(log_z, nn.Module):
        kept, skipped = informative_groups(trajectories)
        metrics["groups_skipped"] = skipped
        nothing = not bool(kept.any())
        if skipped and not nothing:
            log_ratio, target, trajectories = log_ratio[kept], target[kept], trajectories[kept]
    if isinstance(log_z, nn.Module):
        constant = scale * log_z(log_ratio, target, trajectories)
    else:  # the batch's own constant is that of the loss as it is, at the residual's scale
        constant = log_z(scale * log_ratio, scale * target, trajectories)
    residual = scale * log_ratio + constant
    metrics["log_z"] = constant.detach().mean() / scale / alpha
    if nothing:
        return Loss(log_ratio[:0].sum(), torch.zeros_like(log_ratio).detach(), metrics)
    observed = residual.detach() / scale
    if kept is not None and len(kept) != len(observed):
        observed = observed.new_zeros(len(kept)).masked_scatter(kept, observed)
    return Loss(divergence.loss(residual).mean() / scale, observed, metrics)


def informative_groups(trajectories: Trajectories) -> tuple[Tensor, Tensor]:
    """Rows whose group holds at least two distinct objects, (n,) bool, and the count () of groups that do not.

    Raises:
        ValueError: every group is a single trajectory: none ever will.
    """
    ids, place = trajectories.group.unique(return_inverse=True)
    rows = torch.arange(len(place))
    first = rows.new_full((len(ids),), len(place)).scatter_reduce_(0, place, rows, "amin")
    differs = _differ(trajectories.objects, first[place])
    varied = torch.zeros(len(ids), dtype=torch.bool).index_put_((place[differs],), torch.tensor(True))
    if len(ids) == len(place):
        raise ValueError(
            f"each of the batch's {len(ids)} groups is one trajectory: a batch's own log Z needs several; draw more "
            "trajectories a group, or learn log Z"
        )
    return varied[place], (~varied).sum()


def _differ(objects: Columns, other: Tensor) -> Tensor:
    """Whether each row's object differs from that of row `other`."""
    if isinstance(objects, Tensor):
        return (objects != objects[other]).flatten(1).any(1) if objects.dim() > 1 else objects != objects[other]
    if isinstance(objects, tuple):
        return torch.tensor([entry != objects[row] for entry, row in zip(objects, other.tolist(), strict=True)])
    if objects is None:
        raise ValueError("trajectories without objects have no distinct ones")
    return torch.stack([_differ(column, other) for column in objects.values()]).any(0)


def _target(trajectories: Trajectories, residual: Residual, beta: float | Tensor) -> Tensor:
    if STATE_REWARD not in residual.needs:
        return target_of(trajectories, beta)
    kept = trajectories.fixed.get(STATE_REWARD)
    if kept is None:
        raise ValueError(f"this residual needs fixed['{STATE_REWARD}']: give the source a state_reward")
    return kept.value * (beta[:, None] if isinstance(beta, Tensor) and beta.dim() else beta)


def _path(scores: Scores, name: str) -> Tensor:
    return path_sum(scores.get(name))
