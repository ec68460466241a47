"""The task of antimicrobial peptides."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from equipoise import data
from equipoise.contracts import Reward
from equipoise.discrete.antimicrobial import LENGTH, RESIDUES, AMPClassifier
from equipoise.discrete.environments.stopped import StoppedStrings
from equipoise.discrete.sampled_judge import SampledJudge
from equipoise.recipes import discrete_configuration
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.trajectories import Columns

FLOOR = 1e-6
"""The least reward."""


def peptides(config: discrete_configuration.Peptides, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on peptides; `evaluate` adds the 100 best of 2,048 samples.

    Source: Malkin et al. 2022, appendix B.4, arXiv:2201.13259; classifier and floor of gfnx.

    Raises:
        ValueError: more residues than the classifier reads, or its weights cannot be found.
    """
    space = StoppedStrings(letters=len(RESIDUES), length=config.length)
    if reward is not None:
        chosen = wrapped(reward)
    elif config.reward == "antimicrobial":
        if config.length > LENGTH:
            raise ValueError(f"length is {config.length}: the classifier reads peptides of at most {LENGTH} residues")
        chosen = antimicrobial_reward(config.data)
    else:
        chosen = own_reward(config.reward)

    def best(judge: object) -> dict[str, float]:
        return judge.best(show_peptides) if isinstance(judge, SampledJudge) else {}

    def state_reward(state: Tensor) -> Tensor:
        return chosen(space.objects(state), None)

    return build(config, space, chosen, show=show_peptides, state_reward=state_reward, asked=(best,))


def antimicrobial_reward(folder: Path | None = None) -> Reward:
    """log R of residues' numbers, R = max(sigmoid(logit), 1e-6)."""
    classifier = AMPClassifier(data.find("amp_classifier", folder))

    def reward(objects: Columns, context: Columns = None) -> Tensor:
        if not isinstance(objects, Tensor):
            raise ValueError("peptides are given as a tensor (n, length) of residues' numbers, -1 beyond the end")
        return functional.logsigmoid(classifier.of_letters(objects)).clamp(min=math.log(FLOOR))

    return reward


def show_peptides(objects: Columns) -> list[str]:
    """Peptides in one-letter code; '-' for none."""
    assert isinstance(objects, Tensor)
    return ["".join(RESIDUES[number] for number in row if number >= 0) or "-" for row in objects.tolist()]
