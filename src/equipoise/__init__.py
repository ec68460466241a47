"""Equipoise trains samplers: models that draw x with probability proportional to a reward, or to a prior times it.

Public names are resolved on first use, so that importing the package, and asking the command for help, is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "trajectory_balance": "equipoise.objectives.residuals",
    "relative_trajectory_balance": "equipoise.objectives.residuals",
    "divergence": "equipoise.objectives.divergences",
    "Trajectories": "equipoise.trajectories",
    "Scores": "equipoise.trajectories",
    "Behaviour": "equipoise.contracts",
    "check_environment": "equipoise.contracts",
    "check_sampler": "equipoise.contracts",
    "balance": "equipoise.training.balance",
    "Run": "equipoise.training.loop",
    "train": "equipoise.recipes.runs",
    "open_run": "equipoise.recipes.runs",
    "Loop": "equipoise.training.loop",
}
_MODULES = frozenset({"objectives", "partition", "trust_pcl", "discrete", "training", "recipes"})

__all__ = [
    "Behaviour",
    "Loop",
    "Run",
    "Scores",
    "Trajectories",
    "balance",
    "check_environment",
    "check_sampler",
    "divergence",
    "open_run",
    "partition",
    "relative_trajectory_balance",
    "train",
    "trajectory_balance",
    "trust_pcl",
]

if TYPE_CHECKING:
    from equipoise import partition, trust_pcl
    from equipoise.contracts import Behaviour, check_environment, check_sampler
    from equipoise.objectives.divergences import divergence
    from equipoise.objectives.residuals import relative_trajectory_balance, trajectory_balance
    from equipoise.recipes.runs import open_run, train
    from equipoise.training.balance import balance
    from equipoise.training.loop import Loop, Run
    from equipoise.trajectories import Scores, Trajectories


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"equipoise.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'equipoise' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
