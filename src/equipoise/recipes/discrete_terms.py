"""The terms of a discrete task's run: the sampler's balance, and what trains its backward policy or its teacher."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from equipoise.discrete.sampler import DiscreteSampler
from equipoise.objectives import partition
from equipoise.objectives.divergences import Divergence
from equipoise.recipes.choices import annealed, divergence_of, same_or_of
from equipoise.recipes.configuration import Discrete
from equipoise.recipes.refinements import OWN_NETWORK
from equipoise.sampling.fixed import GUIDE, LAGGED
from equipoise.training.backward import (
    backward_likelihood,
    backward_reinforce,
    fit_to_guide,
    guided_balance,
    held,
)
from equipoise.training.balance import RESIDUALS, LogZ, Residual, balance
from equipoise.training.terms import Term
from equipoise.trajectories import Trajectories

WALKS = "walks"
"""The source of walks back, with --backward reinforce."""

Beta = Callable[[int, Trajectories], float | Tensor]


def terms_of(
    config: Discrete, sampler: DiscreteSampler, residual: Residual, log_z: LogZ | None, log_z_name: str
) -> list[Term]:
    """The sampler's own terms, on the source that the configuration names."""
    source, beta = config.source, beta_of(config)

    def term(loss: Divergence) -> Term:
        estimate = same_or_of(log_z, log_z_name, loss)
        if GUIDE in residual.needs:
            assert estimate is not None
            return guided_balance(source, sampler, loss, estimate, mix=_mix(config), beta=beta)
        chosen = held(residual, LAGGED) if config.backward == "likelihood" else residual
        chosen = held(residual) if config.backward in ("pessimistic", "reinforce") else chosen
        return balance("balance", source, sampler, chosen, loss, estimate, beta=beta)

    terms = [annealed(config, term)]
    if GUIDE in residual.needs:
        released = config.guide_loss == "released"
        terms.append(fit_to_guide(source, sampler, divergence_of(config), beta=beta, with_reward=released))
    elif config.backward == "reinforce":
        terms.append(backward_reinforce(WALKS, sampler))
    elif config.backward in OWN_NETWORK:
        terms.append(backward_likelihood(source, sampler))
    return terms


def lessons_term(teacher: DiscreteSampler, log_z: partition.Learned, loss: Divergence) -> Term:
    """The teacher's own trajectory balance, towards the reward that its lessons carry."""
    return balance("teacher", "lessons", teacher, RESIDUALS["trajectory"], loss, log_z)


def beta_of(config: Discrete) -> Beta:
    """The reward's exponent: each trajectory's own where it is conditioned on it."""

    def conditioned(step: int, rows: Trajectories) -> Tensor:
        assert isinstance(rows.context, Tensor)
        return rows.context

    return conditioned if config.search == "temperatures" else lambda step, rows: config.beta


def log_z_of(config: Discrete, name: str) -> LogZ | None:
    """The estimator of log Z: one parameter, or one a temperature where the policy is told it."""
    if name == "flow":
        return None
    if name != "learned":
        return partition.estimator(name, divergence_of(config))
    if config.search == "temperatures":
        table = nn.Embedding(config.levels, 1)
        nn.init.constant_(table.weight, config.start_log_z or 0.0)
        return partition.Conditional(lambda rows: rows.group, table)
    return partition.Learned(config.start_log_z or 0.0)


def log_z_at_beta(log_z: partition.Conditional, levels: int) -> float:
    """The middle one, whose exponent is the configuration's."""
    with torch.no_grad():
        return float(log_z.network(torch.tensor([levels // 2])))


def _mix(config: Discrete) -> Callable[[int], float]:
    last = config.guide_mix if config.guide_mix_last is None else config.guide_mix_last

    def mix(step: int) -> float:
        share = min(1.0, step / max(config.steps - 1, 1))
        return config.guide_mix + (last - config.guide_mix) * share

    return mix
