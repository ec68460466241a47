"""Total variation of a policy from its target, exactly, from a table of the policy's logits. numpy alone.

The one function that judges every library in `benchmarks/time_to_quality.py`, so that none is judged by its own. A
policy is given by its forward logits on all states that are not terminal, in the orders of `grid_states` and
`string_prefixes`; what is not allowed is left out here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]


def grid_states(dimensions: int, side: int) -> Integers:
    """All points of a grid, (side ** dimensions, dimensions), the last coordinate fastest.

    Example:
        >>> grid_states(2, 2).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    axes = [numpy.arange(side)] * dimensions
    return numpy.stack([axis.ravel() for axis in numpy.meshgrid(*axes, indexing="ij")], 1)


def grid_log_reward(points: Integers, side: int, rewards: Sequence[float]) -> Floats:
    """log R = log(R0 + R1 [all outer] + R2 [all in the ring]) of points (n, dimensions).

    Source: Bengio et al. 2021, arXiv:2106.04399, section 4.1.
    """
    place = numpy.abs(points / (side - 1) - 0.5)
    outer, ring = (place > 0.25).all(1), ((place > 0.3) & (place < 0.4)).all(1)
    return numpy.log(rewards[0] + rewards[1] * outer + rewards[2] * ring)


def grid_distribution(logits: Floats, dimensions: int, side: int) -> Floats:
    """A policy's own probability of each point, in the order of `grid_states`.

    Args:
        logits: (points, dimensions + 1), the exit last.
        dimensions: of the grid.
        side: of the grid.

    Example:
        >>> grid_distribution(numpy.zeros((4, 3)), 2, 2).round(3).tolist()
        [0.333, 0.167, 0.167, 0.333]
    """
    points = grid_states(dimensions, side)
    allowed = numpy.concatenate([points < side - 1, numpy.ones((len(points), 1), dtype=bool)], 1)
    probability = _softmax(numpy.where(allowed, logits.astype(numpy.float64), -numpy.inf))
    strides = side ** numpy.arange(dimensions - 1, -1, -1)
    depth, reached = points.sum(1), numpy.zeros(len(points))
    reached[0] = 1.0
    for level in range(dimensions * (side - 1)):
        rows = numpy.flatnonzero(depth == level)
        for axis in range(dimensions):
            going = rows[points[rows, axis] < side - 1]
            numpy.add.at(reached, going + strides[axis], reached[going] * probability[going, axis])
    return reached * probability[:, -1]


def string_prefixes(letters: int, length: int) -> Integers:
    """All strings shorter than `length`, shortest first, (states, length), -1 where empty, the last letter fastest.

    Example:
        >>> string_prefixes(2, 2).tolist()
        [[-1, -1], [0, -1], [1, -1]]
    """
    levels = []
    for size in range(length):
        rows = grid_states(size, letters) if size else numpy.zeros((1, 0), dtype=numpy.int64)
        levels.append(numpy.pad(rows, ((0, 0), (0, length - size)), constant_values=-1))
    return numpy.concatenate(levels)


def string_distribution(logits: Floats, letters: int, length: int) -> Floats:
    """An appending policy's own probability of each string, in the order of the number that its letters write.

    Args:
        logits: (states, letters) in the order of `string_prefixes`.
        letters: size of the alphabet.
        length: of a string.

    Example:
        >>> string_distribution(numpy.zeros((3, 2)), 2, 2).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    probability, reached, first = _softmax(logits.astype(numpy.float64)), numpy.ones(1), 0
    for size in range(length):
        rows = probability[first : first + letters**size]
        reached, first = (reached[:, None] * rows).ravel(), first + letters**size
    return reached


def total_variation(model: Floats, log_reward: Floats) -> float:
    """Half the sum of |p(x) - R(x) / Z|.

    Example:
        >>> total_variation(numpy.array([0.5, 0.5]), numpy.log([3.0, 1.0]))
        0.25
    """
    target = _softmax(log_reward.astype(numpy.float64)[None])[0]
    return float(0.5 * numpy.abs(model - target).sum())


def _softmax(logits: Floats) -> Floats:
    raised = numpy.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)
