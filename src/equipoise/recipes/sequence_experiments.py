"""The sequence tasks of Malkin et al. 2022: bit sequences and peptides. Imports no torch.

The rows name their tasks' flags and figures; a task that is not there has no rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from equipoise.recipes.configuration import Training
from equipoise.recipes.hypergrid_experiments import COMPARED as GRIDS
from equipoise.recipes.hypergrid_experiments import published_grids
from equipoise.recipes.tables import Compared
from equipoise.recipes.tasks import TASKS

BITS_TASK, WORD = "bit_sequences", "word"
"""The task of bit sequences, and its setting for the bits of a word, k."""

PEPTIDES_TASK = "peptides"
"""The task of antimicrobial peptides."""

WORDS = (1, 4, 8)

REWARDS: dict[str, dict[str, Any]] = {
    "": {},
    "reward -d, ": {"reward": "distance", "beta": 2.0},
}
"""The published reward, and that of Tiapkin et al. 2024, log R = -2 d. Under the published one a perfect sampler finds
0.03 modes in 160,000 draws: all of them together have 2e-7 of the mass. Under the other they have nearly all of it."""

BIT_METHODS: dict[str, dict[str, Any]] = {"tb": {"method": "tb"}, "fm": {"method": "fm"}, "db": {"method": "db"}}
"""All at the task's learning rate: the published ones, 1e-4 (TB) and 5e-4 (FM), are for five times the steps."""

AMP_METHODS: dict[str, dict[str, Any]] = {
    "untrained": {"steps": 1, "learning_rate": 1e-12, "learning_rate_log_z": 0.0},
    "tb": {"method": "tb"},
    "db": {"method": "db"},
    "subtb": {"method": "subtb", "decay": 0.99},
}
"""The untrained one because the classifier likes the best of any 2,048 peptides: what it has, no method has earned."""

COMPARED: dict[str, Compared] = {
    "modes_found": Compared("modes found while training", perfect="modes_found_perfect"),
    "spearman": Compared("Spearman of log p and log R, test set", perfect=1.0),
    "pearson": Compared("Pearson of log p and log R, test set", perfect=1.0),
    "log_p_slope": Compared("slope of log p on log R, test set", perfect=1.0),
    "top_reward": Compared("reward of the best 100 of 2,048"),
    "top_diversity": Compared("edit distance among the best 100"),
    "ess": Compared("effective share of a sample", perfect=1.0),
}

PUBLISHED: dict[str, dict[str, tuple[float, ...]]] = {
    "amp, tb": {"top_reward": (0.85, 0.03), "top_diversity": (18.35, 1.65)},
    "amp, db": {"top_reward": (0.78, 0.05), "top_diversity": (12.61, 1.32)},
    "amp, subtb": {"top_reward": (0.96, 0.02), "top_diversity": (42.23, 3.4)},
}
"""Malkin et al. 2022, table 1; SubTB of Madan et al. 2023. Another classifier than the one here: ratios are no test."""


def bit_sequences(seed: int) -> dict[str, Training]:
    """Each word length by each method, with both rewards: 10,000 of the 50,000 published steps."""
    if BITS_TASK not in TASKS:
        return {}
    kind: Callable[..., Training] = TASKS[BITS_TASK].config
    return {
        f"bits k = {word}, {told}{name}": kind(
            **{WORD: word}, steps=10_000, every=1000, seed=seed, **reward, **settings
        )
        for told, reward in REWARDS.items()
        for word in WORDS
        for name, settings in BIT_METHODS.items()
    }


def peptides(seed: int) -> dict[str, Training]:
    """Peptides by each method: 5,000 of the 20,000 published steps."""
    if PEPTIDES_TASK not in TASKS:
        return {}
    kind: Callable[..., Training] = TASKS[PEPTIDES_TASK].config
    return {
        f"amp, {name}": kind(**{"steps": 5000, "every": 1000, "seed": seed, **settings})
        for name, settings in AMP_METHODS.items()
    }


MALKIN2022: dict[str, Any] = {
    "about": "TB against FM, DB and SubTB: hypergrids 8^4 and 64^2, bit sequences, peptides; many hours a seed",
    "source": "Malkin et al. 2022, arXiv:2201.13259, appendix B; curves only, but for table 1. Here 20,000 steps of "
    "16 on the grids (published: 62,500), 10,000 on bit sequences (50,000), 5,000 on peptides (20,000); learning "
    "rates fall to 0",
    "runs": lambda seed, folder: published_grids(seed) | bit_sequences(seed) | peptides(seed),
    "compared": GRIDS | COMPARED,
    "published": PUBLISHED,
    "curves": ("l1", "modes_found"),
    "judged": True,
    "slow": True,
}
