"""Exact: every objective has one minimiser, R / Z. 81 strings of 3 letters, judged by dynamic programming."""

from __future__ import annotations

import dataclasses
import typing

import pytest
import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.discrete.environments.stopped import StoppedStrings
from equipoise.discrete.environments.strings import PrependAppendStrings
from equipoise.recipes.configuration import Discrete, LossName
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.training.loop import Loop
from equipoise.trajectories import Columns

QUICK = Discrete(batch=64, learning_rate=1e-2, hidden=(64, 64), epsilon=0.1)
LONG = dataclasses.replace(QUICK, steps=2000, learning_rate=5e-3)
SLOWER = {"neyman", "total_variation"}
"""Divergences whose gradients are steepest where the model is above the target, or do not shrink near the minimum."""
LOSSES = tuple(name for name in typing.get_args(LossName) if name != "clipped")  # whose dead zone has many minimisers


def problem(config: Discrete) -> DiscreteRun:
    """Strings of 4 letters, grown at both ends; any length up to 4 where every state must be able to stop.

    log R is standard normal, of unfinished strings too: forward-looking balance must not care what they are.
    """
    stops = config.method == "modified_db"
    space = StoppedStrings(letters=3, length=4) if stops else PrependAppendStrings(letters=3, length=4)
    noise = torch.Generator().manual_seed(5)
    states = torch.randn(121, generator=noise, dtype=torch.float64)

    def state_reward(state: Tensor) -> Tensor:
        return states[space.index(state) % 121]

    def reward(objects: Columns, context: Columns = None) -> Tensor:
        return state_reward(space.state_of(objects))

    chosen: Reward = reward
    return build(config, space, chosen, show=lambda objects: [], state_reward=state_reward)


def total_variation(config: Discrete) -> float:
    run = problem(config)
    loop = Loop(run.run)
    for _ in range(config.steps):
        loop.advance()
    figures = run.judge.figures()
    assert abs(figures["log_z_error"]) < 0.01
    return figures["total_variation"]


@pytest.mark.parametrize(("method", "steps"), [("vargrad", 500), ("db", 800)])
def test_two_objectives_quickly(method: str, steps: int) -> None:
    config = dataclasses.replace(QUICK, method=method, steps=steps, backward="learned")  # type: ignore[arg-type]
    assert total_variation(config) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("backward", ["uniform", "learned"])
@pytest.mark.parametrize("method", ["tb", "vargrad", "db", "fl_db", "subtb", "fm", "modified_db"])
def test_every_objective(method: str, backward: str) -> None:
    config = dataclasses.replace(LONG, method=method, backward=backward)  # type: ignore[arg-type]
    assert total_variation(config) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("residual", ["trajectory", "detailed", "sub_trajectory"])
def test_every_divergence_of_trajectories_edges_and_segments(residual: str, loss: str) -> None:
    order, steps = 0.5 if loss == "alpha" else None, LONG.steps * (2 if loss in SLOWER else 1)
    config = dataclasses.replace(LONG, residual=residual, loss=loss, order=order, steps=steps)  # type: ignore[arg-type]
    assert total_variation(config) < 0.01
