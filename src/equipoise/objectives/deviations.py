"""The log Z that minimises a batch's own loss, and the loss that is left: a generalised deviation of the log-ratios."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equipoise.objectives.arguments import real
from equipoise.objectives.curves import TotalVariation
from equipoise.objectives.divergences import Divergence, chosen
from equipoise.objectives.groups import Groups, grouped

SECTIONS = 17  # parts that a bracket is cut into; 17^15 is more than 2^60
ROUNDS = 15


def deviation_constant(log_ratio: Tensor, divergence: Divergence | str, group: Tensor | None = None) -> Tensor:
    """log Z = argmin_C sum over the group of g(log_ratio + C), detached: the slopes of a group sum to 0.

    In the alpha family, with k = order - 1 and B rows, it is -[logsumexp(k log_ratio) - log B] / k, so that no exponent
    k (log_ratio + C) passes log B: nothing overflows. Order 1 is minus the mean, total variation minus the median (the
    midpoint where B is even); other divergences are solved by bisection between -max and -min. Where the minimisers are
    an interval, as huber's and clipped's can be, it is the midpoint.

    In the population on-policy it is log Z minus the Renyi divergence of that order; for order 0 it is log Z, the
    importance-sampling estimate, which is what the batch gives too.

    Source: Fawkes and Hartford, 2026, "f-Trajectory Balance", arXiv 2605.15417; the closed form is derived here
        (identity 11), the name from Rockafellar et al., 2006, "Generalized Deviations in Risk Analysis". Detached by
        identity 10: the gradient is the same either way.

    Args:
        log_ratio: Residuals without log_z, (batch,), nats.
        divergence: The loss, or its name.
        group: Ids of conditions, integers (batch,); None: one group.

    Returns:
        log Z of each row's group, (batch,), in the dtype of log_ratio.

    Raises:
        ValueError: A group of one, a log_ratio that is not finite, shapes that differ, or an unknown divergence.

    Example:
        >>> import torch
        >>> log_ratio = torch.tensor([0.0, 1.0, 5.0])
        >>> deviation_constant(log_ratio, "reverse_kl")
        tensor([-2., -2., -2.])
        >>> deviation_constant(log_ratio, "total_variation")
        tensor([-1., -1., -1.])

    Use it with every divergence but the reverse KL in place of `group_mean`. At small groups it is biased, in scale and
    slightly in direction.
    """
    values, groups = grouped("log_ratio", log_ratio, group)
    constants = minimisers(chosen(divergence), values, groups)
    return groups.of_rows(constants).to(real("log_ratio", log_ratio).dtype)


def deviation(log_ratio: Tensor, divergence: Divergence | str, group: Tensor | None = None) -> Tensor:
    """loss of a row = g(log_ratio + C) with the group's own C = `deviation_constant`, detached.

    In the alpha family the coefficient of a row is (B softmax(k log_ratio) - 1) / k with k = order - 1, and the mean
    over a group is scale times the Jensen gap [logmeanexp(k log_ratio) / k - mean log_ratio] / k; at order 1 half the
    variance. Order 0 is self-normalised, importance-weighted maximum likelihood, the wake phase of reweighted
    wake-sleep.

    Source: as `deviation_constant`; Bornschein and Bengio, 2015, "Reweighted Wake-Sleep", arXiv 1406.2751.

    Args:
        log_ratio: Residuals without log_z, (batch,), nats, with their gradient.
        divergence: The loss, or its name.
        group: Ids of conditions, integers (batch,); None: one group.

    Returns:
        The loss, (batch,); differentiable.

    Raises:
        ValueError: As `deviation_constant`.

    Example:
        >>> import torch
        >>> deviation(torch.tensor([1.0, 3.0]), "reverse_kl")
        tensor([0.5000, 0.5000])

    Use it for a loss in one call; in a run, the constant is one estimator of log Z among others.
    """
    loss = chosen(divergence)
    return loss.loss(real("log_ratio", log_ratio) + deviation_constant(log_ratio, loss, group))


def minimisers(divergence: Divergence, values: Tensor, groups: Groups) -> Tensor:
    """argmin_C of each group's loss, (groups,)."""
    if divergence.order is not None:
        return -power_mean(values, divergence.order - 1, groups)
    if isinstance(divergence.curve, TotalVariation):
        return -medians(values, groups)
    return sectioned(divergence.slope, values, groups)


def power_mean(values: Tensor, rate: float, groups: Groups) -> Tensor:
    """log mean exp(rate * values) / rate of each group, and the mean where rate is 0.

    Below the largest exponent expm1 and log1p keep the digits that a rate near 0 divides away otherwise.
    """
    if rate == 0:
        return groups.mean(values)
    exponents = rate * values
    largest = groups.largest(exponents)
    below = torch.expm1(exponents - groups.of_rows(largest))
    return (largest + torch.log1p(groups.mean(below))) / rate


def medians(values: Tensor, groups: Groups) -> Tensor:
    """The median of each group, the midpoint of the two in the middle where its size is even."""
    order, starts, count = groups.in_order(values), groups.starts(), groups.count.long()
    lower, upper = (order[starts + middle] for middle in ((count - 1) // 2, count // 2))
    return (values[lower] + values[upper]) / 2


def sectioned(slope: Callable[[Tensor], Tensor], values: Tensor, groups: Groups) -> Tensor:
    """The C at which the slopes of each group sum to 0: 16 points at a time, so that 15 rounds do for 60 halvings.

    Two searches run side by side: row 0 moves up while the sum is below 0, row 1 while it is not above. They meet at
    the root, or at the two ends of an interval of roots.
    """
    fractions = torch.arange(1, SECTIONS, dtype=values.dtype, device=values.device)[:, None] / SECTIONS
    low = -groups.largest(values).expand(2, -1)
    width = groups.largest(-values) - low
    for _ in range(ROUNDS):
        points = low[:, None] + width[:, None] * fractions
        total = groups.total(slope(values + groups.of_rows(points)))
        below = torch.stack([total[0] < 0, total[1] <= 0]).sum(1)
        width = width / SECTIONS
        low = low + below * width
    return (low + width / 2).mean(0)
