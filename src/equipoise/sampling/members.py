"""Thompson sampling: each trajectory is drawn by one member of an ensemble, and trains a few of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.contracts import Source
from equipoise.trajectories import Columns, Trajectories


class Bootstrapped:
    """A source whose every trajectory is given several times, each time for another member to train on.

    Of n rows, n / times are drawn by `inner`, each by the member that its context names; then each is given to `times`
    members chosen at random, without replacement: a bootstrap mask with exactly so many ones.

    Source: Rector-Brooks et al. 2023, "Thompson sampling for improved exploration in GFlowNets", arXiv:2306.17693,
    where a mask's entries are independent.

    Args:
        inner: rollouts with `conditions=OneMember(members)`, or what keeps them.
        members: of the ensemble.
        times: members that train on a trajectory, from 1 to `members`.

    Raises:
        ValueError: `times` out of range; in `draw`, an n that is not a multiple of it.

    Use it where exploration by noise finds too little: members disagree where little was seen.
    """

    def __init__(self, inner: Source, members: int, times: int) -> None:
        if not 1 <= times <= members:
            raise ValueError(f"times is {times}: from 1 to {members}, the members, was expected")
        self.inner, self.members, self.times = inner, members, times
        self.provides: frozenset[str] = getattr(inner, "provides", frozenset())

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """n rows: the first n / times trajectories for one member, then the same for another, and so on."""
        if n % self.times:
            raise ValueError(f"{n} rows were asked for: a multiple of times, {self.times}, is expected")
        drawn = self.inner.draw(n // self.times, generator)
        order = torch.rand((len(drawn), self.members), generator=generator).argsort(1)[:, : self.times]
        rows = drawn[torch.arange(len(drawn)).repeat(self.times)]
        return replace(rows, context=order.T.flatten())

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The inner source is told, of every row."""
        self.inner.observe(trajectories, residual)

    def state_dict(self) -> dict[str, Any]:
        return {"inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.load_state_dict(state["inner"])


class OneMember:
    """Conditions for rollouts: a member at random for each trajectory; all share one log Z.

    Example:
        >>> context, group = OneMember(3)(4, torch.Generator().manual_seed(0))
        >>> context.shape, group.tolist()
        (torch.Size([4]), [0, 0, 0, 0])
    """

    def __init__(self, members: int) -> None:
        self.members = members

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randint(self.members, (n,), generator=generator), torch.zeros(n, dtype=torch.int64)

    def features(self, context: Columns) -> Tensor:
        """The members as one-hot rows, (n, members): a sampler's `condition`.

        Raises:
            ValueError: a context that is no tensor.
        """
        if not isinstance(context, Tensor):
            raise ValueError("an ensemble's context is a tensor (n,) of members' numbers")
        return functional.one_hot(context, self.members).float()


class Exponents:
    """Conditions for rollouts: an exponent for each trajectory, one of `levels` from `low` to `high`, at equal ratios.

    The context is the exponent, (n,); the group its place among the levels, for log Z depends on it.

    Args:
        low: least exponent, positive.
        high: largest.
        levels: at least 2.

    Raises:
        ValueError: a range that is empty, or too few levels.

    Example:
        >>> exponents = Exponents(0.5, 2.0, 3)
        >>> exponents.values.tolist()
        [0.5, 1.0, 2.0]
    """

    def __init__(self, low: float, high: float, levels: int) -> None:
        if not 0 < low < high or levels < 2:
            raise ValueError(f"exponents from {low} to {high}, {levels} levels: 0 < low < high and 2 levels expected")
        self.values = torch.linspace(math.log(low), math.log(high), levels).exp()

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        place = torch.randint(len(self.values), (n,), generator=generator)
        return self.values[place], place

    def features(self, context: Columns) -> Tensor:
        """log beta, (n, 1): a sampler's `condition`.

        Raises:
            ValueError: a context that is no tensor.
        """
        if not isinstance(context, Tensor):
            raise ValueError("the context of a temperature-conditional policy is a tensor (n,) of exponents")
        return context.log()[:, None]
