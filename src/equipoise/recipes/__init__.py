"""Named experiments: each task's configuration, and what joins a domain, a reward and the training loop into a run."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_SUITE = ("Bags", "BitSequences", "Ising", "Peptides", "QM9Strings", "SEHStrings", "Sets", "TFBind10")

__all__ = [
    "GSM8K",
    "Antibody",
    "Arithmetic",
    "Bags",
    "BitSequences",
    "Digits",
    "Gaussians25",
    "Hypergrid",
    "Ising",
    "Molecules",
    "Peptides",
    "QM9Strings",
    "SEHStrings",
    "Sets",
    "Strings",
    "TFBind8",
    "TFBind10",
    "open_run",
    "train",
]

_HOME = {name: "equipoise.recipes.configuration" for name in ("Hypergrid", "Strings", "TFBind8")}
_HOME |= {name: "equipoise.recipes.discrete_configuration" for name in _SUITE}
_HOME |= {"Antibody": "equipoise.recipes.antibody_configuration"}
_HOME |= {"Molecules": "equipoise.recipes.molecules_configuration"}
_HOME |= {"Digits": "equipoise.recipes.digits_configuration"}
_HOME |= {"Gaussians25": "equipoise.recipes.diffusion_configuration"}
_HOME |= {name: "equipoise.recipes.language_configuration" for name in ("Arithmetic", "GSM8K")}
_HOME |= {name: "equipoise.recipes.runs" for name in ("open_run", "train")}

if TYPE_CHECKING:
    from equipoise.recipes.antibody_configuration import Antibody
    from equipoise.recipes.configuration import Hypergrid, Strings, TFBind8
    from equipoise.recipes.diffusion_configuration import Gaussians25
    from equipoise.recipes.digits_configuration import Digits
    from equipoise.recipes.discrete_configuration import (
        Bags,
        BitSequences,
        Ising,
        Peptides,
        QM9Strings,
        SEHStrings,
        Sets,
        TFBind10,
    )
    from equipoise.recipes.language_configuration import GSM8K, Arithmetic
    from equipoise.recipes.molecules_configuration import Molecules
    from equipoise.recipes.runs import open_run, train


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'equipoise.recipes' has no attribute '{name}'")
