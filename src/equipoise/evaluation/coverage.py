"""Which of the known modes a sampler has: by the mass that it holds there, and by the trajectories it took to see them.

A mode is a set of objects, given by a function that tells its members; sets may overlap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Source
from equipoise.evaluation.best import hamming_distance
from equipoise.trajectories import Columns, Trajectories

HELD = 0.5
"""Share of a mode's due mass from which it counts as held."""


@dataclass(frozen=True)
class Modes:
    """The known modes of a target.

    Attributes:
        member: objects -> (n, count) bool, whether each object is of each mode.
        count: how many modes there are.
    """

    member: Callable[[Columns], Tensor]
    count: int


def within(centres: Tensor, radius: int) -> Modes:
    """Modes of words: all that differ from a centre in at most `radius` places.

    Args:
        centres: (modes, length) letters' numbers.
        radius: the largest Hamming distance.

    Example:
        >>> within(torch.tensor([[0, 0, 0], [1, 1, 1]]), 1).member(torch.tensor([[0, 0, 1]])).tolist()
        [[True, False]]
    """

    def member(objects: Columns) -> Tensor:
        if not isinstance(objects, Tensor):
            raise ValueError(f"modes of words are told of a tensor (n, {centres.shape[1]}) of letters' numbers")
        return hamming_distance(objects, centres) <= radius

    return Modes(member, len(centres))


def mode_masses(model: Tensor, target: Tensor, member: Tensor) -> dict[str, float]:
    """How much of a distribution lies on the modes, and how many of them it holds.

    Args:
        model: (objects,) the sampler's probabilities.
        target: (objects,) the target's.
        member: (objects, modes) bool.

    Returns:
        mode_mass, mode_mass_exact (the target's); modes_held, those on which the model has at least `HELD` of the
        target's mass; modes, how many there are.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> member = torch.tensor([[True, False], [False, True], [False, False]])
        >>> target = torch.tensor([0.25, 0.25, 0.5])
        >>> mode_masses(torch.tensor([0.5, 0.1, 0.4]), target, member)["modes_held"]
        1.0
    """
    if member.dim() != 2 or not len(member) == len(model) == len(target):
        shapes = f"model {tuple(model.shape)}, target {tuple(target.shape)} and member {tuple(member.shape)}"
        raise ValueError(f"{shapes}: (objects,) twice and (objects, modes) were expected")
    model, target, inside = model.double(), target.double(), member.double()
    some = member.any(1)
    return {
        "mode_mass": float(model[some].sum()),
        "mode_mass_exact": float(target[some].sum()),
        "modes_held": float((model @ inside >= HELD * (target @ inside)).sum()),
        "modes": float(member.shape[1]),
    }


class Discovery:
    """A source as it is, with the number of trajectories that it had given when each mode was first among them.

    Args:
        inner: the source.
        modes: that are looked for.

    Example:
        >>> from equipoise.sampling.given import Data
        >>> source = Discovery(Data(torch.tensor([[0], [2]])), within(torch.arange(3)[:, None], 0))
        >>> _ = source.draw(64, torch.Generator().manual_seed(0))
        >>> source.figures()
        {'modes_found': 2.0, 'trajectories': 64.0}
        >>> bool(source.first[1] < 0)
        True

    Put it around what draws anew: a replay's old objects would be counted again.
    """

    def __init__(self, inner: Source, modes: Modes) -> None:
        self.inner, self.modes = inner, modes
        self.provides: frozenset[str] = getattr(inner, "provides", frozenset())
        self.first = torch.full((modes.count,), -1, dtype=torch.int64)
        self.trajectories = 0

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """The inner source's draw, looked at."""
        drawn = self.inner.draw(n, generator)
        if bool((self.first < 0).any()):
            member = self.modes.member(drawn.objects)
            seen = self.trajectories + 1 + member.int().argmax(0)
            self.first = torch.where((self.first < 0) & member.any(0), seen, self.first)
        self.trajectories += n
        return drawn

    def figures(self) -> dict[str, float]:
        """Modes seen so far, and the trajectories that it took: exploration's own count, never the sampler's mass."""
        return {"modes_found": float((self.first >= 0).sum()), "trajectories": float(self.trajectories)}

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The inner source is told."""
        self.inner.observe(trajectories, residual)

    def state_dict(self) -> dict[str, Any]:
        """The inner source's state, and what was seen."""
        return {"inner": self.inner.state_dict(), "first": self.first, "trajectories": self.trajectories}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up where `state_dict` was called."""
        self.inner.load_state_dict(state["inner"])
        self.first, self.trajectories = state["first"], state["trajectories"]


def found_by_chance(mass: Tensor, n: int) -> float:
    """The expected number of modes among n draws of a sampler with these masses on them: sum of 1 - (1 - m)^n.

    With the target's masses it is what a perfect sampler would find: the ceiling beside a count of modes.

    Args:
        mass: (modes,) probability of each mode.
        n: draws.

    Example:
        >>> found_by_chance(torch.tensor([0.5, 0.0]), 1)
        0.5
    """
    return float(-torch.expm1(n * torch.log1p(-mass.double().clamp(max=1.0))).sum())
