"""The steps of a batch as packed rows: of any number in eager, of a few fixed numbers where scoring is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor
from torch.nn import functional

from equipoise.sampling.fixed import PARENTS
from equipoise.trajectories import Columns, Trajectories

LEAST = 64
"""Rows of the smallest bucket; above 256 there are four buckets to each doubling."""


class Packed:
    """The valid steps of a batch as rows, in order: state before, action, state after.

    `kept` is what `fixed["parents"]` holds of each row, where it was renewed; None where it was not.

    Args:
        trajectories: with `state` and `action` in their path.
        conditions: (n, features) of the rows' conditions, or None.
    """

    kept: Tensor | None = None
    products: Sequence[Tensor] = ()

    def __init__(self, trajectories: Trajectories, conditions: Tensor | None) -> None:
        states, self.n, steps = trajectories.path["state"], len(trajectories), trajectories.steps
        self.mask = torch.arange(steps) < trajectories.length[:, None]
        self.lane, self.place = self.mask.nonzero(as_tuple=True)
        self.state = states[self.lane, self.place]
        self.child = states[self.lane, self.place + 1]
        self.action = trajectories.path["action"][self.lane, self.place]
        self.last = self.place + 1 == trajectories.length[self.lane]
        self.conditions = conditions
        self.condition = None if conditions is None else conditions[self.lane]
        if PARENTS in trajectories.fixed:
            self.kept = trajectories.fixed[PARENTS].value[self.lane, self.place]

    def scatter(self, values: Tensor) -> Tensor:
        """(n, steps): one value a row, 0 where there is no step."""
        return values.new_zeros(self.mask.shape).masked_scatter(self.mask, values)

    def with_ends(self) -> tuple[Tensor, Tensor | None]:
        """The rows' states, then the terminal state of each trajectory; and their conditions."""
        condition = (
            None if self.conditions is None or self.condition is None else torch.cat([self.condition, self.conditions])
        )
        return torch.cat([self.state, self.ends()]), condition

    def ends(self) -> Tensor:
        """The terminal state of each trajectory."""
        return self.child[self.last]

    def child_row(self, evaluated: int) -> Tensor:
        """The evaluated row that holds each row's child: the next one, or the trajectory's terminal state.

        Where terminal states were not evaluated the row itself stands in: a terminal copy has one parent, so its
        log-probability is 0 whatever the logits.
        """
        row = torch.arange(len(self.state))
        ends = len(self.state) + self.lane if evaluated > len(self.state) else row
        return torch.where(self.last, ends, row + 1)


class Bucket(Packed):
    """The same rows, padded to a fixed number; laid out at the full horizon. Pure functions of `tensors`.

    `products` are what the policy kept of the rows when it drew them, (rows, width) each; none: it must be evaluated.

    Args:
        tensors: of `bucket`.
    """

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        states, actions, length, slot, conditions, *products = tensors
        self.n, self.horizon = actions.shape
        width = states.shape[2]
        # Rows beyond the valid ones are copies of the first, whose values are laid beyond all slots.
        self.slot, beyond = slot, slot == self.n * self.horizon
        row = torch.where(beyond, 0, slot)
        self.lane = row // self.horizon
        flat, before = states.reshape(-1, width), row + self.lane  # a trajectory has one more state than steps
        self.state, self.child = flat.index_select(0, before), flat.index_select(0, before + 1)
        self.action = actions.reshape(-1).index_select(0, row)
        self.last = beyond | (row - self.lane * self.horizon + 1 == length[self.lane])
        self.end = flat.index_select(0, torch.arange(self.n) * (self.horizon + 1) + length)
        self.mask = torch.arange(self.horizon) < length[:, None]
        self.products = [product.flatten(0, 1) for product in products]
        self.conditions = conditions if conditions.shape[1] else None
        self.condition = None if self.conditions is None else self.conditions[self.lane]

    def scatter(self, values: Tensor) -> Tensor:
        """(n, horizon): one value a row, 0 where there is no step."""
        if len(values) == self.n * self.horizon:
            return values.view(self.n, self.horizon)
        laid = values.new_zeros(self.n * self.horizon + 1).index_put((self.slot,), values)
        return laid[:-1].view(self.n, self.horizon)

    def ends(self) -> Tensor:
        """The terminal state of each trajectory."""
        return self.end


def bucket(trajectories: Trajectories, conditions: Tensor | None, horizon: int, size: int) -> tuple[Tensor, ...]:
    """The tensors of a `Bucket`, less products: states, actions, length, slots of the rows, conditions (n, 0 or more).

    Args:
        trajectories: with `state` and `action` in their path.
        conditions: (n, features), or None.
        horizon: the most steps of a trajectory.
        size: rows of the bucket, at least as many as there are valid ones.
    """
    states, actions, n = trajectories.path["state"], trajectories.path["action"], len(trajectories)
    short = horizon - trajectories.steps
    if short:
        states, actions = functional.pad(states, (0, 0, 0, short)), functional.pad(actions, (0, short))
    if size == n * horizon:
        slot = torch.arange(size)
    else:
        slot = (torch.arange(horizon) < trajectories.length[:, None]).flatten().nonzero()[:, 0]
        slot = functional.pad(slot, (0, size - len(slot)), value=n * horizon)
    beside = torch.empty((n, 0)) if conditions is None else conditions
    return states.contiguous(), actions.contiguous(), trajectories.length, slot, beside


def bucket_of(rows: int, most: int) -> int:
    """The smallest bucket that holds so many rows; a full one where no row is missing.

    Example:
        >>> [bucket_of(rows, 620) for rows in (1, 65, 257, 600, 620)]
        [64, 128, 320, 640, 620]
    """
    if rows == most:
        return most
    quarter = max(LEAST, 1 << max((rows - 1).bit_length() - 3, 0))
    return -(-rows // quarter) * quarter


def packed_parents(place: Tensor, parents: Tensor) -> Tensor:
    """Which parent a step comes from, (n,), and which parents there are, (n, back_actions) bool, in few numbers.

    Returns:
        (n, 1 + back_actions / 64, rounded up) int64: the place, then 64 booleans to a number.

    Example:
        >>> parents = torch.tensor([[True, False, True], [False, True, False]])
        >>> held = packed_parents(torch.tensor([2, 1]), parents)
        >>> held.shape, [part.tolist() for part in unpacked_parents(held, 3)]
        (torch.Size([2, 2]), [[2, 1], [[True, False, True], [False, True, False]]])
    """
    padded = functional.pad(parents, (0, -parents.shape[1] % 64))
    bits = numpy.packbits(padded.numpy(), axis=1, bitorder="little").view(numpy.int64)
    return torch.cat([place[:, None], torch.from_numpy(bits)], 1)


def unpacked_parents(held: Tensor, back_actions: int) -> tuple[Tensor, Tensor]:
    """The place (n,) and the parents (n, back_actions) bool that `packed_parents` packed."""
    bits = held[:, 1:].contiguous().numpy().view(numpy.uint8)
    parents = numpy.unpackbits(bits, axis=1, count=back_actions, bitorder="little")
    return held[:, 0], torch.from_numpy(parents).bool()


@dataclass
class Drawn:
    """What a policy kept of the last compiled draw, whose rows are moves in order."""

    action: Tensor | None = None
    version: int = 0
    products: tuple[Tensor, ...] = ()

    def keep(self, action: Tensor, version: int, products: tuple[Tensor, ...]) -> None:
        """Forgets the draw before."""
        self.action, self.version, self.products = action, version, products

    def products_of(self, trajectories: Trajectories, version: int) -> tuple[Tensor, ...]:
        """What was kept of these trajectories; nothing where they are not that draw, or the policy has changed."""
        return self.products if trajectories.path["action"] is self.action and version == self.version else ()


def recorded(
    version: Tensor, path: dict[str, Tensor], length: Tensor, objects: Columns, context: Columns
) -> Trajectories:
    """What a sampler of that version has drawn, without a reward, in no group."""
    n = len(length)
    return Trajectories(
        path=path,
        length=length,
        objects=objects,
        context=context,
        group=torch.zeros(n, dtype=torch.int64),
        log_reward=None,
        version=version.expand(n).clone(),
        key=torch.full((n,), -1, dtype=torch.int64),
        steps=path["action"].shape[1],
    )
