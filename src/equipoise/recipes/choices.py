"""What every domain makes of a configuration's choices: the divergence, and the learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable

from equipoise.objectives.divergences import Divergence, divergence
from equipoise.recipes.configuration import Training


def falling(rate: float, schedule: str, steps: int) -> Callable[[int], float]:
    """A learning rate by step: constant, or falling to 0 at the last step, linearly or as a cosine."""
    if schedule == "constant":
        return lambda step: rate
    if schedule == "linear":
        return lambda step: rate * (1 - step / steps)
    return lambda step: rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def divergence_of(config: Training) -> Divergence:
    """The divergence of the residual."""
    return divergence(config.loss) if config.order is None else divergence(config.loss, order=config.order)
