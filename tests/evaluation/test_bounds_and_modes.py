"""Bounds of log Z and figures of modes: against closed forms, and against samples where there is none."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from equipoise.diffusion.targets import NINE, TWENTY_FIVE, Mixture, posterior_reward
from equipoise.evaluation.bounds import eubo, importance, systematic
from equipoise.evaluation.modes import histogram_distance, histogram_floor, mode_histogram, wasserstein2


def gaussian_log_weight(points: Tensor, mean: float, log_z: float) -> Tensor:
    """log target - log model, of a target exp(log_z) N(mean, 1) and a model N(0, 1)."""
    return log_z - 0.5 * (points - mean) ** 2 + 0.5 * points**2


def test_the_bounds_enclose_log_z_by_the_kls_of_two_gaussians() -> None:
    mean, log_z, noise = 0.7, 1.3, torch.Generator().manual_seed(0)
    model = torch.randn(400_000, generator=noise, dtype=torch.float64)
    target = model + mean
    found = importance(gaussian_log_weight(model, mean, log_z))
    assert found["elbo"] == pytest.approx(log_z - mean**2 / 2, abs=5e-3)
    assert eubo(gaussian_log_weight(target, mean, log_z)) == pytest.approx(log_z + mean**2 / 2, abs=5e-3)
    assert found["log_z_importance"] == pytest.approx(log_z, abs=5e-3)
    assert found["ess"] == pytest.approx(math.exp(-(mean**2)), abs=1e-2)  # 1 / (1 + chi^2)


def test_weights_of_any_size_do_not_overflow() -> None:
    found = importance(torch.tensor([1e4, -1e4], dtype=torch.float64))
    assert found == {"elbo": 0.0, "log_z_importance": pytest.approx(1e4 - math.log(2)), "ess": pytest.approx(0.5)}
    for bad in (torch.tensor([]), torch.tensor([0.0, math.nan]), torch.zeros(2, 2)):
        with pytest.raises(ValueError, match="log-weights"):
            importance(bad)


def test_systematic_rows_are_taken_floor_or_ceil_of_their_share() -> None:
    share = torch.tensor([0.05, 0.55, 0.4], dtype=torch.float64)
    for seed in range(20):
        rows = systematic(share.log(), 10, torch.Generator().manual_seed(seed))
        count = torch.bincount(rows, minlength=3).double()
        assert bool(((count - 10 * share).abs() < 1).all())


def test_histograms_count_by_the_nearest_mode_within_the_radius() -> None:
    modes = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    points = torch.tensor([[1.0, 0.0], [3.0, 0.0], [4.0, 1.9], [2.0, 9.0]])
    weight = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    assert torch.allclose(mode_histogram(points, modes, 2.0), torch.tensor([0.25, 0.5, 0.25]).double())
    assert torch.allclose(mode_histogram(points, modes, 2.0, weight), torch.tensor([0.1, 0.5, 0.4]).double())


def test_the_floor_is_what_perfect_samples_show() -> None:
    target = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    noise = torch.Generator().manual_seed(7)
    found = [
        histogram_distance(
            torch.bincount(torch.multinomial(target, 500, True, generator=noise), minlength=3) / 500, target
        )
        for _ in range(400)
    ]
    assert histogram_floor(target, 500) == pytest.approx(sum(found) / len(found), rel=0.1)


def test_the_wasserstein_distance_is_the_best_of_all_assignments() -> None:
    noise = torch.Generator().manual_seed(3)
    first, second = (torch.randn(5, 2, generator=noise, dtype=torch.float64) for _ in range(2))
    costs = [(first - second[list(order)]).square().sum(1).mean() for order in itertools.permutations(range(5))]
    assert wasserstein2(first, second) == pytest.approx(math.sqrt(min(costs)), rel=1e-9)
    with pytest.raises(ValueError, match="two of one size"):
        wasserstein2(first, second[:4])


@pytest.mark.parametrize("mixture", [NINE, TWENTY_FIVE], ids=["nine", "twenty-five"])
def test_a_mixture_s_shares_are_those_of_many_of_its_points(mixture: Mixture) -> None:
    points = mixture.sample(400_000, torch.Generator().manual_seed(1))
    found = mode_histogram(points, mixture.means, 2.0)
    assert torch.allclose(found, mixture.shares(2.0), atol=2.5e-3)
    assert float(mixture.shares(2.0).sum()) == pytest.approx(1.0, abs=1e-6)


def test_a_mixture_s_density_sums_to_one_and_the_reward_turns_one_into_the_other() -> None:
    axis = torch.arange(-16, 16, 0.05, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    assert float(NINE.log_prob(grid).exp().sum() * 0.05**2) == pytest.approx(1.0, abs=1e-4)
    assert torch.allclose(
        TWENTY_FIVE.log_prob(grid) + posterior_reward(grid), NINE.log_prob(grid), atol=1e-4, rtol=1e-5
    )
    with pytest.raises(ValueError, match="one each, summing to 1"):
        Mixture(torch.zeros(2, 1), torch.ones(2), 1.0)
