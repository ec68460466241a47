"""Recipes on an engine of several processes: the same run, its rollouts drawn elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import import_module
from typing import Any

from equipoise.contracts import Source
from equipoise.recipes.configuration import Training
from equipoise.recipes.mappings import from_mapping, to_mapping
from equipoise.recipes.tasks import Built, task
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.engines.remote import Processes, apart
from equipoise.training.engines.settings import Settings
from equipoise.training.loop import Run


def run_of(name: str, config: Training, built: Built, reward: Callable[..., Any] | None = None) -> Run:
    """The run of a task on the engine that its configuration names; processes begin with the first step.

    Args:
        name: of the task.
        config: of the task.
        built: what the task made of it.
        reward: the function that was given in place of the configuration's.

    Raises:
        ValueError: a run that the engine cannot serve, or a reward that other processes cannot import.
    """
    if config.engine == "inline":
        return built.run
    settings = settings_of(config)
    stored = {"task": name, **to_mapping(config)}
    if reward is not None:
        stored["reward"] = _importable(reward)

    def start(source: str) -> Processes:
        engine = import_module("equipoise.training.engines.ray")
        parts = {"config": stored, "source": source}
        return engine.Team(
            settings,
            parts="equipoise.recipes.engines:rollouts",
            task=parts,
            source=source,
            seed=config.seed,
            folder=config.out,
        )

    return apart(built.run, settings, start)


def settings_of(config: Training) -> Settings:
    """The engine's settings; without --lag, searchers may be as many batches ahead as there are searchers."""
    return Settings(
        searchers=config.searchers,
        ahead=config.lag or config.searchers,
        barrier=config.barrier,
        patience=config.patience,
        address=config.address,
        reward_workers=config.reward_workers,
        reward_timeout=config.reward_timeout,
        reward_attempts=config.reward_attempts,
    )


def rollouts(given: dict[str, Any]) -> Rollouts:
    """What a searcher draws with: the rollouts of the run that the configuration describes.

    Example:
        >>> given = {"config": {"task": "hypergrid", "side": 4, "hidden": [8]}, "source": "on_policy"}
        >>> import torch
        >>> len(rollouts(given).draw(3, torch.Generator().manual_seed(0)))
        3
    """
    values = dict(given["config"])
    chosen = task(values.pop("task"))
    config = dataclasses.replace(from_mapping(chosen.config, values), out=None)
    source: Source = chosen.build(config).run.sources[given["source"]]
    while not isinstance(source, Rollouts):
        inner: Any = source
        source = inner.inner
    return source


def _importable(reward: Callable[..., Any]) -> str:
    module, name = getattr(reward, "__module__", "") or "", getattr(reward, "__qualname__", "")
    try:
        found = getattr(import_module(module), name, None) if module != "__main__" else None
    except ImportError:
        found = None
    if found is not reward:
        raise ValueError(
            f"the reward '{name or reward}' is not found again as {module}:{name}: with engine 'ray' other processes "
            "import it, so it must be a function of a module"
        )
    return f"{module}:{name}"
