"""Adaptive teacher: a second sampler is trained to draw what the first has not learned, and draws for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from equipoise.contracts import Source
from equipoise.trajectories import Trajectories, concatenate


def teacher_log_reward(
    residual: Tensor, log_reward: Tensor, *, surplus: float = 19.0, share: float = 0.0, floor: float = 1e-3
) -> Tensor:
    """log R_T = log log(1 + floor + (1 + surplus 1[residual < 0]) residual^2) + share log R.

    A negative residual, model below target, is an object drawn too rarely: it counts 1 + surplus times.

    Source: Kim et al. 2025, "Adaptive teachers for amortized samplers", arXiv:2410.01432: surplus 19, share 0 on the
    grid and 0.5 elsewhere.

    Args:
        residual: of the student's trajectory balance, (n,), nats.
        log_reward: of the objects, (n,).
        surplus: C, at least 0.
        share: alpha, the exponent of the reward, at least 0.
        floor: so that a learned object keeps a reward, positive.

    Example:
        >>> teacher_log_reward(torch.tensor([-1.0, 1.0]), torch.zeros(2)).exp()
        tensor([3.0446, 0.6936])
    """
    weight = torch.where(residual < 0, 1 + surplus, 1.0)
    return torch.log(torch.log1p(floor + weight * residual.square())) + share * log_reward


class Taught:
    """A source whose draws are in part a teacher's; `lessons` is the source that trains the teacher, on the same rows.

    Args:
        student: rollouts of the student (or what keeps them).
        teacher: rollouts of the teacher, with the student's reward.
        fraction: share of a draw that is the teacher's, in [0, 1).
        surplus: of `teacher_log_reward`.
        share: the same.

    Raises:
        ValueError: a fraction out of range.

    Put the student's term first: the teacher learns from residuals that the same step has computed.
    """

    def __init__(
        self, student: Source, teacher: Source, *, fraction: float = 0.5, surplus: float = 19.0, share: float = 0.0
    ) -> None:
        if not 0 <= fraction < 1:
            raise ValueError(f"fraction is {fraction}: the teacher's share, at least 0 and below 1, was expected")
        self.student, self.teacher, self.fraction = student, teacher, fraction
        self.surplus, self.share = surplus, share
        self.provides = frozenset[str]()
        self.lessons = Lessons()

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """n trajectories, the teacher's last."""
        own = n - round(self.fraction * n)
        parts = [self.student.draw(own, generator)]
        if own < n:
            parts.append(replace(self.teacher.draw(n - own, generator), key=torch.full((n - own,), -1)))
        return replace(concatenate(parts), fixed={})

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """The student's source is told, and the teacher's lesson is what the student has just shown.

        Raises:
            ValueError: no residual: the student's term has none.
        """
        if residual is None or trajectories.log_reward is None:
            raise ValueError("a teacher learns from the student's residuals, and its term gives none")
        self.student.observe(trajectories, residual)
        log_reward = teacher_log_reward(residual, trajectories.log_reward, surplus=self.surplus, share=self.share)
        self.lessons.rows = replace(trajectories, log_reward=log_reward.float(), fixed={})

    def state_dict(self) -> dict[str, Any]:
        return {"student": self.student.state_dict(), "teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self.teacher.load_state_dict(state["teacher"])


class Lessons:
    """The rows that a student has just been trained on, with the teacher's reward. Nothing lives from step to step."""

    def __init__(self) -> None:
        self.rows: Trajectories | None = None
        self.provides = frozenset[str]()

    def draw(self, n: int, generator: torch.Generator) -> Trajectories:
        """The rows, once.

        Raises:
            ValueError: there are none, or not n.
        """
        rows, self.rows = self.rows, None
        if rows is None or len(rows) != n:
            held = 0 if rows is None else len(rows)
            raise ValueError(f"a lesson of {n} rows was asked for and there are {held}: train the student first")
        return rows

    def observe(self, trajectories: Trajectories, residual: Tensor | None) -> None:
        """Nothing is kept."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""
