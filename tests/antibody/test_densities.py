"""Densities of the three parts: they integrate to 1, compose, and are those of the draws."""

from __future__ import annotations

import math

import numpy
import pytest
import torch

from equipoise.antibody import categorical, densities, so3
from equipoise.antibody.densities import Loops, Outputs
from equipoise.antibody.geometry import exponential, logarithm, of_quaternion, to_quaternion
from equipoise.antibody.process import loop_process
from equipoise.contracts import ON_POLICY

VARIANCES = [1e-3, 0.01, 0.3, 0.99, 1.01, 3.0, 11.6]


@pytest.mark.parametrize("variance", VARIANCES)
def test_the_density_of_rotations_integrates_to_one(variance: float) -> None:
    nodes, weights = numpy.polynomial.legendre.leggauss(2000)
    reach = min(math.pi, 12 * math.sqrt(variance))
    angle, weight = torch.tensor((nodes + 1) / 2 * reach), torch.tensor(weights / 2 * reach)
    density = so3.log_density(angle, torch.tensor(variance, dtype=torch.float64)).exp()
    assert float((density * (1 - angle.cos()) / math.pi * weight).sum()) == pytest.approx(1.0, abs=1e-6)


def test_both_series_of_the_heat_kernel_agree_where_both_hold() -> None:
    angle = torch.linspace(0.01, math.pi - 0.01, 500, dtype=torch.float64)
    variance = torch.full_like(angle, 1.3)
    assert torch.allclose(so3._series(angle, variance), so3._resummed(angle, variance), atol=1e-10)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("variance", [0.01, 0.5, 2.0, 11.6])
def test_drawn_turns_have_the_density_s_histogram(variance: float) -> None:
    generator, draws, cells = torch.Generator().manual_seed(0), 200_000, 20
    walk = so3.Walk(torch.tensor([5.0, variance]))
    uniform = torch.rand(draws, generator=generator)
    turn = walk.turn(torch.tensor(1), uniform, torch.randn((draws, 3), generator=generator))
    seen = so3.relative_angle(turn, torch.eye(3).expand_as(turn))
    reach = min(math.pi, 4 * math.sqrt(variance))
    edges = torch.linspace(0, reach, cells + 1, dtype=torch.float64)
    counts = torch.histc(seen, cells, 0, reach) / draws
    fine = torch.linspace(0, reach, cells * 200 + 1, dtype=torch.float64)
    density = so3.log_density(fine, torch.tensor(variance)).exp() * (1 - fine.cos()) / math.pi
    share = torch.trapezoid(density.unfold(0, 201, 200), dx=float(edges[1]) / 200)
    error = (share * (1 - share) / draws).sqrt()
    assert bool(((counts - share).abs() < 5 * error + 1e-6).all())


def test_two_steps_of_the_walk_have_the_density_of_one_step_of_their_variances() -> None:
    generator, draws = torch.Generator().manual_seed(1), 200_000
    walk = so3.Walk(torch.tensor([0.4, 0.9]))

    def turned(index: int) -> torch.Tensor:
        uniform = torch.rand(draws, generator=generator)
        return walk.turn(torch.tensor(index), uniform, torch.randn((draws, 3), generator=generator))

    both = turned(0) @ turned(1)
    angle = so3.relative_angle(both, torch.eye(3).expand_as(both))
    # E[trace character of order 1] = exp(-variance), exactly.
    mean = float((1 + 2 * angle.cos()).mean())
    assert mean == pytest.approx(3 * math.exp(-1.3), abs=5 * float((2 * angle.cos()).std()) / math.sqrt(draws))


def test_rotations_survive_vectors_and_quaternions() -> None:
    rotation = of_quaternion(torch.randn((500, 4), generator=torch.Generator().manual_seed(2)).double())
    assert torch.allclose(exponential(logarithm(rotation)), rotation, atol=1e-9)
    assert torch.allclose(of_quaternion(to_quaternion(rotation)), rotation, atol=1e-12)


def test_the_posterior_of_letters_is_bayes_rule_and_sums_to_one() -> None:
    kinds, keep, before = 5, 0.7, 0.4
    stay = torch.eye(kinds).double()
    step = keep * stay + (1 - keep) / kinds
    earlier = before * stay + (1 - before) / kinds
    belief = torch.rand(kinds, generator=torch.Generator().manual_seed(0)).double().softmax(0)
    for state in range(kinds):
        joint = earlier * step[:, state][None]  # object, previous
        expected = (belief[:, None] * joint / joint.sum(1, keepdim=True)).sum(0)
        found = categorical.log_posterior(
            belief.log()[None], torch.tensor([state]), torch.tensor([keep]).double(), torch.tensor([before]).double()
        ).exp()[0]
        assert torch.allclose(found, expected, atol=1e-12) and float(found.sum()) == pytest.approx(1.0, abs=1e-12)


def test_a_letter_that_is_all_but_impossible_keeps_its_score_and_its_gradient() -> None:
    belief = torch.tensor([[-100.0, 0.0]], dtype=torch.float64).log_softmax(-1).requires_grad_()
    one = torch.ones((), dtype=torch.float64)
    # In the first step the object itself is drawn, whatever the state; log p(object) is its score.
    found = categorical.log_posterior(belief, torch.tensor([1]), 0.999 * one, one)
    assert torch.allclose(found, belief, rtol=1e-12)
    found[0, 0].backward()
    assert belief.grad is not None and torch.allclose(belief.grad, torch.tensor([[1.0, 0.0]], dtype=torch.float64))


def test_one_step_and_the_path_to_it_have_the_marginal_of_the_letters() -> None:
    process = loop_process(50, warp=1.0)
    assert float((process.kept * process.keep)[0]) < 1e-4
    assert torch.allclose(process.keep.flip(0).cumprod(0).flip(0), process.kept * process.keep)
    assert torch.allclose(process.turn.flip(0).cumsum(0).flip(0), process.turned)


@pytest.mark.parametrize("step", [0, 6, 11])
def test_draws_of_a_generating_step_have_its_density(step: int) -> None:
    """E[exp(-log p) 1(x in A)] = |A|: checked on cells of each part, which catches a scale or a factor that is off."""
    process, generator, n = loop_process(12), torch.Generator().manual_seed(step), 40_000
    before = Loops(torch.full((n, 1), 3), torch.full((n, 1, 3), 0.3), torch.eye(3).expand(n, 1, 3, 3))
    log_letter = torch.randn((1, 1, 20), generator=generator).log_softmax(-1).expand(n, 1, 20)
    goal = exponential(torch.tensor([0.4, -0.2, 0.1])).expand(n, 1, 3, 3)
    found = Outputs(torch.full((n, 1, 3), 0.2), goal, log_letter)
    normal, uniform = torch.randn((n, 1, 7), generator=generator), torch.rand((n, 1, 3), generator=generator)
    after = densities.generated(process, before, found, step, normal, uniform, ON_POLICY)
    at = torch.full((n,), step)
    letter = densities.log_step(process, before, after, found, at, ("letter",)).exp()
    assert float((1 / letter).mean()) == pytest.approx(20, abs=5 * float((1 / letter).std()) / math.sqrt(n) + 1e-3)
    mass = torch.stack([letter[after.letter[:, 0] == kind].mean() for kind in after.letter.unique()])
    share = torch.bincount(after.letter[:, 0], minlength=20)[after.letter.unique()] / n
    assert torch.allclose(mass.float(), share, atol=0.015)
    place = densities.log_step(process, before, after, found, at, ("position",))
    std = float(process.position.std[step])
    entropy = 1.5 * math.log(2 * math.pi * math.e * std**2)
    assert float(-place.mean()) == pytest.approx(entropy, abs=5 * math.sqrt(1.5 / n))
    turn = densities.log_step(process, before, after, found, at, ("rotation",))
    fine = torch.linspace(1e-6, math.pi - 1e-6, 20_001, dtype=torch.float64)
    log_density = so3.log_density(fine, process.spread[step])
    negative = -torch.trapezoid(log_density * log_density.exp() * (1 - fine.cos()) / math.pi, fine)
    assert float(-turn.mean()) == pytest.approx(float(negative), abs=5 * float(turn.std()) / math.sqrt(n))


def test_gradients_of_the_kernel_are_finite_at_no_turn_and_at_a_half_turn() -> None:
    for angle in (0.0, 1e-5, math.pi, math.pi - 1e-5):
        vector = torch.tensor([angle, 0.0, 0.0], requires_grad=True)
        so3.log_kernel(exponential(vector), torch.eye(3), torch.tensor(0.5)).backward()
        assert vector.grad is not None and bool(torch.isfinite(vector.grad).all())
