"""The prior that a run is tuned from: another run's sampler, or one that is trained first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from equipoise.recipes.configuration import Training

if TYPE_CHECKING:
    from equipoise.recipes.runs import StoredRun

Config = TypeVar("Config", bound=Training)


def prior_state(
    given: Path | None,
    folder: Path | None,
    fits: Callable[[StoredRun], bool],
    wanted: str,
    first: Callable[..., Training],
) -> Mapping[str, Any]:
    """The network of a prior: of the run `given`, else of one in `folder`/prior, which is trained or taken up first.

    Args:
        given: run folder of a prior; None: one is trained.
        folder: of the run that is tuned; None: a prior that is trained is kept nowhere.
        fits: whether a given run is a prior for this run.
        wanted: what was expected of it, and what to do, for the error.
        first: folder (None: none) -> the configuration of the prior that is trained.

    Raises:
        ValueError: the given run is no prior of this task.
    """
    from equipoise.recipes.runs import continue_run, open_run, train  # which build runs by the tasks

    path = None if folder is None else folder / "prior"
    if given is not None:
        stored = open_run(given)
        if not fits(stored):
            raise ValueError(f"'{given}' is no prior of this task {wanted}, or leave out --prior")
        built = stored.built
    elif path is not None and (path / "config.yaml").exists():
        stored = open_run(path)
        if not stored.folder.done:
            continue_run(stored)
        built = stored.built
    else:
        built = train(first(path))
    return built.sampler.network.state_dict()


def of_prior(config: Config, out: Path | None, **own: object) -> Config:
    """The run that trains a task's prior by likelihood, in `out`.

    Args:
        config: of the run that is tuned, with `prior_steps`, `prior_batch` and `prior_rate`.
        out: folder of the prior; None: it is kept nowhere.
        own: settings that only this task has, among them the one that says likelihood.
    """
    asked: Any = config
    return dataclasses.replace(
        config,
        residual=None,
        log_z=None,
        loss="reverse_kl",
        order=None,
        source="on_policy",
        steps=asked.prior_steps,
        every=asked.prior_steps,
        batch=asked.prior_batch,
        learning_rate=asked.prior_rate,
        schedule="cosine",
        out=out,
        **own,
    )
