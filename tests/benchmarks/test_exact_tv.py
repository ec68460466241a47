"""The function that judges every library's policy: against brute force, and against this library's own evaluation."""

from __future__ import annotations

import exact_tv
import numpy
import quality
import torch

from equipoise.discrete import exact
from equipoise.discrete.environments.hypergrid import Hypergrid
from equipoise.discrete.environments.strings import AppendStrings
from equipoise.discrete.judge import Judge
from equipoise.discrete.policies.mlp import MLP
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.recipes import Hypergrid as HypergridConfiguration
from equipoise.recipes.hypergrid import hypergrid


def test_the_law_of_a_grid_policy_is_that_of_the_librarys_own_evaluation() -> None:
    grid = Hypergrid(dim=3, side=4)
    torch.manual_seed(0)
    sampler = DiscreteSampler(grid, MLP(grid.features, (16,), {"forward": grid.actions}))
    points = torch.from_numpy(exact_tv.grid_states(3, 4))
    states = torch.cat([points, torch.zeros((len(points), 1), dtype=torch.int64)], 1)
    with torch.no_grad():
        logits = sampler.policy(grid.encode(states))["forward"].double().numpy()
    law = exact_tv.grid_distribution(logits, 3, 4)
    graph = exact.state_graph(grid)
    assert torch.equal(grid.objects(graph.terminal), points)
    expected = exact.terminal_distribution(graph, exact.log_policy(sampler, graph)).numpy()
    numpy.testing.assert_allclose(law, expected, rtol=1e-5)
    assert abs(law.sum() - 1) < 1e-12


def test_the_law_of_a_string_policy_is_that_of_the_librarys_own_evaluation() -> None:
    space = AppendStrings(letters=3, length=4)
    torch.manual_seed(0)
    sampler = DiscreteSampler(space, MLP(space.features, (16,), {"forward": space.actions}))
    states = torch.from_numpy(exact_tv.string_prefixes(3, 4)) + 1
    with torch.no_grad():
        logits = sampler.log_edges(states)["log_pf"].numpy()
    graph = exact.state_graph(space)
    order = (space.objects(graph.terminal) * 3 ** torch.arange(3, -1, -1)).sum(1)
    expected = exact.terminal_distribution(graph, exact.log_policy(sampler, graph)).numpy()
    numpy.testing.assert_allclose(exact_tv.string_distribution(logits, 3, 4)[order], expected, rtol=1e-5)


def test_the_grids_target_is_the_one_that_the_library_trains_towards() -> None:
    config = HypergridConfiguration(dim=4, side=8, rewards=quality.GRID_REWARDS)
    judge = hypergrid(config).judge
    assert isinstance(judge, Judge)
    log_reward = judge.log_reward.numpy()
    ours = exact_tv.grid_log_reward(exact_tv.grid_states(**quality.GRID), 8, quality.GRID_REWARDS)
    numpy.testing.assert_allclose(ours, log_reward, rtol=1e-6)


def test_a_policy_that_is_the_target_has_no_distance_and_a_wrong_one_has_its_own() -> None:
    log_reward = numpy.log([1.0, 2.0, 3.0, 2.0])
    assert exact_tv.total_variation(numpy.array([1, 2, 3, 2]) / 8, log_reward) < 1e-15
    assert abs(exact_tv.total_variation(numpy.array([1.0, 0.0, 0.0, 0.0]), log_reward) - 7 / 8) < 1e-15
