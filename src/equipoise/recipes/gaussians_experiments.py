"""The experiments on the 25 Gaussians. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equipoise.recipes.configuration import LossName
from equipoise.recipes.diffusion_configuration import Gaussians25

FIGURES = {
    "mode_total_variation": "modes, TV",
    "off_mode_mass": "off modes",
    "wasserstein2": "W2",
    "elbo": "ELBO",
    "log_z_importance": "log Z (IS)",
    "eubo": "EUBO",
    "ess": "ESS",
}

PRIOR = {"method": "likelihood", "steps": 8000, "batch": 512, "learning_rate": 5e-3, "schedule": "cosine"}
"""The prior, which all runs of a seed share."""

EXPLORING = {"with noise": 0.5, "on-policy": 0.0}


def _comparison(seed: int, folder: Path, steps: int, batch: int, **common: Any) -> dict[str, Gaussians25]:
    """Every method with the same exploration and without, at equal trajectories."""
    shared = {"seed": seed, "prior": folder / "prior", "every": steps, **common}
    runs = {"prior": Gaussians25(seed=seed, every=PRIOR["steps"], **PRIOR)}
    for word, noise in EXPLORING.items():
        explored = {**shared, "noise": noise, "batch": batch}
        for method in ("rtb", "vargrad", "reinforce", "dpok"):
            runs[f"{method}, {word}"] = _run(method, steps, explored)
        # Each batch is used several times: as many more steps make as many trajectories.
        runs[f"ppo, {word}"] = _run("ppo", 2 * steps, {**explored, "every": 2 * steps, "updates": 2})
        runs[f"original, {word}"] = _run("original", steps, {**explored, "kl_weight": 0.5})
        scratch = {name: value for name, value in explored.items() if name != "prior"}
        runs[f"tb, {word}"] = _run("tb", steps, scratch)
    # With beta = 1 the same as RTB, step for step, but for rounding; it is here to be seen.
    runs["trust_pcl, with noise"] = _run("trust_pcl", steps, {**shared, "noise": 0.5, "batch": batch})
    runs["reinforce_weighted, with noise"] = _run("reinforce_weighted", steps, {**shared, "noise": 0.5, "batch": batch})
    return runs


def _run(method: str, steps: int, settings: dict[str, Any]) -> Gaussians25:
    return Gaussians25(method=method, steps=steps, **settings)  # pyright: ignore[reportArgumentType]


def _divergences(seed: int, folder: Path) -> dict[str, Gaussians25]:
    runs = {"prior": Gaussians25(seed=seed, every=PRIOR["steps"], **PRIOR)}
    for loss in LossName.__args__:
        orders = (0.5, 2.0) if loss == "alpha" else (None,)
        for order in orders:
            label = loss if order is None else f"{loss} {order:g}"
            runs[label] = Gaussians25(
                seed=seed, prior=folder / "prior", steps=600, every=600, loss=loss, order=order, log_z="deviation"
            )
    return runs


DELEU2025: dict[str, Any] = {
    "about": "RTB, Trust-PCL and the RL baselines on the 25 Gaussians, at equal trajectories and equal exploration",
    "source": "Deleu et al. 2025, arXiv:2509.01632; Venkatraman et al. 2024, arXiv:2405.20971, appendix C. Published: "
    "5,000 steps of 500 trajectories; here 600 of 256 (deleu2025-gaussians-full has the published ones)",
    "runs": lambda seed, folder: _comparison(seed, folder, 600, 256),
    "figures": FIGURES,
}

DELEU2025_FULL: dict[str, Any] = {
    **DELEU2025,
    "about": "the same with the published 5,000 steps of 500 trajectories: an hour a seed on one core, or two",
    "runs": lambda seed, folder: _comparison(seed, folder, 5000, 500),
    "slow": True,
}

DIVERGENCES: dict[str, Any] = {
    "about": "every divergence as an off-policy loss on the 25 Gaussians, log Z by its deviation",
    "source": "Fawkes et al. 2026, arXiv:2605.15417, for the losses",
    "runs": _divergences,
    "figures": FIGURES,
}
