"""What every domain makes of a configuration's choices: the divergence, and the learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable

from equipoise.objectives.divergences import Divergence, divergence
from equipoise.recipes.configuration import Training


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


def divergence_of(config: Training) -> Divergence:
    """The divergence of the residual."""
    return divergence(config.loss) if config.order is None else divergence(config.loss, order=config.order)
