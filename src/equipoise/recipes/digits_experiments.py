"""The experiments on the digits. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.recipes.digits_configuration import Digits

FIGURES = {
    "judged_in_target": "in target, by the judge",
    "mean_log_reward": "E log r",
    "class_factor": "worst class, factor",
    "class_total_variation": "classes, TV",
    "frechet": "Frechet",
    "target_frechet": "target's Frechet",
    "prior_frechet": "prior's Frechet",
    "diversity": "diversity",
    "elbo": "ELBO",
    "log_z_importance": "log Z (IS)",
    "eubo": "EUBO",
}

PRIOR: dict[str, Any] = {
    "method": "likelihood",
    "steps": Digits.prior_steps,
    "every": Digits.prior_steps,
    "batch": Digits.prior_batch,
    "learning_rate": Digits.prior_rate,
    "schedule": "cosine",
}
"""The prior, which all runs of a seed share, with its classifiers."""


UNSTEERED: dict[str, Any] = {"steps": 300, "every": 300, "batch": 64, "learning_rate": 2e-4, "scale": 0.0}
"""What begins as the prior itself has farther to go than the task's default, which begins steered."""


def _methods(seed: int, folder: Path, **common: Any) -> dict[str, Digits]:
    """What training does from the prior itself, at equal trajectories; from the steered start; and guidance alone."""
    shared: dict[str, Any] = {"seed": seed, "prior": folder / "prior", **common}
    trained = {**shared, **UNSTEERED}
    # Each batch is used several times: as many more steps make as many trajectories.
    more = Digits.updates * UNSTEERED["steps"]
    return {
        "prior": Digits(seed=seed, **PRIOR),
        "rtb": Digits(method="rtb", **trained),
        "vargrad": Digits(method="vargrad", **trained),
        "trust_pcl": Digits(method="trust_pcl", **trained),
        "ddpo": Digits(method="reinforce", **trained),
        "ddpo, clipped": Digits(method="ppo", **{**trained, "steps": more, "every": more}),
        "dpok": Digits(method="dpok", **trained),
        "steered, rtb": Digits(method="rtb", **{**shared, "every": Digits.steps}),
        "classifier guidance": Digits(method="classifier_guidance", scale=1.0, **shared),
        "dps, 0.1": Digits(method="dps", scale=0.1, **shared),
        "dps, 0.3": Digits(method="dps", scale=0.3, **shared),
    }


def _orders(seed: int, folder: Path) -> dict[str, Digits]:
    """The alpha family at 0.5, at 1 (relative trajectory balance), and moved from one to the other."""
    shared: dict[str, Any] = {"seed": seed, "prior": folder / "prior", "loss": "alpha", **UNSTEERED}
    orders = {"order 0.5": 0.5, "order 1": 1.0, "order 0.5 to 1": (0.5, 1.0)}
    return {"prior": Digits(seed=seed, **PRIOR)} | {
        label: Digits(order=order, log_z="deviation", **shared) for label, order in orders.items()
    }


RTB2024: dict[str, Any] = {
    "about": "even digits: RTB, Trust-PCL, DDPO and DPOK with the same prior and trajectories, and two guidances",
    "source": "Venkatraman et al. 2024, arXiv:2405.20971, table 2. Published: MNIST, 200 steps of DDPM, LoRA, 1,500 "
    "steps; here scikit-learn's digits, 25 steps, all weights, 300 steps of 64, reward to the power 3",
    "runs": _methods,
    "figures": FIGURES,
}

FTB2026: dict[str, Any] = {
    "about": "even digits by alpha-divergences as off-policy losses: order 0.5, 1, and from one to the other",
    "source": "Fawkes et al. 2026, arXiv:2605.15417 (MNIST, annealed)",
    "runs": _orders,
    "figures": FIGURES,
}
