"""The tasks by name: the configuration of each, and what builds its run. Builders are imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from equipoise.recipes import (
    antibody_configuration,
    configuration,
    diffusion_configuration,
    digits_configuration,
    discrete_configuration,
    language_configuration,
    molecules_configuration,
)
from equipoise.recipes.configuration import Training
from equipoise.recipes.mappings import nearest

if TYPE_CHECKING:
    import torch

    from equipoise.contracts import Reward
    from equipoise.training.loop import Run


class Built(Protocol):
    """What a task makes of its configuration: the run, and what judges, draws from and shows its sampler."""

    @property
    def run(self) -> Run: ...

    @property
    def sampler(self) -> Any: ...

    @property
    def reward(self) -> Reward: ...

    def check(self) -> None:
        """Raises a ValueError for what can be known to be wrong before a folder is made."""
        ...

    def prepare(self, folder: Path | None) -> None:
        """What must be done before the first step (a prior trained, in `folder`); not called when a run is taken up."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Figures of the sampler as it is now."""
        ...

    def summary(self) -> list[str]:
        """What matters of the figures, in words: the lines of the demonstration."""
        ...

    def table(self, n: int, generator: torch.Generator) -> str:
        """n objects drawn on-policy, as tab-separated text with a header."""
        ...


@dataclass(frozen=True)
class Task:
    """A task of the command line: its configuration, and `module:function` of its builder."""

    config: type[Training]
    builder: str

    def build(self, config: Training, reward: Callable[..., Any] | None = None) -> Built:
        """The run that a configuration describes; `reward` takes the place of the configuration's."""
        module, _, name = self.builder.partition(":")
        build: Callable[..., Built] = getattr(importlib.import_module(module), name)
        return build(config, reward)


TASKS: dict[str, Task] = {
    "antibody": Task(antibody_configuration.Antibody, "equipoise.recipes.antibody:antibody"),
    "arithmetic": Task(language_configuration.Arithmetic, "equipoise.recipes.arithmetic:arithmetic"),
    "bags": Task(discrete_configuration.Bags, "equipoise.recipes.bags:bags"),
    "bit_sequences": Task(discrete_configuration.BitSequences, "equipoise.recipes.bit_sequences:bit_sequences"),
    "digits": Task(digits_configuration.Digits, "equipoise.recipes.digits:digits"),
    "gaussians25": Task(diffusion_configuration.Gaussians25, "equipoise.recipes.gaussians:gaussians25"),
    "gsm8k": Task(language_configuration.GSM8K, "equipoise.recipes.gsm8k:gsm8k"),
    "hypergrid": Task(configuration.Hypergrid, "equipoise.recipes.hypergrid:hypergrid"),
    "ising": Task(discrete_configuration.Ising, "equipoise.recipes.ising:ising"),
    "molecules": Task(molecules_configuration.Molecules, "equipoise.recipes.molecules:molecules"),
    "peptides": Task(discrete_configuration.Peptides, "equipoise.recipes.peptides:peptides"),
    "qm9_strings": Task(discrete_configuration.QM9Strings, "equipoise.recipes.qm9_strings:qm9_strings"),
    "seh_strings": Task(discrete_configuration.SEHStrings, "equipoise.recipes.seh_strings:seh_strings"),
    "sets": Task(discrete_configuration.Sets, "equipoise.recipes.sets:sets"),
    "strings": Task(configuration.Strings, "equipoise.recipes.strings:strings"),
    "tfbind10": Task(discrete_configuration.TFBind10, "equipoise.recipes.tfbind10:tfbind10"),
    "tfbind8": Task(configuration.TFBind8, "equipoise.recipes.tfbind8:tfbind8"),
}


def task_of(config: Training) -> str:
    """The name of a configuration's task."""
    return next(name for name, entry in TASKS.items() if entry.config is type(config))


def task(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: unknown; the nearest is named.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task '{name}'{nearest(name, TASKS)}; tasks: {', '.join(TASKS)}")
    return TASKS[name]
