"""The Ising model on a square lattice with periodic boundaries, spin by spin in any order.

Spins are values 0 (down, s = -1) and 1 (up, s = +1) of `Assignments`, row by row. log R(x) = coupling * sum over edges
of s_i s_j + field * sum of s_i; a spin that is not set yet counts 0, so that the reward is defined on the way too.

Source: Zhang et al. 2022, "Generative flow networks for discrete probabilistic modeling", arXiv:2202.01361.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.trajectories import Columns

LARGEST = 10
"""The largest side whose transfer matrix, of 2^side rows, is soon diagonal."""


class Energy:
    """log R of spins on a torus of `side` by `side` sites; each site has an edge to the right and one down.

    Args:
        side: at least 2 (on a side of 2 each pair of neighbours has two edges).
        coupling: positive for a ferromagnet.
        field: external.

    Raises:
        ValueError: a side below 2.

    Example:
        >>> up = torch.ones((1, 9), dtype=torch.int64)
        >>> float(Energy(3, coupling=0.5)(up))
        9.0
    """

    def __init__(self, side: int, *, coupling: float, field: float = 0.0) -> None:
        if side < 2:
            raise ValueError(f"a lattice of side {side}: at least 2 was expected")
        self.side, self.coupling, self.field = side, coupling, field

    def __call__(self, objects: Columns, context: Columns = None) -> Tensor:
        """log R; of values -1 (not set) too, whose spin is 0."""
        if not isinstance(objects, Tensor):
            raise ValueError("spins are given as a tensor (n, side * side) of values 0 and 1")
        value = objects.double()
        spin = torch.where(value < 0, 0.0, 2 * value - 1).view(-1, self.side, self.side)
        edges = spin * (spin.roll(-1, 1) + spin.roll(-1, 2))
        return (self.coupling * edges + self.field * spin).sum((1, 2))

    def log_z(self, beta: float) -> float:
        """log of the sum of R^beta over all spins, by the transfer matrix: exact, up to a side of 10.

        Source: Kramers and Wannier, 1941, "Statistics of the two-dimensional ferromagnet".

        Raises:
            ValueError: a larger side.

        Example:
            >>> import math
            >>> abs(Energy(3, coupling=0.0).log_z(1.0) - 9 * math.log(2)) < 1e-12
            True
        """
        if self.side > LARGEST:
            raise ValueError(f"side {self.side}: the transfer matrix would have 2^{self.side} rows; at most {LARGEST}")
        rows = torch.arange(1 << self.side)[:, None] >> torch.arange(self.side) & 1
        spin = (2 * rows - 1).double()
        within = self.coupling * (spin * spin.roll(-1, 1)).sum(1) + self.field * spin.sum(1)
        between = self.coupling * spin @ spin.T
        log_matrix = beta * (between + (within[:, None] + within) / 2)
        top = log_matrix.max()
        values = torch.linalg.eigvalsh((log_matrix - top).exp())
        return float(torch.log((values**self.side).sum()) + self.side * top)
