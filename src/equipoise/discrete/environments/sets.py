"""Sets of a fixed size, built element by element, with a reward that adds up over elements.

A state is one flag an element; objects are the flags of full sets, (n, elements) int64. Each set has size! paths. The
reward is defined on the sets on the way too, and log Z in closed form: every figure of a run has its exact value.

Source: the set generation of Pan et al. 2023, "Better training of GFlowNets with local credit and incomplete
trajectories", arXiv:2302.01687. The energies of their elements are not printed: ours are drawn by a fixed seed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from equipoise.discrete.environments.counted import Counted
from equipoise.trajectories import Columns


class Sets(Counted):
    """Subsets of `full` out of `elements`; action e puts element e in, backward action e takes it out.

    Args:
        elements: at least 2.
        full: elements of a full set, from 1 to `elements`.

    Raises:
        ValueError: elements or size out of range.

    Example:
        >>> sets = Sets(elements=16, full=8)
        >>> sets.size, int(sets.terminal(sets.states()).sum())
        (39203, 12870)
    """

    def __init__(self, *, elements: int, full: int) -> None:
        if elements < 2 or not 1 <= full <= elements:
            raise ValueError(f"sets of {full} out of {elements} elements: at least 1, and at least 2 to choose from")
        super().__init__(kinds=elements, full=full, most=1)
        self.elements = self.features = elements
        self.size = sum(math.comb(elements, k) for k in range(full + 1))

    def encode(self, state: Tensor) -> Tensor:
        """The flags as floats."""
        return state.float()


class Additive:
    """log R(x) = sum of the scores of the elements of x, scores uniform in [-1, 1] by a fixed seed.

    Example:
        >>> reward = Additive(elements=4)
        >>> float(reward(torch.zeros((1, 4), dtype=torch.int64)))
        0.0
    """

    def __init__(self, *, elements: int) -> None:
        uniform = torch.rand(elements, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.score = 2 * uniform - 1

    def __call__(self, objects: Columns, context: Columns = None) -> Tensor:
        """log R, of sets on the way too."""
        if not isinstance(objects, Tensor):
            raise ValueError("sets are given as a tensor (n, elements) of flags")
        return objects.double() @ self.score

    def log_z(self, full: int, beta: float) -> float:
        """log of the sum of R^beta over all sets of `full` elements: an elementary symmetric polynomial.

        Example:
            >>> reward = Additive(elements=3)
            >>> by_hand = torch.logsumexp(torch.stack([2 * reward.score[[0, 1]].sum(), 2 * reward.score[[0, 2]].sum(),
            ...     2 * reward.score[[1, 2]].sum()]), 0)
            >>> abs(reward.log_z(2, 2.0) - float(by_hand)) < 1e-12
            True
        """
        sums = torch.full((full + 1,), -torch.inf, dtype=torch.float64)
        sums[0] = 0.0
        for score in self.score:
            sums[1:] = torch.logaddexp(sums[1:], sums[:-1] + beta * score)
        return float(sums[full])
