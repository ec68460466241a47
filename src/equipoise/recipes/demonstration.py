"""What `equipoise demo` trains: small targets that need no data, each a point of the four choices."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from equipoise.recipes.configuration import Hypergrid, Strings, Training
from equipoise.recipes.diffusion_configuration import Gaussians25
from equipoise.recipes.language_configuration import Arithmetic
from equipoise.recipes.runs import StoredRun, continue_run, open_run, train
from equipoise.training.folder import RunFolder


@dataclass(frozen=True)
class Part:
    """One run of the demonstration, what it shows, and the package it needs beyond the plain installation."""

    name: str
    about: str
    config: Training
    needs: str = ""

    @property
    def possible(self) -> bool:
        """Whether the package that it needs is installed."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


PARTS: tuple[Part, ...] = (
    Part(
        "grid",
        "8 x 8 grid of four separated modes, trajectory balance, log Z learned",
        Hypergrid(steps=400, every=20),
    ),
    Part(
        "grid-forward-kl",
        "16 x 16 grid, the forward KL as an off-policy loss, log Z from each batch",
        Hypergrid(side=16, steps=800, every=50, batch=32, learning_rate=1e-3, loss="forward_kl", log_z="deviation"),
    ),
    Part(
        "prior-times-reward",
        "8 x 8 grid, relative trajectory balance: a uniform prior times the reward squared",
        Hypergrid(steps=400, every=20, method="rtb", beta=2.0, epsilon=0.2),
    ),
    Part(
        "strings",
        "4,096 words grown at both ends, rewarded for a motif wherever it stands",
        Strings(
            steps=1500,
            every=100,
            alphabet="ACGT",
            length=6,
            growth="prepend_append",
            method="subtb",
            reward=f"{__name__}:motif",
            hidden=(128, 128),
            learning_rate=1e-2,
        ),
    ),
    Part(
        "posterior",
        "a diffusion prior on 25 Gaussians, tuned to nine of them, unevenly weighed, by relative trajectory balance",
        Gaussians25(steps=400, every=100, time_steps=40, prior_steps=3500, learning_rate=2e-3),
        needs="scipy",
    ),
    Part(
        "sums",
        "a small language model that adds half of two-digit sums rightly, post-trained on answers four steps stale",
        Arithmetic(steps=60, every=30, judged=400, lag=4),
        needs="transformers",
    ),
)
"""The parts, in order; a domain adds its own at the end."""


def motif(words: Tensor) -> Tensor:
    """log R of words of A, C, G, T: 0.5 for every letter of the best match to GATA, less 1 for every C."""
    pattern = words.new_tensor([2, 0, 3, 0])
    matches = (words.unfold(1, len(pattern), 1) == pattern).sum(2).amax(1)
    return 0.5 * matches - (words == 1).sum(1)


def demonstrate(out: Path, begin: Callable[[Part], None], judged: Callable[[Part, StoredRun], None]) -> list[Path]:
    """Trains every possible part in a folder below `out`, or takes it up, or finds it done.

    Args:
        out: folder of the runs.
        begin: told of each part before it is trained.
        judged: told of each part with its run.

    Returns:
        The run folders.
    """
    paths = []
    for part in filter(lambda part: part.possible, PARTS):
        path = out / part.name
        paths.append(path)
        begin(part)
        if (path / "config.yaml").exists() and RunFolder(path).begun:
            run = open_run(path)
            if not run.folder.done:
                continue_run(run)
        else:
            train(replace(part.config, out=path))
            run = open_run(path)
        judged(part, run)
    return paths
