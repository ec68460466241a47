"""Residuals, divergences, estimators of log Z and policy-gradient coefficients: pure functions on tensors.

A loss is mean(divergence.loss(log_ratio + log_z)). Names resolve on first use, so that `names` can be read without
torch. `pairwise` is both a residual and an estimator of log Z, so it is reached through its module. Identities quoted
by their number are theorem tests: tests/objectives/test_identities_*.py.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from equipoise.objectives.names import BASELINES, DIVERGENCES, ESTIMATORS, WEIGHTINGS

if TYPE_CHECKING:
    from equipoise.objectives import divergences, partition, policy_gradient, residuals, trust_pcl
    from equipoise.objectives.divergences import Divergence, divergence
    from equipoise.objectives.partition import Conditional, Learned, estimator
    from equipoise.objectives.residuals import (
        detailed_balance,
        flow_matching,
        forward_looking_balance,
        guided_trajectory_balance,
        modified_detailed_balance,
        relative_trajectory_balance,
        soft_q,
        sub_trajectory_balance,
        trajectory_balance,
    )

__all__ = [
    "BASELINES",
    "DIVERGENCES",
    "ESTIMATORS",
    "WEIGHTINGS",
    "Conditional",
    "Divergence",
    "Learned",
    "detailed_balance",
    "divergence",
    "divergences",
    "estimator",
    "flow_matching",
    "forward_looking_balance",
    "guided_trajectory_balance",
    "modified_detailed_balance",
    "partition",
    "policy_gradient",
    "relative_trajectory_balance",
    "residuals",
    "soft_q",
    "sub_trajectory_balance",
    "trajectory_balance",
    "trust_pcl",
]

MODULES = ("divergences", "partition", "policy_gradient", "residuals", "trust_pcl")
HOMES = {
    "Divergence": "divergences",
    "divergence": "divergences",
    "Conditional": "partition",
    "Learned": "partition",
    "estimator": "partition",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{name if name in MODULES else HOMES.get(name, 'residuals')}")
    return home if name in MODULES else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
