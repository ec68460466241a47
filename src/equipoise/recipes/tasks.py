"""The tasks by name: the configuration of each, and what builds its run. Builders are imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from equipoise.recipes import configuration
from equipoise.recipes.configuration import Training, nearest

if TYPE_CHECKING:
    from equipoise.recipes.discrete import DiscreteRun


@dataclass(frozen=True)
class Task:
    """A task of the command line: its configuration, and `module:function` of its builder."""

    config: type[Training]
    builder: str

    def build(self, config: Training, reward: Callable[..., Any] | None = None) -> DiscreteRun:
        """The run that a configuration describes; `reward` takes the place of the configuration's."""
        module, _, name = self.builder.partition(":")
        build: Callable[..., DiscreteRun] = getattr(importlib.import_module(module), name)
        return build(config, reward)


TASKS: dict[str, Task] = {
    "hypergrid": Task(configuration.Hypergrid, "equipoise.recipes.hypergrid:hypergrid"),
    "strings": Task(configuration.Strings, "equipoise.recipes.strings:strings"),
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
