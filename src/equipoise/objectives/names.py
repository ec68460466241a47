"""The names that a person may type for a choice of this folder. Imports no torch, so that `--help` can list them."""

from __future__ import annotations

DIVERGENCES = (
    "reverse_kl",
    "forward_kl",
    "hellinger",
    "pearson",
    "neyman",
    "jeffreys",
    "jensen_shannon",
    "le_cam",
    "total_variation",
    "shifted_cosh",
    "alpha",
    "huber",
    "clipped",
)
ESTIMATORS = ("learned", "group_mean", "leave_one_out", "mean_reward", "pairwise", "deviation")
WEIGHTINGS = ("geometric", "geometric_within", "equal", "equal_within", "detailed", "trajectory")
BASELINES = ("none", "mean", "leave_one_out")
