"""Estimators of log Z, by the short path: `equipoise.partition.group_mean`. See `equipoise.objectives.partition`."""

from equipoise.objectives.partition import (
    ESTIMATORS,
    Conditional,
    Estimator,
    Grouped,
    Learned,
    deviation,
    deviation_constant,
    estimator,
    group_mean,
    leave_one_out,
    mean_reward,
    pairwise,
)

__all__ = [
    "ESTIMATORS",
    "Conditional",
    "Estimator",
    "Grouped",
    "Learned",
    "deviation",
    "deviation_constant",
    "estimator",
    "group_mean",
    "leave_one_out",
    "mean_reward",
    "pairwise",
]
