"""The hypergrid: points of a D-dimensional grid, reached from the origin by unit steps, ended by a stop.

Source: Bengio et al. 2021, "Flow network based generative models for non-iterative diverse candidate generation",
section 4.1, arXiv:2106.04399; settings of Malkin et al. 2022, appendix B.1, arXiv:2201.13259. Every point is an object;
its terminal copy has one more flag set.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.trajectories import Columns


class Hypergrid:
    """Points of {0, ..., side - 1}^dim; action d adds 1 to coordinate d, action `dim` stops.

    A state is (dim + 1) integers: the coordinates, and 1 once the trajectory has stopped. Objects are the coordinates,
    (n, dim) int64.

    Args:
        dim: number of coordinates, at least 1.
        side: values of each, at least 2.

    Raises:
        ValueError: a dimension or side out of range.

    Example:
        >>> import torch
        >>> grid = Hypergrid(dim=2, side=3)
        >>> grid.allowed(torch.tensor([[2, 0, 0]])).tolist()
        [[False, True, True]]
    """

    stops = True

    def __init__(self, *, dim: int, side: int) -> None:
        if dim < 1 or side < 2:
            raise ValueError(f"a hypergrid of dim {dim} and side {side}: dim must be at least 1 and side at least 2")
        self.dim, self.side = dim, side
        self.actions, self.back_actions = dim + 1, dim + 1
        self.horizon = dim * (side - 1) + 1
        self.features = dim * side
        self.size = 2 * side**dim
        self._columns = torch.arange(dim + 1)
        self._limits = torch.tensor([side - 1] * dim + [1])
        self._places = side ** torch.arange(dim - 1, -1, -1)
        self._one_hot = torch.eye(side)

    def initial(self, n: int) -> Tensor:
        """(n, dim + 1) zeros: the origin, not stopped."""
        return torch.zeros((n, self.dim + 1), dtype=torch.int64)

    def allowed(self, state: Tensor) -> Tensor:
        """Coordinates below the side may grow; the stop is always allowed."""
        return state < self._limits

    def step(self, state: Tensor, action: Tensor) -> Tensor:
        """Adds 1 to the column that the action names: a coordinate, or the stop's flag."""
        return state + (self._columns == action[:, None])

    def terminal(self, state: Tensor) -> Tensor:
        """Whether the trajectory has stopped."""
        return state[:, -1] > 0

    def depth(self, state: Tensor) -> Tensor:
        """Steps from the origin."""
        return state.sum(1)

    def parents(self, state: Tensor) -> Tensor:
        """Backward action d subtracts from coordinate d; the last one takes the stop back, and is then the only one."""
        stopped = state[:, -1:] > 0
        return (state > 0) & (~stopped | (self._columns == self.dim))

    def back(self, state: Tensor, action: Tensor) -> Tensor:
        """The parent from which forward action `action` led here."""
        return state - (self._columns == action[:, None]).long()

    def back_action(self, state: Tensor, action: Tensor) -> Tensor:
        """Backward and forward actions carry the same number."""
        return action

    def forward_action(self, state: Tensor, back_action: Tensor) -> Tensor:
        """Backward and forward actions carry the same number."""
        return back_action

    def encode(self, state: Tensor) -> Tensor:
        """One-hot coordinates, (n, dim * side) float32."""
        return functional.embedding(state[:, :-1], self._one_hot).flatten(1)

    def objects(self, state: Tensor) -> Tensor:
        """The coordinates."""
        return state[:, :-1]

    def state_of(self, objects: Columns) -> Tensor:
        """The terminal state of each point."""
        if not isinstance(objects, Tensor):
            raise ValueError(f"a hypergrid's objects are a tensor (n, {self.dim}) of coordinates")
        return functional.pad(objects, (0, 1), value=1)

    def states(self) -> Tensor:
        """Every state, the stopped copies last; points in row-major order."""
        index = torch.arange(self.size)
        digits = (index[:, None] % self.side**self.dim) // self._places % self.side
        return torch.cat([digits, (index >= self.side**self.dim).long()[:, None]], 1)

    def index(self, state: Tensor) -> Tensor:
        """The place of each state in `states`."""
        return (state[:, :-1] * self._places).sum(1) + state[:, -1] * self.side**self.dim


def corners(side: int, r0: float = 0.1, r1: float = 0.5, r2: float = 2.0) -> Callable[[Columns, Columns], Tensor]:
    """log R(x), R = r0 + r1 prod 1[1/4 < |x_d/(side-1) - 1/2|] + r2 prod 1[3/10 < |x_d/(side-1) - 1/2| < 2/5].

    Source: Bengio et al. 2021, section 4.1. Malkin et al. 2022 take (r1, r2) = (.5, 2) and r0 in {.1, .01, .001};
    Madan et al. 2023 (arXiv:2209.12782) a hard grid of (1e-4, 1, 3).

    Raises:
        ValueError: r0 not positive: the reward would be zero between the modes, its logarithm infinite.

    Example:
        >>> import torch
        >>> corners(8)(torch.tensor([[0, 0], [1, 1], [3, 3]]), None).exp()
        tensor([0.6000, 2.6000, 0.1000], dtype=torch.float64)
    """
    _positive(r0)
    # Distances are compared as integers, 20 |2 x - (side - 1)| against 40 (side - 1) times 1/4, 3/10 and 2/5: a float
    # comparison puts points that lie on a boundary inside or outside by rounding. A coordinate in the ring is also an
    # outer one: what all coordinates are is the least of them.
    width = side - 1

    distance = 20 * (2 * torch.arange(side) - width).abs()
    level = (distance > 10 * width).long() + ((distance > 12 * width) & (distance < 16 * width)).long()
    value = torch.tensor([r0, r0 + r1, r0 + r1 + r2], dtype=torch.float64).log()

    def log_reward(objects: Columns, context: Columns = None) -> Tensor:
        return value[level[_grid(objects)].amin(-1)]

    return log_reward


def cosine(side: int, r0: float = 0.1, r1: float = 0.5) -> Callable[[Columns, Columns], Tensor]:
    """log R(x), R = r0 + r1 prod (cos(50 a_d) + 1) phi(5 a_d), a_d = |x_d/(side-1) - 1/2|, phi the normal density.

    Source: the second landscape of the code of Bengio et al. 2021 (arXiv:2106.04399): many modes of unequal height.

    Raises:
        ValueError: r0 not positive.
    """
    _positive(r0)

    def log_reward(objects: Columns, context: Columns = None) -> Tensor:
        away = (_grid(objects).double() / (side - 1) - 0.5).abs()
        density = torch.exp(-0.5 * (5 * away) ** 2) / math.sqrt(2 * math.pi)
        return torch.log(r0 + r1 * ((torch.cos(50 * away) + 1) * density).prod(-1))

    return log_reward


def deceptive(side: int, r0: float = 1e-5, r1: float = 0.1, r2: float = 2.0) -> Callable[[Columns, Columns], Tensor]:
    """log R(x), R = r0 + r1 (1 - prod 1[u_d > 1/5]) + r2 prod 1[3/5 < u_d < 4/5], u_d = |2 x_d/(side-1) - 1|.

    Source: the deceptive grid of Kim et al. 2025, "Adaptive teachers for amortized samplers", arXiv:2410.01432: the
    way to the modes leads through a region of reward r0.

    Raises:
        ValueError: r0 not positive.
    """
    _positive(r0)
    width = side - 1

    def log_reward(objects: Columns, context: Columns = None) -> Tensor:
        distance = 5 * (2 * _grid(objects) - width).abs()
        outer = (distance > width).all(-1).double()
        ring = ((distance > 3 * width) & (distance < 4 * width)).all(-1).double()
        return torch.log(r0 + r1 * (1 - outer) + r2 * ring)

    return log_reward


LANDSCAPES: dict[str, Callable[..., Callable[[Columns, Columns], Tensor]]] = {
    "corners": corners,
    "cosine": cosine,
    "deceptive": deceptive,
}

PUBLISHED = {"easy": (1e-3, 0.5, 2.0), "hard": (1e-4, 1.0, 3.0)}
"""(r0, r1, r2) of `corners` by difficulty.

Source: Madan et al. 2023, "Learning GFlowNets from partial episodes for improved convergence and stability",
arXiv:2209.12782. In two dimensions either has the four modes of f-trajectory balance's grid (arXiv:2605.15417).
"""


def _grid(objects: Columns) -> Tensor:
    if not isinstance(objects, Tensor):
        raise ValueError("a hypergrid's reward is given a tensor (n, dim) of coordinates")
    return objects


def _positive(r0: float) -> None:
    if not r0 > 0:
        raise ValueError(f"R0 is {r0}: it must be positive, for a reward of zero has no logarithm")
