"""Bounds of log Z from the weights of sampled trajectories."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def importance(log_weight: Tensor) -> dict[str, float]:
    """ELBO <= importance estimate <= log Z, and the effective share of the sample.

    Args:
        log_weight: log target minus log model of trajectories of the model, (n,), nats: minus the log-ratio.

    Returns:
        `elbo`: their mean, at most log Z in expectation. `log_z_importance`: log of the mean weight, at most log Z in
        expectation and tending to it. `ess`: (sum w)^2 / sum w^2 / n, the effective share of the sample, in (0, 1].

    Raises:
        ValueError: no weights, or one that is not finite.

    Example:
        >>> import torch
        >>> importance(torch.zeros(4))
        {'elbo': 0.0, 'log_z_importance': 0.0, 'ess': 1.0}

    None of the three sees a mode that the model never visits: give `eubo` beside them.
    """
    weights = _finite(log_weight)
    n = len(weights)
    total, squares = torch.logsumexp(weights, 0), torch.logsumexp(2 * weights, 0)
    return {
        "elbo": float(weights.mean()),
        "log_z_importance": float(total) - math.log(n),
        "ess": float((2 * total - squares).exp()) / n,
    }


def eubo(log_weight: Tensor) -> float:
    """Mean log-weight of trajectories of the *target*, at least log Z in expectation; finite where a mode is missed.

    Source: Blessing et al., 2024, "Beyond ELBOs: A Large-Scale Evaluation of Variational Methods for Sampling", arXiv
        2406.07423.

    Args:
        log_weight: log target minus log model of trajectories drawn from the target, (n,), nats.

    Raises:
        ValueError: no weights, or one that is not finite.

    Example:
        >>> import torch
        >>> eubo(torch.tensor([1.0, 3.0]))
        2.0

    EUBO - ELBO is the Jeffreys divergence of model and target.
    """
    return float(_finite(log_weight).mean())


def systematic(log_weight: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n row numbers drawn in proportion to the weights by one uniform number, (n,) int64: each row floor or ceil times.

    Source: Kitagawa, 1996, "Monte Carlo Filter and Smoother for Non-Gaussian Nonlinear State Space Models".

    Example:
        >>> import torch
        >>> systematic(torch.tensor([0.0, 0.0]), 4, torch.Generator().manual_seed(0)).tolist()
        [0, 0, 1, 1]
    """
    share = _finite(log_weight).softmax(0).cumsum(0)
    place = (torch.arange(n) + torch.rand((), generator=generator, dtype=torch.float64)) / n
    return torch.searchsorted(share / share[-1], place).clamp(max=len(share) - 1)


def _finite(log_weight: Tensor) -> Tensor:
    weights = log_weight.detach().double()
    if weights.dim() != 1 or not len(weights) or not bool(torch.isfinite(weights).all()):
        raise ValueError(f"log-weights {tuple(weights.shape)}: at least one was expected, and all finite")
    return weights
