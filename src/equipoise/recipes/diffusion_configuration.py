"""Configurations of diffusion tasks. Imports no torch, so that help is printed at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from equipoise.recipes.configuration import BASELINES, METHODS, PATHS, DiffusionMethod, Powered, SourceName


@dataclass(frozen=True)
class Diffusion(Powered):
    """The flags of tasks that tune a diffusion model."""

    presets: ClassVar[Mapping[str, tuple[str, str]]] = {**METHODS, "vargrad": ("relative", "group_mean")}

    batch: int = 256
    """trajectories a step"""
    method: DiffusionMethod = "rtb"
    """a named method: of the balance family (fills in --residual and --log-z), or a baseline of RL"""
    source: SourceName = "on_policy"
    """where trajectories come from ('replay': half of each batch from the last 100,000 objects)"""
    noise: float = 0.5
    """exploration: its square is added to the variance of every step; falls linearly to 0 at 90 % of the steps"""
    time_steps: int = 100
    """steps of the diffusion"""
    subsample: int | None = None
    """steps of each path that gradients flow through (default: all)"""
    prior: Path | None = None
    """run folder of a prior (--method likelihood); default: one is trained first, in OUT/prior"""
    prior_steps: int = 8000
    """optimiser steps of a prior that is trained first"""
    kl_weight: float = 0.5
    """weight of the squared log-ratio in --method original"""
    updates: int = 4
    """updates of each batch in --method ppo"""
    clip: float = 0.2
    """how far PPO lets a step's ratio go from 1"""

    # Of a prior's training, no flags: objects a step (each is noised to one step, so they are cheap), learning rate.
    prior_batch, prior_rate = 512, 5e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least, most in (("noise", 0, 1e3), ("time_steps", 2, 10**5), ("prior_steps", 1, 10**9)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}: a number from {least} to {most} was expected")
        if self.subsample is not None and not 1 <= self.subsample <= self.time_steps:
            raise ValueError(f"subsample is {self.subsample}: from 1 to the {self.time_steps} steps was expected")
        if not self.kl_weight > 0 or not 0 < self.clip < 1 or not 1 <= self.updates <= 1000:
            raise ValueError(
                f"kl_weight {self.kl_weight}, clip {self.clip}, updates {self.updates}: a positive weight, a clip "
                "between 0 and 1, and 1 to 1000 updates were expected"
            )
        residual, _ = self.choices()
        if residual and residual not in PATHS:
            raise ValueError(f"residual '{residual}' judges single states: diffusion tasks take {', '.join(PATHS)}")
        if self.method == "likelihood" and self.prior is not None:
            raise ValueError("--method likelihood trains a prior: leave out --prior")
        if self.source == "replay" and self.method in BASELINES:
            raise ValueError(f"method '{self.method}' with source 'replay': RL's baselines need who drew a trajectory; "
                             "use on_policy, with --noise to explore")  # fmt: skip

    @property
    def from_scratch(self) -> bool:
        """Whether there is no prior: TB on the reward alone, or the prior itself."""
        return self.method == "likelihood" or self.choices()[0] == "trajectory"


@dataclass(frozen=True)
class Gaussians25(Diffusion):
    """A prior on 25 Gaussians in the plane, tuned to nine of them, unevenly weighed; or these nine from scratch.

    Source: Venkatraman et al. 2024, arXiv:2405.20971, appendix C; Deleu et al. 2025, arXiv:2509.01632.
    """

    steps: int = 2400
    """optimiser steps"""
    every: int = 400
    """steps between evaluations, log lines and checkpoints"""
    reward: str = "posterior"
    """'posterior', or your own as module:function, of points (n, 2)"""
