"""Invariant: a compiled run is the eager one to float tolerance, whatever part of it is compiled."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.recipes.configuration import Discrete, Hypergrid, Strings
from equipoise.recipes.tasks import task, task_of
from equipoise.training.loop import Loop
from equipoise.trajectories import Columns, from_bytes, to_bytes

GRID = Hypergrid(dim=2, side=8, hidden=(32, 32), steps=40)


def counted(objects: Columns, context: Columns = None) -> torch.Tensor:
    """A reward of strings that grows with the number of their first letter."""
    assert isinstance(objects, torch.Tensor)
    return (objects == 0).sum(1).double()


def words(**changes: Any) -> Strings:
    return Strings(alphabet="ACGT", length=5, hidden=(32, 32), steps=40, reward="own", **changes)


def loop_of(config: Discrete) -> Loop:
    built = task(task_of(config)).build(config, counted if isinstance(config, Strings) else None)
    return Loop(built.run)


def losses(loop: Loop, steps: int) -> list[float]:
    return [float(loop.advance()["loss"]) for _ in range(steps)]


def differ(config: Discrete, steps: int = 20) -> float:
    """The largest relative difference of the losses of an eager and a compiled run."""
    eager = torch.tensor(losses(loop_of(config), steps))
    compiled = torch.tensor(losses(loop_of(replace(config, compile=True)), steps))
    return float(((compiled - eager).abs() / eager.abs().clamp(min=1e-3)).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        GRID,
        replace(GRID, backward="uniform"),
        replace(GRID, epsilon=0.2, loss="forward_kl"),
        words(),
        words(growth="prepend_append", backward="learned"),
    ],
    ids=lambda config: f"{type(config).__name__}-{config.backward}-{config.loss}",
)
def test_a_training_step_in_one_call_has_the_eager_losses(config: Discrete) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # nothing went on in eager
        assert differ(config) < 1e-4
