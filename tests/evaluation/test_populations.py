"""Populations compared by features, against closed forms and against sums written out."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.evaluation.populations import (
    cosine_diversity,
    frechet_distance,
    gaussian_frechet,
    shares,
    weighted_shares,
)


def rows(seed: int, n: int = 50, features: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=generator, dtype=torch.float64)
    return torch.randn(n, features, generator=generator, dtype=torch.float64) @ mixing + seed


def test_the_frechet_distance_of_commuting_covariances_is_the_sum_over_axes() -> None:
    mean, other = torch.tensor([1.0, -2.0, 0.0]).double(), torch.tensor([0.0, 1.0, 0.5]).double()
    first, second = torch.tensor([4.0, 0.25, 0.04]).double(), torch.tensor([1.0, 9.0, 2.0]).double()
    expected = float((mean - other).square().sum() + (first.sqrt() - second.sqrt()).square().sum())
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    found = gaussian_frechet(turn @ mean, turn @ first.diag() @ turn.T, turn @ other, turn @ second.diag() @ turn.T)
    assert found == pytest.approx(expected, rel=1e-10)


def test_the_frechet_distance_is_that_of_the_product_of_covariances_eigenvalues() -> None:
    first, second = rows(1), rows(2)
    covariances = torch.cov(first.T), torch.cov(second.T)
    root = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.sqrt().sum()
    mean = (first.mean(0) - second.mean(0)).square().sum()
    expected = float(mean + covariances[0].trace() + covariances[1].trace() - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)


def test_the_frechet_distance_takes_features_that_never_vary() -> None:
    first = torch.cat([rows(1), torch.zeros(50, 2)], 1)
    assert frechet_distance(first, first + 1) == pytest.approx(6.0, abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 4), (5, 3), (5,)])
def test_features_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="two rows or more"):
        frechet_distance(torch.zeros(shape), torch.zeros(5, 4))


def test_diversity_is_the_mean_over_pairs() -> None:
    features = rows(3, n=7)
    unit = features / features.norm(dim=1, keepdim=True)
    pairs = [1 - float(unit[i] @ unit[j]) for i in range(7) for j in range(7) if i != j]
    assert cosine_diversity(features) == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)
    with pytest.raises(ValueError, match="two rows"):
        cosine_diversity(features[:1])


def test_weighted_shares_with_even_weights_are_shares_with_the_binomial_error() -> None:
    labels = torch.tensor([0, 2, 2, 1, 2])
    share, error = weighted_shares(labels, torch.full((5,), 3.0), 4)
    assert torch.allclose(share, shares(labels, 4))
    assert float(error[2]) == pytest.approx(math.sqrt(0.6 * 0.4 / 5), rel=1e-12)


def test_weighted_shares_tend_to_the_tilted_distribution_within_their_errors() -> None:
    generator = torch.Generator().manual_seed(0)
    prior, log_weight = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.0, 1.0, 2.0]).double()
    exact = (prior.log() + log_weight).softmax(0)
    off, claimed = [], []
    for _ in range(400):
        labels = torch.multinomial(prior, 500, replacement=True, generator=generator)
        share, error = weighted_shares(labels, log_weight[labels], 3)
        off.append(share - exact)
        claimed.append(error)
    spread, error = torch.stack(off).std(0), torch.stack(claimed).mean(0)
    assert torch.stack(off).mean(0).abs().max() < 4e-3
    assert torch.allclose(spread, error, rtol=0.12)  # the spread of 400 draws is known to 3.5 %


def test_labels_and_weights_of_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="labels"):
        weighted_shares(torch.tensor([0, 1]), torch.zeros(3), 2)
