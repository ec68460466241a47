"""Exact: a sampler trained with replay, against its target; and a run with replay that is taken up again."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from equipoise.discrete import exact
from equipoise.discrete.environments.hypergrid import Hypergrid, corners
from equipoise.discrete.policies.mlp import MLP
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.evaluation.distances import compare
from equipoise.objectives import partition
from equipoise.objectives.divergences import divergence
from equipoise.sampling.replay import Replay, reward_priority
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.balance import RESIDUALS, balance
from equipoise.training.loop import Loop, Run
from equipoise.trajectories import from_bytes, to_bytes


def test_a_sampler_trained_with_replay_reaches_its_target() -> None:
    # Total variation over seeds 0 to 3: .003 to .010.
    loop = made(steps=400, seed=0)
    while loop.step < 400:
        loop.advance()
    assert total_variation(loop) < 0.03


@pytest.mark.parametrize("options", [{}, {"again": False, "priority": reward_priority}, {"distinct": True}])
def test_a_resumed_run_ends_bit_for_bit_where_it_would_have(options: dict[str, Any]) -> None:
    whole, first = made(steps=16, seed=1, **options), made(steps=16, seed=1, **options)
    for loop, steps in ((whole, 16), (first, 9)):
        while loop.step < steps:
            loop.advance()
    second = made(steps=16, seed=2, **options)
    second.load_state_dict(from_bytes(to_bytes(first.state_dict())))
    while second.step < 16:
        second.advance()
    assert to_bytes(second.state_dict()) == to_bytes(whole.state_dict())


def made(steps: int, seed: int, *, again: bool = True, **options: Any) -> Loop:
    """Trajectory balance on the hypergrid, half of each batch replayed."""
    torch.manual_seed(seed)
    environment = Hypergrid(dim=2, side=6)
    sampler = DiscreteSampler(environment, MLP(environment.features, (64,), {"forward": environment.actions}))
    log_z = partition.estimator("learned", divergence("reverse_kl"))
    assert isinstance(log_z, torch.nn.Module)
    rollouts = Rollouts(sampler, corners(6))
    replay = Replay(rollouts, fresh=0.5, capacity=1000, again=sampler if again else None, **options)
    run = Run(
        modules={"policy": sampler, "log_z": log_z},
        learning_rate={
            "policy": lambda step: 1e-2 * (1 - step / steps),
            "log_z": lambda step: 0.1 * (1 - step / steps),
        },
        terms=(balance("balance", "replay", sampler, RESIDUALS["trajectory"], divergence("reverse_kl"), log_z),),
        sources={"replay": replay},
        batch={"replay": 16},
        steps=steps,
        seed=seed,
    )
    return Loop(run)


def total_variation(loop: Loop) -> float:
    """Exact distance of the sampler's distribution from its target."""
    sampler = loop.run.terms[0].sampler
    assert isinstance(sampler, DiscreteSampler)
    graph = exact.state_graph(Hypergrid(dim=2, side=6))
    log_reward = exact.log_rewards(graph, corners(6))
    model = exact.terminal_distribution(graph, exact.log_policy(sampler, graph))
    return compare(model, log_reward, log_reward, 0.0)["total_variation"]
