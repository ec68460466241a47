"""log p(x) of a sampler that cannot be enumerated, and how it goes with log R(x)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.contracts import Sampler
from equipoise.trajectories import Columns, ends, rows_of


@dataclass(frozen=True)
class Likelihood:
    """Estimates of log p(x), (n,) each, in nats.

    Attributes:
        log_p: log of an unbiased estimate of p(x).
        error: its standard error, by the spread of the draws; 0 where one trajectory leads to each object.
    """

    log_p: Tensor
    error: Tensor


@torch.no_grad()
def log_probability(
    sampler: Sampler,
    objects: Columns,
    *,
    draws: int,
    generator: torch.Generator,
    context: Columns = None,
    chunk: int = 1024,
) -> Likelihood:
    """log of p(x) = E[P_F(tau) / P_B(tau | x)], tau from the backward policy, by the mean of `draws` trajectories.

    The mean is unbiased for p(x) whatever the backward policy; its logarithm is low by about half its squared error.
    At balance every trajectory has the same ratio, R(x) / Z, and one draw is exact; so it is on a tree.

    Source: Zhang et al., 2022, "Generative Flow Networks for Discrete Probabilistic Modeling", arXiv 2202.01361,
        appendix; Tiapkin et al., 2024, arXiv 2310.12934, with 10 draws.

    Args:
        sampler: whose backward policy draws, and is scored.
        objects: n of them.
        draws: trajectories an object; 1 where each object has one trajectory.
        generator: of the draws.
        context: n rows, or None.
        chunk: trajectories scored at a time.

    Raises:
        ValueError: no draws.

    Example:
        >>> from equipoise.discrete.environments.strings import AppendStrings
        >>> from equipoise.discrete.policies.mlp import Uniform
        >>> from equipoise.discrete.sampler import DiscreteSampler
        >>> sampler = DiscreteSampler(AppendStrings(letters=2, length=3), Uniform({"forward": 2}))
        >>> word = torch.tensor([[0, 1, 0]])
        >>> found = log_probability(sampler, word, draws=1, generator=torch.Generator().manual_seed(0))
        >>> round(float(found.log_p.exp()), 6)
        0.125

    Use it where `exact` cannot list the space; where paths are many and unequal, look at the error before the mean.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}: at least one trajectory an object was expected")
    rows = ends(objects, context=context)
    n = rows_of(objects)
    log_weight = []
    for part in torch.arange(n).repeat_interleave(draws).split(chunk):
        drawn = sampler.sample_to(rows[part], generator=generator)
        scores = sampler.score(drawn, frozenset({"log_pf", "log_pb"}), generator=generator)
        log_weight.append(scores.get("log_pf").double().sum(1) - scores.get("log_pb").double().sum(1))
    weights = torch.cat(log_weight).reshape(n, draws)
    log_p = torch.logsumexp(weights, 1) - math.log(draws)
    if draws == 1:
        return Likelihood(log_p, torch.zeros_like(log_p))
    return Likelihood(log_p, (weights - log_p[:, None]).exp().std(1) / math.sqrt(draws))


def ranks(values: Tensor) -> Tensor:
    """Ranks from 1, ties by their mean rank, (n,) float64.

    Example:
        >>> ranks(torch.tensor([3.0, 1.0, 3.0])).tolist()
        [2.5, 1.0, 2.5]
    """
    _, place, count = values.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count - 1) / 2)[place]


def pearson(first: Tensor, second: Tensor) -> float:
    """Pearson's correlation of two samples.

    Raises:
        ValueError: shapes that differ, or a sample that does not vary.

    Example:
        >>> round(pearson(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 4.0, 8.0])), 6)
        1.0
    """
    if first.shape != second.shape or first.dim() != 1:
        raise ValueError(f"samples {tuple(first.shape)} and {tuple(second.shape)}: (n,) of both was expected")
    first, second = first.double() - first.double().mean(), second.double() - second.double().mean()
    scale = first.norm() * second.norm()
    if not float(scale) > 0:
        raise ValueError("a sample that does not vary has no correlation: give at least two different values")
    return float((first * second).sum() / scale)


def spearman(first: Tensor, second: Tensor) -> float:
    """Spearman's correlation: Pearson's of the ranks.

    Raises:
        ValueError: shapes that differ, or a sample that does not vary.

    Example:
        >>> round(spearman(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([9.0, 8.0, 0.0])), 6)
        -1.0
    """
    return pearson(ranks(first), ranks(second))


def correlations(found: Likelihood, log_target: Tensor) -> dict[str, float]:
    """How log p(x) goes with the log-target over a set of objects; both are 1 for a perfect sampler.

    Args:
        found: of n objects.
        log_target: (n,) beta * log R(x).

    Returns:
        spearman, pearson; log_p_slope, of the regression of log p on the log-target, 1 for a perfect sampler too;
        log_p_error: the mean standard error of log p(x), from which a correlation below 1 may come.

    Raises:
        ValueError: shapes that differ, or log-targets that are all equal.

    Example:
        >>> found = Likelihood(torch.tensor([-1.0, -2.0]), torch.zeros(2))
        >>> {name: round(value, 6) for name, value in correlations(found, torch.tensor([0.0, -2.0])).items()}
        {'spearman': 1.0, 'pearson': 1.0, 'log_p_slope': 0.5, 'log_p_error': 0.0}

    A correlation is blind to scale: log p = c log R has one of 1 for every c > 0 and only c = 1 is right, hence the
    slope; give a distance beside it where there is one.
    """
    correlation = pearson(found.log_p, log_target)
    return {
        "spearman": spearman(found.log_p, log_target),
        "pearson": correlation,
        "log_p_slope": correlation * float(found.log_p.double().std() / log_target.double().std()),
        "log_p_error": float(found.error.mean()),
    }
