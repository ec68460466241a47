"""What a target by the distance to the nearest of some modes holds, without a list: its total, and each mode's mass.

2^n bits cannot be listed, but the target is the largest of one weight a mode, and the sum of these weights is easy: at
distance d from a mode there are binomial(n, d) sequences. Draws from that sum give what the largest is of the sum, a
ratio between 1 / modes and 1, so that few draws give the total to four digits, and show each mode's due.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

DRAWS = 1 << 14
"""Draws of an estimate."""

ROWS = 1 << 12
"""Draws that are compared with all modes at once."""

LogReward = Callable[[Tensor, int], Tensor]
"""(distances, bits) -> log R."""


def distances(objects: Tensor, of: Tensor, known: Tensor | None = None) -> Tensor:
    """(n, modes) number of bits in which each sequence differs from each mode; of those that are known, where given.

    Example:
        >>> distances(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 0], [1, 1, 1]])).tolist()
        [[2, 1]]
    """
    # Counts below 2^24 are exact in float32, whose products are quicker than comparing all pairs.
    ones, zeros, mode = objects.float(), 1 - objects.float(), of.float()
    if known is not None:
        ones, zeros = ones * known, zeros * known
    return (ones @ (1 - mode).T + zeros @ mode.T).round().long()


def log_total(form: LogReward, modes: Tensor, beta: float) -> float:
    """log of the sum of R(x)^beta over all x, log R(x) being `form` of the distance to the nearest mode.

    An estimate: Z = E[max_i R_i / sum_i R_i] * sum_i sum_x R_i(x) over x drawn by sum_i R_i, which is unbiased in Z; by
    `DRAWS` draws from a fixed seed. Its relative standard error is below sqrt(modes / DRAWS), whatever the modes.

    Args:
        form: log R of distances, falling in them.
        modes: (modes, bits) of 0 and 1.
        beta: the reward's exponent.

    Example:
        >>> modes = torch.tensor([[0, 0, 0, 0]])
        >>> round(log_total(lambda distance, bits: -distance, modes, 1.0), 4)  # log (1 + 1 / e)^4
        1.253
    """
    return float(_log_masses(form, modes, beta, modes.shape[1])[0])


def ball_masses(form: LogReward, modes: Tensor, beta: float, radius: int) -> Tensor:
    """(modes,) the target's mass within Hamming distance `radius` of each mode; balls may overlap.

    Estimates as of `log_total`, by draws from within the balls, so that a small mass is as good as a large one.

    Args:
        form: log R of distances, falling in them.
        modes: (modes, bits) of 0 and 1.
        beta: the reward's exponent.
        radius: of the balls, at most the bits.

    Example:
        >>> modes = torch.tensor([[0, 0, 0], [1, 1, 1]])
        >>> ball_masses(lambda distance, bits: 0 * distance, modes, 1.0, 1)  # uniform over 8: 4 each
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    return (_log_masses(form, modes, beta, radius) - log_total(form, modes, beta)).exp()


def _log_masses(form: LogReward, modes: Tensor, beta: float, radius: int) -> Tensor:
    """(modes,) log of the sum of R^beta over each ball, by draws of the sum of R_i^beta, each within its own ball."""
    count, bits = modes.shape
    d = torch.arange(radius + 1, dtype=torch.float64)
    ways = torch.lgamma(torch.tensor(bits + 1.0).double()) - torch.lgamma(d + 1) - torch.lgamma(bits - d + 1)
    weight = ways + beta * form(d, bits)
    noise = torch.Generator().manual_seed(0)
    total = torch.zeros(count, dtype=torch.float64)
    for centre in (torch.arange(DRAWS) % count).split(ROWS):
        flips = torch.multinomial(weight.softmax(0), len(centre), replacement=True, generator=noise)
        order = torch.rand((len(centre), bits), generator=noise).argsort(1).argsort(1)
        distance = distances(modes[centre] ^ (order < flips[:, None]).long(), modes).double()
        outside = distance > radius
        log_reward = (beta * form(distance, bits)).masked_fill(outside, -torch.inf)
        ratio = (log_reward.max(1).values - log_reward.logsumexp(1)).exp()  # a nearer mode's ball holds it too
        total += ratio @ (~outside).double()
    return (total / DRAWS).log() + weight.logsumexp(0) + math.log(count)
