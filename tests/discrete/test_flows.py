"""Theorem: the flows that balance has with a uniform backward policy, against counts of trajectories."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from equipoise.discrete import exact
from equipoise.discrete.environments.hypergrid import Hypergrid, corners
from equipoise.discrete.environments.strings import PrependAppendStrings
from equipoise.discrete.policies.mlp import Uniform
from equipoise.discrete.sampler import DiscreteSampler


def uniform_flows(graph: exact.StateGraph, weight: Tensor) -> Tensor:
    """Flows of the uniform backward policy, of maximal entropy."""
    environment = graph.environment
    sampler = DiscreteSampler(environment, Uniform({"forward": environment.actions}))
    return exact.target_flows(graph, exact.log_backward(sampler, graph), weight)


def word(letters: list[int], length: int) -> Tensor:
    return torch.tensor([[letter + 1 for letter in letters] + [0] * (length - len(letters))])


@pytest.mark.parametrize(("n", "k"), [(4, 2), (5, 2)])
def test_uniform_backward_credits_a_shared_substring_as_proposition_5_2_says(n: int, k: int) -> None:
    # Shen et al. 2023, proposition 5.2: two strings of equal reward share a substring s* of length k, wherever it
    # stands in each, and no other. E[F(s*)] / E[F of the first one's other substrings of that length] = 2 / (n - k).
    gap = n - k
    letters = k + 2 * gap
    shared = list(range(k))
    graph = exact.state_graph(PrependAppendStrings(letters=letters, length=n))
    index = graph.environment.index

    def grown(before: int, own: list[int]) -> list[int]:
        return own[:before] + shared + own[before:]

    credit, others, ratios = 0.0, 0.0, []
    places = list(itertools.product(range(gap + 1), repeat=2))
    for first_place, second_place in places:
        first = grown(first_place, list(range(k, k + gap)))
        second = grown(second_place, list(range(k + gap, letters)))
        weight = torch.zeros(len(graph.terminal), dtype=torch.float64)
        weight[index(torch.cat([word(first, n), word(second, n)])) - graph.inner] = 3.0
        flow = uniform_flows(graph, weight)
        of_shared = float(flow[index(word(shared, n))])
        ways = [math.comb(gap, place) * 2 ** (k - 1) / 2 ** (n - 1) for place in (first_place, second_place)]
        assert of_shared == pytest.approx(3.0 * sum(ways), abs=1e-12)
        parts = [first[place : place + k] for place in range(gap + 1) if place != first_place]
        of_others = sum(float(flow[index(word(part, n))]) for part in parts)
        credit, others = credit + of_shared, others + of_others
        if first_place == second_place:
            ratios.append(of_shared / of_others)
    assert abs(credit / others - 2 / gap) < 1e-6
    if gap == 2:  # the mean of the ratio is another number, and not what is claimed
        assert sum(ratios) / len(ratios) == pytest.approx(10 / 9, abs=1e-12)


def test_the_flows_of_a_uniform_backward_policy_are_weighted_counts_of_trajectories() -> None:
    environment = PrependAppendStrings(letters=3, length=4)
    graph = exact.state_graph(environment)
    weight = torch.linspace(0.0, 2.0, len(graph.terminal), dtype=torch.float64)
    expected = torch.zeros(len(graph.states), dtype=torch.float64)
    for rows, _ in exact.trajectories_of(graph):
        parents = environment.parents(graph.states[rows[1:]]).double().sum(1)
        expected[rows] += weight[rows[-1] - graph.inner] / parents.prod()
    assert torch.allclose(uniform_flows(graph, weight), expected, atol=1e-12, rtol=0)


def test_a_policy_made_of_flows_samples_the_target_and_has_those_flows() -> None:
    environment = Hypergrid(dim=2, side=5)
    graph = exact.state_graph(environment)
    log_reward = exact.log_rewards(graph, corners(5))
    flow = uniform_flows(graph, log_reward.exp())
    log_pf = torch.full((graph.inner, environment.actions), -torch.inf, dtype=torch.float64)
    for level in graph.levels:
        back = environment.parents(graph.states[level.child]).double().sum(1)
        parents = level.rows[level.parent]
        log_pf[parents, level.action] = (flow[level.child] / back / flow[parents]).log()
    assert torch.allclose(exact.terminal_distribution(graph, log_pf), log_reward.softmax(0), atol=1e-12, rtol=0)
    log_z = float(torch.logsumexp(log_reward, 0))
    assert torch.allclose(exact.log_flows(graph, log_pf, log_z), flow.log(), atol=1e-12, rtol=0)
