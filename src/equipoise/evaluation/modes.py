"""How a sample divides over known modes, and how far it lies from another: each with its floor."""

from __future__ import annotations

import torch
from torch import Tensor


def mode_histogram(points: Tensor, modes: Tensor, radius: float, weight: Tensor | None = None) -> Tensor:
    """Share of points nearest to each mode, and last the share farther than `radius` from every one, (modes + 1,).

    Args:
        points: (n, dimensions).
        modes: (modes, dimensions).
        radius: beyond which a point belongs to none.
        weight: of the points, summing to 1; None: even.

    Example:
        >>> import torch
        >>> mode_histogram(torch.tensor([[0.1], [5.0]]), torch.tensor([[0.0], [9.0]]), 1.0)
        tensor([0.5000, 0.0000, 0.5000], dtype=torch.float64)
    """
    even = torch.full((len(points),), 1 / len(points), dtype=torch.float64)
    return shares(nearest_mode(points, modes, radius), len(modes), even if weight is None else weight)


def nearest_mode(points: Tensor, modes: Tensor, radius: float) -> Tensor:
    """Number of the mode nearest to each point, (n,); that of modes where it is farther than `radius` from every one.

    Example:
        >>> import torch
        >>> nearest_mode(torch.tensor([[0.1], [5.0]]), torch.tensor([[0.0], [9.0]]), 1.0)
        tensor([0, 2])
    """
    distance, nearest = torch.cdist(points.double(), modes.double()).min(1)
    return torch.where(distance > radius, len(modes), nearest)


def shares(place: Tensor, modes: int, weight: Tensor) -> Tensor:
    """Total weight of each place, (modes + 1,), of places as in `nearest_mode`.

    Example:
        >>> import torch
        >>> shares(torch.tensor([0, 2]), 2, torch.tensor([0.25, 0.75], dtype=torch.float64))
        tensor([0.2500, 0.0000, 0.7500], dtype=torch.float64)
    """
    return torch.zeros(modes + 1, dtype=torch.float64).index_add(0, place, weight)


def histogram_distance(found: Tensor, target: Tensor) -> float:
    """Total variation of two histograms, half the sum of absolute differences.

    Example:
        >>> import torch
        >>> histogram_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]))
        0.5
    """
    return float((found.double() - target.double()).abs().sum()) / 2


def histogram_floor(target: Tensor, n: int, *, draws: int = 200, seed: int = 0) -> float:
    """Mean total variation to `target` of the histogram of n points of a perfect sampler, from `draws` such samples.

    Example:
        >>> import torch
        >>> round(histogram_floor(torch.tensor([0.5, 0.5]), 10_000), 3)
        0.004
    """
    generator = torch.Generator().manual_seed(seed)
    share, total = target.double(), 0.0
    for _ in range(draws):
        places = torch.multinomial(share, n, replacement=True, generator=generator)
        total += histogram_distance(torch.bincount(places, minlength=len(share)) / n, share)
    return total / draws


def wasserstein2(first: Tensor, second: Tensor) -> float:
    """Exact 2-Wasserstein distance of two samples of one size, by optimal assignment.

    Args:
        first: (n, dimensions).
        second: (n, dimensions).

    Raises:
        ValueError: shapes differ.
        ImportError: scipy is not installed.

    Example:
        >>> import torch
        >>> wasserstein2(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [2.0]]))
        2.0

    Its value between two samples of one distribution is well above 0: give that floor beside it.
    """
    if first.shape != second.shape:
        raise ValueError(f"samples {tuple(first.shape)} and {tuple(second.shape)}: two of one size were expected")
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("the Wasserstein distance needs scipy: pip install 'equipoise[diffusion]'") from error
    cost = torch.cdist(first.double(), second.double()).square().numpy()
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean()) ** 0.5
