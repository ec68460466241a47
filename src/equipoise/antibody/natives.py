"""The source of loops as they are in nature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.antibody.patches import Patches
from equipoise.antibody.sampler import LoopSampler
from equipoise.contracts import Reward
from equipoise.trajectories import Trajectories, ends


class Natives:
    """A source of native loops, drawn with replacement; with a sampler, each with a path drawn by the noising.

    Args:
        patches: the complexes.
        rows: of those that are drawn.
        sampler: noises them; None: end points alone, which is what denoising reads.
        reward: of the native loops, called once; None: none.

    Raises:
        ValueError: no rows.
    """

    def __init__(
        self, patches: Patches, rows: Tensor, *, sampler: LoopSampler | None = None, reward: Reward | None = None
    ) -> None:
        if not len(rows):
            raise ValueError("no complexes to train on: hold out fewer")
        native = {name: value[rows] for name, value in patches.native().items()}
        log_reward = None if reward is None else reward(native, rows)
        self.rows = ends(native, context=rows.clone(), group=rows.clone(), log_reward=log_reward)
        self.sampler = sampler
        self.provides = frozenset[str]()

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """n native loops."""
        drawn = self.rows[torch.randint(len(self.rows), (n,), generator=generator)]
        return drawn if self.sampler is None else self.sampler.sample_to(drawn, generator=generator)

    def conditions(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The complexes of n loops, for designs that are drawn beside them."""
        assert isinstance(self.rows.context, Tensor)
        rows = self.rows.context[torch.randint(len(self.rows), (n,), generator=generator)]
        return rows, rows.clone()

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Nothing is kept."""

    def state_dict(self) -> dict[str, Any]:
        """There is no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""


@dataclass(frozen=True)
class SeveralEach:
    """Conditions of rollouts: complexes drawn at random, each for several designs one after another.

    Attributes:
        rows: of the complexes.
        responses: designs of each.

    Example:
        >>> SeveralEach(torch.tensor([4]), 2)(4, torch.Generator())[0].tolist()
        [4, 4, 4, 4]
    """

    rows: Tensor
    responses: int

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if n % self.responses:
            raise ValueError(f"{n} designs of {self.responses} a complex: a multiple was expected")
        order = torch.rand(len(self.rows), generator=generator).argsort()
        few = order[torch.arange(n // self.responses) % len(self.rows)]
        chosen = self.rows[few].repeat_interleave(self.responses)
        return chosen, chosen.clone()
