"""What every domain makes of a configuration's choices: the divergence, and the learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from equipoise.objectives import partition
from equipoise.objectives.divergences import Divergence, divergence
from equipoise.recipes.configuration import Training
from equipoise.training.balance import LogZ
from equipoise.training.terms import Loss, Term
from equipoise.trajectories import Scores, Trajectories


def falling(rate: float, schedule: str, steps: int) -> Callable[[int], float]:
    """A learning rate by step: constant, or falling to 0: linearly, linearly in the second half, or as a cosine.

    Source: of "wsd", warm-up, stable, decay: Hu et al., 2024, "MiniCPM", arXiv 2404.06395; here without the warm-up.
    """
    if schedule == "constant":
        return lambda step: rate
    if schedule == "wsd":
        return lambda step: rate * min(1.0, 2 * (1 - step / steps))
    if schedule == "linear":
        return lambda step: rate * (1 - step / steps)
    return lambda step: rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def divergence_of(config: Training, step: int = 0) -> Divergence:
    """The divergence of the residual at a step; an order that is given as two goes linearly from one to the other."""
    order = config.order
    if order is None:
        return divergence(config.loss)
    if isinstance(order, tuple):
        first, last = order
        order = first + (last - first) * min(1.0, step / max(config.steps - 1, 1))
    return divergence(config.loss, order=order)


def annealed(config: Training, make: Callable[[Divergence], Term]) -> Term:
    """The term that `make` makes of the configuration's divergence, made anew at each step where its order moves."""
    term = make(divergence_of(config))
    if not isinstance(config.order, tuple):
        return term

    def loss(trajectories: Trajectories, scores: Scores, step: int) -> Loss:
        return make(divergence_of(config, step)).loss(trajectories, scores, step)

    return replace(term, loss=loss)


def same_or_of(log_z: LogZ | None, name: str, loss: Divergence) -> LogZ | None:
    """The estimator of log Z for a term of that loss: itself where it is learned, else the loss's own."""
    return log_z if log_z is None or isinstance(log_z, nn.Module) else partition.estimator(name, loss)
