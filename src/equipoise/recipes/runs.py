"""Runs on disk: opened with their sampler as it was at the last whole checkpoint."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from equipoise.recipes.configuration import Training
from equipoise.recipes.engines import run_of
from equipoise.recipes.mappings import from_mapping, to_mapping
from equipoise.recipes.tasks import Built, task, task_of
from equipoise.training.fit import Clock, fit
from equipoise.training.folder import RunFolder, require_free
from equipoise.training.loop import Loop


@dataclass(frozen=True)
class StoredRun:
    """A run taken from its folder: configuration, what the task built, and the loop at its last checkpoint."""

    folder: RunFolder
    task: str
    config: Training
    built: Built
    loop: Loop
    checkpoint: dict[str, Any]
    warnings: list[str]


def open_run(path: Path | str, *, reward: Callable[..., Any] | None = None) -> StoredRun:
    """Opens a run folder.

    Args:
        path: of the folder.
        reward: in place of the configuration's, where that is a function of a script, which cannot be imported.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a configuration that cannot be read, or no whole checkpoint.
    """
    path = Path(path)
    folder = RunFolder.open(path)
    name, config = read_config(path)
    config = dataclasses.replace(config, out=path)  # where it lies now, which need not be where it was begun
    saved = folder.load() if folder.begun else None
    built = task(name).build(config, reward)
    loop = Loop(run_of(name, config, built, reward))
    if saved is None:  # killed before its first checkpoint: it begins again
        warning = f"'{path}' has no checkpoint yet: its sampler is untrained"
        return StoredRun(folder, name, config, built, loop, {"step": 0, "metrics_bytes": 0}, [warning])
    state, checkpoint, warnings = saved
    try:
        loop.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"the checkpoint of '{path}' does not fit its config.yaml: {error}") from error
    return StoredRun(folder, name, config, built, loop, checkpoint, warnings)


def continue_run(run: StoredRun) -> None:
    """Trains an opened run to its end; in one process, or with a barrier, it ends bit for bit where it would have."""
    if not run.folder.begun:
        run.built.prepare(run.folder.path)
    run.folder.cut_metrics(run.checkpoint["metrics_bytes"])
    clock = Clock(run.checkpoint.get("wall_seconds", 0.0), run.checkpoint.get("cpu_seconds", 0.0))
    fit(run.loop, run.folder, every=run.config.every, clock=clock)


def read_config(path: Path) -> tuple[str, Training]:
    """The task's name and the configuration of a run folder.

    Raises:
        FileNotFoundError: no run there.
        ValueError: a configuration that cannot be read.
    """
    values = RunFolder.open(path).config()
    name = values.pop("task", None)
    if not isinstance(name, str):
        raise ValueError(f"'{path / 'config.yaml'}' names no task")
    return name, from_mapping(task(name).config, values)


def train(config: Training, *, reward: Callable[..., Any] | None = None) -> Built:
    """Trains a sampler; in the run folder `config.out` where that is given, else in memory.

    Args:
        config: of a task: `Hypergrid`, `Strings`, `TFBind8`, `Arithmetic`, `GSM8K`.
        reward: a function of one's own in place of the configuration's: of objects, or of (objects, context),
            returning log R, (n,) floats; of a language task, of texts. Of a module, it is found again when the run
            is opened; of a script, give it to `open_run` too.

    Returns:
        The run: `evaluate()` gives its exact figures, `sampler.sample(...)` draws.

    Raises:
        ValueError: choices that do not fit together, a reward that is not finite, a loss that is not.
        FileExistsError: the folder is not empty.

    Example:
        >>> from equipoise.recipes import Hypergrid
        >>> run = train(Hypergrid(side=4, steps=20, hidden=(16,)))
        >>> 0 <= run.evaluate()["total_variation"] <= 1
        True
    """
    config = config.resolved()
    name = task_of(config)
    if config.out is not None:
        require_free(config.out)
    built = task(name).build(config, reward)
    loop = Loop(run_of(name, config, built, reward))
    built.check()
    folder = None
    if config.out is not None:
        stored = {"task": name, **to_mapping(config)}
        if reward is not None:
            stored["reward"] = f"{reward.__module__}:{getattr(reward, '__qualname__', 'reward')}"
        folder = RunFolder.create(config.out, stored, environment(config.seed))
    built.prepare(config.out)
    fit(loop, folder, every=config.every)
    return built


def environment(seed: int) -> dict[str, Any]:
    """What a run ran on: versions, commit, device, seed."""
    return {
        "equipoise": _version("equipoise"),
        "commit": _commit(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": _version("numpy"),
        "platform": platform.platform(),
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that the package is run from, or None."""
    folder = Path(__file__).parent
    try:
        command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
