"""Comparing populations of objects by features: Frechet distance, diversity, shares of classes with their errors."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2)) of two samples' features.

    The 2-Wasserstein distance, squared, of the Gaussians with the samples' means and covariances; in float64.

    Source: Heusel et al., 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
        arXiv 1706.08500, eq. 6; Dowson and Landau, 1982, for the formula.

    Args:
        first: features of one sample, (n, features), n of at least 2.
        second: of the other, (m, features).

    Raises:
        ValueError: other shapes, or fewer than two rows.

    Example:
        >>> points = torch.tensor([[0.0], [2.0]])
        >>> round(frechet_distance(points, points + 3), 6)
        9.0

    Finite samples of one population have a distance above 0, which grows with features and falls as 1 / n: give the
    distance of two samples of that size beside it. It sees no more of a population than mean and covariance.
    """
    if first.dim() != 2 or second.dim() != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(
            f"features {tuple(first.shape)} and {tuple(second.shape)}: (n, features) each, two rows or more, as many "
            "features in both, was expected"
        )
    first, second = first.double(), second.double()
    return gaussian_frechet(first.mean(0), _covariance(first), second.mean(0), _covariance(second))


def gaussian_frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """The same of two Gaussians; square roots by eigendecomposition, eigenvalues that round below 0 taken as 0.

    Example:
        >>> zero, one = torch.zeros(1), torch.ones(1, 1)
        >>> gaussian_frechet(zero, one, zero, 9 * one)
        4.0
    """
    values, vectors = torch.linalg.eigh(covariance.double())
    root = vectors * values.clamp(min=0.0).sqrt() @ vectors.T
    inner = torch.linalg.eigvalsh(root @ other_covariance.double() @ root).clamp(min=0.0).sqrt().sum()
    spread = covariance.double().trace() + other_covariance.double().trace() - 2 * inner
    return max(float((mean.double() - other_mean.double()).square().sum() + spread), 0.0)


def cosine_diversity(features: Tensor) -> float:
    """Mean of 1 - cosine over all pairs of distinct rows, from 0 (one direction) to about 1 (unrelated directions).

    Args:
        features: (n, features), n of at least 2.

    Raises:
        ValueError: fewer than two rows.

    Example:
        >>> cosine_diversity(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        1.0

    Use it beside a distance to data: a sampler that draws nonsense is diverse too.
    """
    if features.dim() != 2 or len(features) < 2:
        raise ValueError(f"features {tuple(features.shape)}: (n, features) of two rows or more was expected")
    n = len(features)
    total = torch.nn.functional.normalize(features.double(), dim=1).sum(0).square().sum()
    return float(1 - (total - n) / (n * (n - 1)))


def shares(labels: Tensor, classes: int) -> Tensor:
    """Share of each class among labels (n,) int64, (classes,) float64.

    Example:
        >>> shares(torch.tensor([0, 1, 1, 1]), 2).tolist()
        [0.25, 0.75]
    """
    return labels.bincount(minlength=classes).double() / len(labels)


def weighted_shares(labels: Tensor, log_weight: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Share of each class under weights, by self-normalised importance sampling, and its standard error.

    share_c = sum_i w_i [label_i = c], w = softmax(log_weight); its error is sqrt(sum_i w_i^2 ([label_i = c] -
    share_c)^2), of the ratio estimator's linearisation.

    Source: Owen, 2013, "Monte Carlo theory, methods and examples", chapter 9 (self-normalised importance sampling).

    Args:
        labels: (n,) int64, of objects that the prior drew.
        log_weight: (n,) log of target over prior, up to a constant: beta * log R.
        classes: how many.

    Returns:
        shares and errors, (classes,) float64 each.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> share, error = weighted_shares(torch.tensor([0, 1]), torch.tensor([0.0, 3.0]).exp().log(), 2)
        >>> round(float(share[1]), 4)
        0.9526

    Use it for the shares that fine-tuning should end in: what a learned prior misses, no fine-tuning brings.
    """
    if labels.shape != log_weight.shape or labels.dim() != 1:
        raise ValueError(f"labels {tuple(labels.shape)} and log_weight {tuple(log_weight.shape)}: (n,) each")
    weight = log_weight.double().softmax(0)
    member = torch.nn.functional.one_hot(labels, classes).double()
    share = weight @ member
    return share, (weight.square()[:, None] * (member - share).square()).sum(0).sqrt()


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(0)
    return centred.T @ centred / (len(rows) - 1)
