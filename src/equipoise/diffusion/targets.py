"""Densities that a sampler can be held to: mixtures of Gaussians, and the pair of the 25-modes example."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Gaussians of one variance.

    Attributes:
        means: (modes, dimensions).
        weights: (modes,), summing to 1.
        variance: of every coordinate of every mode.

    Raises:
        ValueError: weights that do not fit the means or do not sum to 1, or a variance that is not positive.
    """

    means: Tensor
    weights: Tensor
    variance: float

    def __post_init__(self) -> None:
        if self.weights.shape != self.means.shape[:1] or abs(float(self.weights.sum()) - 1) > 1e-6:
            raise ValueError(f"weights {self.weights.tolist()} of {len(self.means)} means: one each, summing to 1")
        if not self.variance > 0:
            raise ValueError(f"variance is {self.variance}: a positive number was expected")

    def log_prob(self, points: Tensor) -> Tensor:
        """Log-density of points (n, dimensions), (n,), in their dtype."""
        distance = (points[:, None] - self.means.to(points)).square().sum(2)
        constant = 0.5 * points.shape[1] * math.log(2 * math.pi * self.variance)
        return torch.logsumexp(self.weights.to(points).log() - distance / (2 * self.variance), 1) - constant

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, (n, dimensions), float32."""
        mode = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn((n, self.means.shape[1]), generator=generator)
        return self.means[mode].float() + math.sqrt(self.variance) * noise

    def shares(self, radius: float) -> Tensor:
        """Mass within `radius` of each mode, and last of what is farther from every one, (modes + 1,), float64.

        Exact for modes whose neighbours are much farther than the radius.

        Example:
            >>> NINE.shares(2.0)[-1] < 2e-3
            tensor(True)
        """
        half = torch.tensor(self.means.shape[1] / 2, dtype=torch.float64)
        inside = torch.special.gammainc(half, torch.tensor(radius**2 / (2 * self.variance), dtype=torch.float64))
        return torch.cat([self.weights.double() * inside, (1 - inside)[None]])


_GRID = torch.cartesian_prod(*[torch.tensor([-10.0, -5.0, 0.0, 5.0, 10.0])] * 2)

TWENTY_FIVE = Mixture(_GRID, torch.full((25,), 1 / 25), 0.3)
"""25 even modes on a grid: what the prior is fitted to.

Source: Venkatraman et al., 2024, arXiv 2405.20971, appendix C, variance from their code.
"""

_NINE = {
    (-10, -5): 4,
    (-5, -10): 10,
    (-5, 0): 4,
    (10, -5): 5,
    (0, 0): 10,
    (0, 5): 5,
    (5, -5): 4,
    (5, 0): 15,
    (5, 10): 4,
}

NINE = Mixture(
    torch.tensor([list(mode) for mode in _NINE], dtype=torch.float32),
    torch.tensor(list(_NINE.values()), dtype=torch.float32) / sum(_NINE.values()),
    0.3,
)
"""Nine of them, weighed unevenly: the posterior."""


def posterior_reward(points: Tensor) -> Tensor:
    """log R = log density of `NINE` - that of `TWENTY_FIVE`, (n,): prior x R is the nine modes.

    Only of the ideal prior: of one that was learned, prior x R is what `judge` estimates.

    Example:
        >>> import torch
        >>> posterior_reward(torch.tensor([[0.0, 0.0], [10.0, 10.0]])).round()
        tensor([  1., -41.])
    """
    points = points.double()
    return (NINE.log_prob(points) - TWENTY_FIVE.log_prob(points)).float()
