"""The configuration of molecules made by reactions. Imports no torch, so that help is printed at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from equipoise.recipes.configuration import Discrete

CHEMISTRIES = ("rgfn-small", "hb-zinc10k")


@dataclass(frozen=True)
class Molecules(Discrete):
    """Molecules made by reactions out of blocks, each with the route that makes it, by a reward such as sEH binding.

    Source: Cretu et al. 2024, "SynFlowNet", arXiv:2405.01155; templates and blocks of Koziarski et al. 2024, "RGFN",
    arXiv:2406.08506. R = y / 8, at least 0.1, to the power 32. Judged by samples.
    """

    steps: int = 2000
    """optimiser steps"""
    batch: int = 64
    """trajectories a step"""
    beta: float = 32.0
    """exponent of the reward"""
    epsilon: float = 0.05
    """probability of a uniform action while exploring; falls linearly to 0 at half of the steps"""
    every: int = 250
    """steps between evaluations, log lines and checkpoints"""
    chemistry: tuple[str, ...] = ("rgfn-small",)
    """'rgfn-small' (66 templates, 351 blocks), 'hb-zinc10k' (105, 10,000), or two files: TEMPLATES BLOCKS"""
    reactions: int = 3
    """most reactions of a molecule"""
    state: Literal["route", "molecule"] = "route"
    """target over routes (a molecule counts once for each), or over molecules by their exact parents, dearer"""
    parents: Annotated[Literal["exact", "unchecked"], tyro.conf.Suppress] = "exact"
    """molecules: exact parents, or what reversed templates propose, as in published code: some lead nowhere"""
    workers: Annotated[int, tyro.conf.Suppress] = 0
    """molecules: processes that compute exact parents, a batch's at once (0: this one, as they are needed)"""
    reward: str = "seh"
    """'seh', 'seh_published', 'qed', 'sa', 'size', 'vina', a product (seh*qed), or module:function (SMILES -> log R)"""
    data: Path | None = None
    """data folder (default: $EQUIPOISE_DATA, then the cache)"""
    most_atoms: Annotated[int, tyro.conf.Suppress] = 60
    """heavy atoms of a molecule, at most"""
    rewards_file: Annotated[Path | None, tyro.conf.Suppress] = None
    """file to which every value of the reward is appended and from which it is read: for slow rewards"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.chemistry) not in (1, 2) or (len(self.chemistry) == 1 and self.chemistry[0] not in CHEMISTRIES):
            raise ValueError(
                f"chemistry is {' '.join(self.chemistry)}: {' or '.join(CHEMISTRIES)}, or two files, TEMPLATES BLOCKS, "
                "were expected"
            )
        if not 1 <= self.reactions <= 8 or not 2 <= self.most_atoms <= 120:
            raise ValueError(
                f"reactions {self.reactions}, most_atoms {self.most_atoms}: 1 to 8, and 2 to 120, were expected"
            )
        if not 0 <= self.workers <= 1000:
            raise ValueError(f"workers is {self.workers}: a number of processes from 0 to 1000 was expected")
        if self.workers and (self.state != "molecule" or self.parents != "exact"):
            raise ValueError(
                f"workers {self.workers} with state {self.state} and {self.parents} parents: they compute exact "
                "parents, which --state molecule has"
            )
        if self.network in ("relative_edges", "wide_and_deep"):
            raise ValueError(
                f"network is {self.network}: molecules have an mlp of fingerprints or a (graph) transformer"
            )
        if self.backward == "maximum_entropy":
            raise ValueError("--backward maximum_entropy counts the paths to every state, and these cannot be listed")
