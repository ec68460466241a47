"""Experiments on molecules made by reactions. Imports no torch."""

from __future__ import annotations

from typing import Any

from equipoise.recipes.configuration import Training
from equipoise.recipes.molecules_configuration import Molecules
from equipoise.recipes.tables import Compared

COMPARED: dict[str, Compared] = {
    "sample_mean": Compared("mean reward, y / 8, of 1,000"),
    "sample_top_100": Compared("mean reward of the best 100 of 1,000"),
    "sample_top_100_distance": Compared("Tanimoto distance among them"),
    "modes_found": Compared("modes found while training (y > 7, similarity < 0.5)"),
    "good_found": Compared("molecules of y > 7 found while training"),
    "sample_scaffolds": Compared("scaffolds of y > 7 among 1,000"),
    "sample_unique": Compared("different among 1,000"),
    "route_replay": Compared("routes that replay", perfect=1.0),
    "backward_reach": Compared("backward walks that reach the start", perfect=1.0),
}

ORDERS: dict[str, dict[str, Any]] = {
    "alpha 0.75": {"loss": "alpha", "order": 0.75},
    "alpha 1 (tb)": {},
    "alpha 1.2": {"loss": "alpha", "order": 1.2},
    "alpha 0.75 to 1.2": {"loss": "alpha", "order": (0.75, 1.2)},
}
"""The orders of the alpha family that the paper calls stable, and its anneal."""


def orders(seed: int) -> dict[str, Training]:
    """Each order on rgfn-small, over routes, log Z the deviation's, from which no order explodes."""
    return {label: Molecules(seed=seed, log_z="deviation", **settings) for label, settings in ORDERS.items()}


def backward(seed: int) -> dict[str, Training]:
    """Backward policies over exact parents and over unchecked ones, at two reactions."""
    settings: dict[str, Any] = {"seed": seed, "state": "molecule", "reactions": 2, "steps": 500}
    unchecked: dict[str, Any] = {**settings, "parents": "unchecked"}
    return {
        "exact, uniform": Molecules(**settings),
        "exact, free (tb)": Molecules(**settings, backward="learned"),
        "exact, likelihood": Molecules(**settings, backward="likelihood"),
        "unchecked, uniform": Molecules(**unchecked),
        "unchecked, free (tb)": Molecules(**unchecked, backward="learned"),
        "unchecked, likelihood": Molecules(**unchecked, backward="likelihood"),
        "unchecked, reinforce": Molecules(**unchecked, backward="reinforce"),
    }


FTB2026: dict[str, Any] = {
    "about": "orders 0.75, 1, 1.2 and 0.75 to 1.2 of the alpha family on molecules by sEH binding; hours",
    "source": "Fawkes and Hartford 2026, arXiv:2605.15417: 0.75 more diverse at similar reward, 1.2 collapses, the "
    "anneal best; claims in words, since no figure of theirs can be compared: other blocks, and tasks not named",
    "runs": lambda seed, folder: orders(seed),
    "compared": COMPARED,
    "curves": ("mean_reward", "modes_found"),
    "judged": True,
    "slow": True,
}

BACKWARD2024: dict[str, Any] = {
    "about": "backward policies of molecules made by reactions, over exact and over unchecked parents; an hour",
    "source": "Cretu et al. 2024, arXiv:2405.01155: there a uniform choice of an unchecked parent rarely reaches the "
    "start, and learning mends it; over exact parents every walk does. Their blocks cannot be had: orders compare, not "
    "figures",
    "runs": lambda seed, folder: backward(seed),
    "compared": COMPARED,
    "curves": ("mean_reward", "modes_found"),
    "judged": True,
    "slow": True,
}
