"""The modes of the hypergrid's landscapes of corners."""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.evaluation.coverage import Modes
from equipoise.trajectories import Columns

MOST_DIM = 5
"""Dimensions beyond which modes, 2^dim, are too many to be told one by one."""


def corner_modes(*, dim: int, side: int) -> Modes | None:
    """The 2^dim rings 3/10 < |x_d/(side-1) - 1/2| < 2/5, one to each corner, where a landscape has its highest reward.

    They are those of `corners`, hard or easy, and of `deceptive`. Mode m is the corner whose coordinate d is high where
    bit d of m is 1.

    Args:
        dim: number of coordinates.
        side: values of each.

    Returns:
        The modes; None where a grid is too coarse to have a point in them, or of more than `MOST_DIM` dimensions.

    Example:
        >>> modes = corner_modes(dim=2, side=8)
        >>> modes.count, modes.member(torch.tensor([[1, 1], [6, 1], [0, 0]])).int().tolist()
        (4, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    """
    width = side - 1
    # As integers, for the reason that `corners` gives.
    distance = 20 * (2 * torch.arange(side) - width).abs()
    ring = (distance > 12 * width) & (distance < 16 * width)
    if dim > MOST_DIM or not bool(ring.any()):
        return None
    bits = 2 ** torch.arange(dim)
    corner = torch.arange(2**dim)

    def member(objects: Columns) -> Tensor:
        if not isinstance(objects, Tensor):
            raise ValueError(f"the grid's modes are told of a tensor (n, {dim}) of coordinates")
        number = ((2 * objects > width) * bits).sum(1)
        return ring[objects].all(1)[:, None] & (number[:, None] == corner)

    return Modes(member, 2**dim)
