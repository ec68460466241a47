"""Exact: dynamic programming against brute-force enumeration of all trajectories, and against known totals."""

from __future__ import annotations

import pytest
import torch

from equipoise.contracts import Enumerable
from equipoise.discrete import exact
from equipoise.discrete.environments.bags import Bags
from equipoise.discrete.environments.hypergrid import Hypergrid, corners
from equipoise.discrete.environments.stopped import StoppedStrings
from equipoise.discrete.environments.strings import AppendStrings, InsertStrings, PrependAppendStrings
from equipoise.discrete.policies.mlp import MLP, Uniform
from equipoise.discrete.sampler import DiscreteSampler

SPACES: list[Enumerable] = [
    Hypergrid(dim=2, side=4),
    AppendStrings(letters=3, length=4),
    PrependAppendStrings(letters=3, length=4),
    InsertStrings(letters=3, length=3),
    StoppedStrings(letters=2, length=3),
    Bags(letters=3, full=4),
]


def sampler(environment: Enumerable, *, prior: bool = False) -> DiscreteSampler:
    torch.manual_seed(0)
    heads = {"forward": environment.actions, "backward": environment.back_actions}
    policy = MLP(environment.features, (24,), heads).double()
    with torch.no_grad():
        policy.out.weight.mul_(8)
    encode = environment.encode
    environment.encode = lambda state: encode(state).double()  # type: ignore[method-assign]
    reference = Uniform({"forward": environment.actions}) if prior else None
    return DiscreteSampler(environment, policy, backward="learned", prior=reference)


@pytest.mark.parametrize("environment", SPACES, ids=lambda space: type(space).__name__)
def test_the_exact_distribution_is_that_of_all_trajectories(environment: Enumerable) -> None:
    mine, graph = sampler(environment), exact.state_graph(environment)
    log_pf = exact.log_policy(mine, graph)
    found = torch.zeros(len(graph.terminal), dtype=torch.float64)
    for rows, actions in exact.trajectories_of(graph):
        path = torch.stack([log_pf[row, action] for row, action in zip(rows, actions, strict=False)])
        found[rows[-1] - graph.inner] += path.sum().exp()
    assert found.sum().isclose(torch.tensor(1.0, dtype=torch.float64))
    assert torch.allclose(exact.terminal_distribution(graph, log_pf), found, atol=1e-10, rtol=0)


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("environment", SPACES, ids=lambda space: type(space).__name__)
def test_the_expected_log_ratio_is_that_of_all_trajectories(environment: Enumerable, prior: bool) -> None:
    mine, graph = sampler(environment, prior=prior), exact.state_graph(environment)
    log_pf = exact.log_policy(mine, graph)
    target = torch.linspace(-2, 1, len(graph.terminal), dtype=torch.float64)
    expected = 0.0
    for rows, actions in exact.trajectories_of(graph):
        states = graph.states[rows]
        forward = torch.stack([log_pf[row, action] for row, action in zip(rows, actions, strict=False)])
        if prior:
            reference = -environment.allowed(states[:-1]).double().sum(1).log()
        else:
            back = environment.back_action(states[:-1], torch.tensor(actions))
            reference = mine.log_back(states[1:]).gather(1, back[:, None])[:, 0]
        ratio = forward.sum() - reference.sum() - target[rows[-1] - graph.inner]
        expected += float((forward.sum().exp() * ratio).detach())
    assert abs(exact.expected_log_ratio(mine, graph, log_pf, target) - expected) < 1e-6


def test_strings_of_n_letters_have_2_to_the_n_minus_1_ways_of_growth_at_both_ends() -> None:
    graph = exact.state_graph(PrependAppendStrings(letters=3, length=4))
    ways = torch.zeros(len(graph.terminal))
    for rows, _ in exact.trajectories_of(graph):
        ways[rows[-1] - graph.inner] += 1
    runs = {0, 40, 80}  # a run of one letter, "aaaa", has one: both ends are the same
    assert ways.max() == 8
    assert all(ways[word] == 1 for word in runs)


def test_a_prior_times_a_reward_has_the_published_partition() -> None:
    # log Z of the uniform prior over valid actions times R^beta, 8 x 8 grid: computed apart for this project.
    environment = Hypergrid(dim=2, side=8)
    graph = exact.state_graph(environment)
    prior = DiscreteSampler(environment, Uniform({"forward": environment.actions}))
    log_prior = exact.terminal_distribution(graph, exact.log_policy(prior, graph)).log()
    log_reward = exact.log_rewards(graph, corners(8))
    for beta, log_z in ((1.0, -0.5573970219), (2.0, -0.3218239991)):
        assert abs(float(torch.logsumexp(log_prior + beta * log_reward, 0)) - log_z) < 1e-6


def test_a_space_that_is_too_large_or_a_reward_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="too many to list"):
        exact.state_graph(Hypergrid(dim=6, side=20))
    graph = exact.state_graph(Hypergrid(dim=1, side=4))
    with pytest.raises(ValueError, match="index 2 is -inf"):
        exact.log_rewards(graph, lambda points, context: torch.tensor([0.0, 0.0, 0.0, 1.0]).log()[[3, 3, 0, 3]])
