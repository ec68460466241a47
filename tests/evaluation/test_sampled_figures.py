"""Sampled figures and their floors: against closed forms, brute force, and perfect samples drawn apart."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor

from equipoise.discrete import exact
from equipoise.discrete.corners import corner_modes
from equipoise.discrete.environments.hypergrid import Hypergrid, corners
from equipoise.discrete.environments.strings import AppendStrings, PrependAppendStrings
from equipoise.discrete.policies.mlp import MLP
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.evaluation.best import best_figures, edit_distance, hamming_distance, novelty
from equipoise.evaluation.coverage import Discovery, found_by_chance, mode_masses, within
from equipoise.evaluation.distances import compare, jensen_shannon, kl, l1_floor, sampled_l1
from equipoise.evaluation.likelihoods import correlations, log_probability, pearson, spearman
from equipoise.evaluation.reward_tests import CRITICAL, anderson_darling, mean_error_floor, reward_tests
from equipoise.sampling.given import Data


def skewed(size: int) -> Tensor:
    return torch.linspace(0, 6, size, dtype=torch.float64).softmax(0)


def counts(target: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(target, n, True, generator=generator).bincount(minlength=len(target))


def test_distances_of_a_distribution_are_their_definitions() -> None:
    model, log_reward = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([1.0, 2.0, 3.0]).double().log()
    target = [1 / 6, 2 / 6, 3 / 6]
    found = compare(model, log_reward, log_reward, 0.0)
    pairs = list(zip(model.tolist(), target, strict=True))
    assert found["reverse_kl"] == pytest.approx(sum(p * math.log(p / q) for p, q in pairs))
    assert found["forward_kl"] == pytest.approx(sum(q * math.log(q / p) for p, q in pairs))
    assert found["total_variation"] == pytest.approx(sum(abs(p - q) for p, q in pairs) / 2)
    mean = [(p + q) / 2 for p, q in pairs]
    halves = [p * math.log(p / m) + q * math.log(q / m) for (p, q), m in zip(pairs, mean, strict=True)]
    assert found["jensen_shannon"] == pytest.approx(sum(halves) / 2)
    gone = torch.tensor([1.0, 0.0])
    assert math.isfinite(kl(gone.flip(0), gone)) and jensen_shannon(gone, gone) == 0.0


@pytest.mark.parametrize("n", [1, 7, 400])
def test_the_floor_of_a_sampled_l1_is_what_perfect_samples_show(n: int) -> None:
    target, noise = skewed(50), torch.Generator().manual_seed(1)
    found = torch.tensor([sampled_l1(counts(target, n, noise), target) for _ in range(2000)])
    assert abs(float(found.mean()) - l1_floor(target, n)) < 5 * float(found.std()) / math.sqrt(2000)


def test_the_floor_of_the_published_grids_is_within_the_noise_of_the_one_that_was_simulated() -> None:
    # One perfect sample of 2e5 each, drawn apart for this project: sums over the 4,096 points.
    simulated = {
        (4, 8): {0.1: 0.1074, 0.01: 0.0718, 0.001: 0.0426},
        (2, 64): {0.1: 0.0954, 0.01: 0.0727, 0.001: 0.0584},
    }
    noise = torch.Generator().manual_seed(3)
    for (dim, side), by_floor in simulated.items():
        graph = exact.state_graph(Hypergrid(dim=dim, side=side))
        for r0, known in by_floor.items():
            target = exact.log_rewards(graph, corners(side, r0)).softmax(0)
            found = torch.tensor([sampled_l1(counts(target, 200_000, noise), target) for _ in range(12)])
            assert abs(l1_floor(target, 200_000) - known) < 4 * float(found.std())


def test_a_perfect_sampler_passes_shen_s_tests_and_a_uniform_one_does_not() -> None:
    target = skewed(3000)
    perfect, other = (reward_tests(model, target, target * 100) for model in (target, torch.full((3000,), 1 / 3000)))
    assert abs(perfect["sampled_mean_error"]) < 4 * perfect["sampled_mean_error_floor"]
    assert other["sampled_mean_error"] < -100 * other["sampled_mean_error_floor"]
    assert perfect["anderson_darling"] < 1 < 50 < other["anderson_darling"]
    assert abs(perfect["anderson_darling_floor"]) < 1


def test_the_floor_of_the_mean_is_what_perfect_samples_show() -> None:
    target, noise, reward = skewed(40), torch.Generator().manual_seed(2), torch.arange(40).double()
    mean = float((target * reward).sum())
    rows = torch.multinomial(target, 4000 * 100, True, generator=noise).reshape(4000, 100)
    errors = (reward[rows].mean(1) / mean - 1).abs()
    assert float(errors.mean()) == pytest.approx(mean_error_floor(target, reward, 100), rel=0.05)


def test_the_anderson_darling_statistic_is_scipy_s_over_its_critical_value() -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = torch.arange(60).double() % 7, torch.arange(90).double() % 11
    with pytest.warns(UserWarning):
        found = stats.anderson_ksamp([first.numpy(), second.numpy()])
    assert anderson_darling(first, second) == pytest.approx(found.statistic / CRITICAL)
    assert found.critical_values[2] == pytest.approx(CRITICAL, abs=5e-4)
    with pytest.raises(ValueError, match="not all equal"):
        anderson_darling(torch.ones(5), torch.ones(5))


def string_sampler(environment: AppendStrings) -> DiscreteSampler:
    torch.manual_seed(0)
    policy = MLP(environment.features, (16,), {"forward": environment.actions, "backward": environment.back_actions})
    with torch.no_grad():
        policy.out.weight.mul_(6)
    return DiscreteSampler(environment, policy, backward="learned")


def test_importance_sampled_probabilities_are_unbiased_and_their_errors_are_their_spread() -> None:
    environment = PrependAppendStrings(letters=3, length=4)
    sampler, graph = string_sampler(environment), exact.state_graph(environment)
    p = exact.terminal_distribution(graph, exact.log_policy(sampler, graph))
    rows = torch.arange(0, 81, 5)
    noise = torch.Generator().manual_seed(0)
    found = log_probability(sampler, environment.objects(graph.terminal[rows]), draws=800, generator=noise)
    error = (found.log_p.exp() - p[rows]) / (p[rows] * found.error).clamp(min=1e-6 * p[rows])
    assert float(error.abs().max()) < 4.5 and 0.5 < float(error.square().mean()) < 2.0
    assert float(found.error.max()) > 0.01


def test_on_a_tree_one_trajectory_is_exact() -> None:
    environment = AppendStrings(letters=3, length=4)
    sampler, graph = string_sampler(environment), exact.state_graph(environment)
    p = exact.terminal_distribution(graph, exact.log_policy(sampler, graph))
    words = environment.objects(graph.terminal)
    found = log_probability(sampler, words, draws=1, generator=torch.Generator(), chunk=20)
    assert torch.allclose(found.log_p, p.log(), atol=1e-5) and not found.error.any()
    perfect = correlations(found, found.log_p + 3)
    assert perfect["spearman"] == pytest.approx(1) and perfect["log_p_slope"] == pytest.approx(1)
    assert correlations(found, 0.5 * found.log_p)["log_p_slope"] == pytest.approx(2)


def test_correlations_are_scipy_s_with_ties_and_without() -> None:
    stats = pytest.importorskip("scipy.stats")
    noise = torch.Generator().manual_seed(5)
    first, second = torch.randn(200, generator=noise), torch.randn(200, generator=noise).round()
    second = second + first.round()
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-9)
    assert pearson(first, second) == pytest.approx(stats.pearsonr(first.double(), second.double()).statistic, abs=1e-9)
    with pytest.raises(ValueError, match="does not vary"):
        spearman(first, torch.ones(200))


def slow_edit_distance(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def test_edit_distances_are_those_of_the_table() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("ABC", k=draw.randrange(9))) for _ in range(40)]
    found = edit_distance(words, words[:30])
    assert found.tolist() == [[slow_edit_distance(a, b) for b in words[:30]] for a in words]
    numbers = torch.randint(3, (20, 6), generator=torch.Generator().manual_seed(0))
    assert (edit_distance(numbers, numbers) <= hamming_distance(numbers, numbers)).all()


def test_the_best_are_told_by_reward_and_by_what_was_known() -> None:
    log_reward = torch.tensor([0.0, 1.0, 2.0])
    found = best_figures(["AAAA", "ABAA", "CCC"], log_reward, k=2, known=["ABAC", "CC"])
    assert found["top_reward"] == pytest.approx((math.e + math.e**2) / 2)
    assert found["top_diversity"] == 4.0 and found["top_novelty"] == 1.0
    assert novelty(torch.tensor([[0, 5]])) == 0.0
    with pytest.raises(ValueError, match="k is 4 of 3 objects"):
        best_figures(["A", "B", "C"], log_reward, k=4)


def test_a_mode_is_held_from_half_of_its_due_mass() -> None:
    modes = corner_modes(dim=2, side=20)
    assert modes is not None and modes.count == 4
    graph = exact.state_graph(Hypergrid(dim=2, side=20))
    log_reward = exact.log_rewards(graph, corners(20, 1e-4, 1.0, 3.0))
    points = graph.environment.objects(graph.terminal)
    member, target = modes.member(points), log_reward.softmax(0)
    assert torch.equal(member.any(1), (log_reward - math.log(4.0001)).abs() < 1e-9)
    assert mode_masses(target, target, member)["modes_held"] == 4
    one = torch.where(member[:, 0], target, 0.0)
    found = mode_masses(one / one.sum(), target, member)
    assert found["modes_held"] == 1 and found["mode_mass"] == pytest.approx(1)
    assert found["mode_mass_exact"] == pytest.approx(float(target[member.any(1)].sum()))
    assert corner_modes(dim=2, side=4) is None and corner_modes(dim=9, side=8) is None


def test_modes_are_found_when_first_drawn_and_the_count_survives_a_restart() -> None:
    words = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]])
    noise = torch.Generator().manual_seed(0)
    source = Discovery(Data(words[:1]), within(words, 1))
    source.draw(3, noise)
    assert source.figures() == {"modes_found": 1.0, "trajectories": 3.0} and source.first.tolist() == [1, -1]
    later = Discovery(Data(words), within(words, 1))
    later.load_state_dict(source.state_dict() | {"inner": later.inner.state_dict()})
    later.draw(64, noise)
    assert later.figures() == {"modes_found": 2.0, "trajectories": 67.0}
    assert later.first[0] == 1 and 4 <= later.first[1] <= 67


def test_a_perfect_sampler_finds_as_many_modes_as_chance_says() -> None:
    mass, noise = torch.tensor([0.3, 0.01, 0.002]), torch.Generator().manual_seed(0)
    rows = torch.multinomial(torch.cat([mass, 1 - mass.sum(0, True)]), 3000 * 100, True, generator=noise)
    found = torch.stack([(rows.reshape(3000, 100) == mode).any(1) for mode in range(3)]).double().sum(0)
    assert abs(float(found.mean()) - found_by_chance(mass, 100)) < 5 * float(found.std()) / math.sqrt(3000)
