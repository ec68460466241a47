"""The configuration of the antibody task. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import tyro

from equipoise.recipes.configuration import METHODS, Powered, ResidualName, Schedule, SourceName
from equipoise.recipes.mappings import nearest

Mode = Literal["diffusion", "tb", "rtb", "paper"]
AntibodyMethod = Literal["likelihood", "tb", "rtb"]

METHOD_OF: Mapping[str, AntibodyMethod] = {"diffusion": "likelihood", "tb": "tb", "rtb": "rtb", "paper": "tb"}
TUNING_RATE = 3e-5
ENERGIES = ("contacts", "table=FILE", "module:function")


@dataclass(frozen=True)
class Antibody(Powered):
    """Antibody loops designed in complex with their antigen: residue-frame diffusion, tuned by trajectory balance.

    log R = -energy. Source: Abir et al. 2025, arXiv:2505.12358 (AbFlowNet: denoising and balance), over that of
    Luo et al. 2022, with exact densities; Venkatraman et al. 2024, arXiv:2405.20971 (rtb).
    """

    presets: ClassVar[Mapping[str, tuple[str, str]]] = {
        **METHODS,
        "tb": ("trajectory", "group_mean"),
        "rtb": ("relative", "group_mean"),
    }

    mode: Mode = "rtb"
    """denoising alone; with balance; balance against the frozen prior; or with balance on native loops alone"""
    data: Path | None = None
    """folder of complexes, prepared or not (default: $EQUIPOISE_DATA/antibody)"""
    steps: int = 400
    """optimiser steps"""
    batch: int = 16
    """designs (in diffusion and paper: native loops) a step"""
    designs: int = 8
    """designs of a complex in a batch, each with its own energy"""
    natives: int = 8
    """native loops denoised a step, in tb and paper"""
    weight: float = 1e-2
    """of the balance term beside the denoising one, in tb and paper"""
    beta: float = 0.2
    """exponent of the reward exp(-energy)"""
    energy: str = "contacts"
    """'contacts' (a stand-in, no affinity), table=FILE (of natives, mode paper alone), or your own module:function"""
    loops: tuple[str, ...] = ("H3",)
    """loops to design, each an example of its own: H1 H2 H3 L1 L2 L3"""
    held_out: int = 12
    """complexes that are only judged on, in whole groups of similar antigens"""
    time_steps: int = 25
    """steps of the diffusion"""
    subsample: int | None = 5
    """steps of each path that gradients flow through"""
    prior: Path | None = None
    """run folder of --mode diffusion to begin with; default: one is trained first, in OUT/prior"""
    prior_steps: int = 2000
    """optimiser steps of a prior that is trained first"""
    shuffle: bool = False
    """a control: energies exchanged among the designs of a complex"""
    source: SourceName = "replay"
    """where designs come from ('replay': half of them from earlier groups, noised again)"""
    learning_rate: float | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """of the networks (default: 1e-3 for denoising from scratch, else 3e-5: more throws a trained prior off)"""
    learning_rate_log_z: float = 0.03
    """of a learned log Z, a network of the complex"""
    every: int = 100
    """steps between evaluations, log lines and checkpoints"""
    method: Annotated[AntibodyMethod, tyro.conf.Suppress] = "rtb"  # pyright: ignore[reportIncompatibleVariableOverride]
    """follows from the mode"""
    residual: Annotated[ResidualName | None, tyro.conf.Suppress] = None
    """follows from the mode"""
    order: Annotated[float | tuple[float, float] | None, tyro.conf.Suppress] = None
    """order of --loss alpha"""
    schedule: Annotated[Schedule, tyro.conf.Suppress] = "linear"
    """how learning rates fall to 0"""
    network: Annotated[tuple[int, int, int], tyro.conf.Suppress] = (64, 32, 3)
    """channels of residues and pairs, and rounds of attention, of encoder and denoiser"""
    patch: Annotated[tuple[int, int], tyro.conf.Suppress] = (32, 48)
    """residues of antibody and antigen that the network sees"""
    judged: Annotated[int, tyro.conf.Suppress] = 16
    """designs of each complex at an evaluation"""

    # Of a prior's training, no flags: native loops a step, and the learning rate.
    prior_batch, prior_rate = 16, 1e-3

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", METHOD_OF.get(self.mode, self.method))
        if self.learning_rate is None:
            fresh = self.mode == "diffusion" and self.prior is None
            object.__setattr__(self, "learning_rate", self.prior_rate if fresh else TUNING_RATE)
        super().__post_init__()
        if self.residual is not None:
            self._follow()
        for name, least, most in _RANGES:
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}: a number from {least} to {most} was expected")
        if self.subsample is not None and not 1 <= self.subsample <= self.time_steps:
            raise ValueError(f"subsample is {self.subsample}: from 1 to the {self.time_steps} steps was expected")
        if min(*self.network, *self.patch) < 1 or self.network[0] % 4:
            raise ValueError(f"network {self.network}, patch {self.patch}: positive, and the first a multiple of 4")
        log_z = self.choices()[1]
        if self.mode in ("tb", "rtb"):
            self._check_groups()
        if self.mode == "paper" and log_z != "learned":
            raise ValueError(f"mode 'paper' with log_z '{log_z}': one loop a complex has no group; leave out --log-z")
        if self.shuffle and self.mode not in ("tb", "rtb"):
            raise ValueError(
                f"mode '{self.mode}' draws no designs whose energies could be exchanged: leave out --shuffle"
            )
        known = self.energy == "contacts" or self.energy.startswith("table=") or ":" in self.energy
        if not known:
            raise ValueError(f"energy '{self.energy}'{nearest(self.energy, ENERGIES)}: one of {', '.join(ENERGIES)}")
        if self.energy.startswith("table=") and self.mode in ("tb", "rtb"):
            raise ValueError(
                f"a table has energies of native loops alone: mode '{self.mode}' needs one of every design; take "
                "--mode paper, or an energy of your own"
            )

    def choices(self) -> tuple[str, str]:
        """The mode's residual and estimator of log Z; in `paper` mode a network of the complex."""
        residual, log_z = super().choices()
        return (residual, self.log_z or "learned") if self.mode == "paper" else (residual, log_z)

    def resolved(self) -> Self:
        """The same with nothing left to the mode, nor to the folder that one works in."""
        found = dataclasses.replace(super().resolved(), data=self.data and self.data.resolve())
        kind, _, table = self.energy.partition("table=")
        return found if kind or not table else dataclasses.replace(found, energy=f"table={Path(table).resolve()}")

    def _follow(self) -> None:
        """A run's file has its own mode's residual and estimator of log Z, whichever mode is begun from it."""
        trained = self.mode != "diffusion"
        object.__setattr__(self, "residual", self.presets[self.method][0] if trained else None)
        if not trained or (self.mode == "paper" and self.log_z == self.presets[self.method][1]):
            object.__setattr__(self, "log_z", None)

    def _check_groups(self) -> None:
        groups = self.batch // self.designs
        if self.batch % self.designs or not groups or (self.source == "replay" and groups < 2):
            raise ValueError(
                f"batch {self.batch} of {self.designs} designs a complex: a multiple was expected, at least twice as "
                "many with --source replay, which takes half of the complexes from its store"
            )


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("designs", 2, 10**4),
    ("natives", 1, 10**5),
    ("weight", 0, 1e6),
    ("held_out", 0, 10**6),
    ("time_steps", 2, 10**4),
    ("prior_steps", 1, 10**9),
    ("judged", 2, 10**5),
)
