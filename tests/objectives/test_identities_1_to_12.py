"""Identities 1 to 12 of the algebra: divergences, constants and batches. Both sides are computed apart, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from equipoise.objectives import partition, policy_gradient, residuals
from equipoise.objectives.divergences import Divergence, divergence
from objectives.problems import (
    GENERATORS,
    Choice,
    agree,
    alpha_generator,
    batches,
    choice,
    every_loss,
    integrate,
    kl,
    label,
    renyi,
)

ORDERS = (-1.0, 0.0, 0.5, 1.0, 2.0, 3.0)


def residual(problem: Choice, log_z: Tensor | float) -> Tensor:
    return residuals.trajectory_balance(log_z, problem.log_p, torch.zeros_like(problem.logits), problem.log_reward)


def divergence_gradient(problem: Choice, f: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of E_target f(model / target), by autograd through its definition."""
    ratio = problem.log_p.exp() / problem.log_target.exp()
    return problem.gradient((problem.log_target.exp() * f(ratio)).sum())


def alpha_f(order: float) -> Callable[[Tensor], Tensor]:
    named = {0.0: "forward_kl", 1.0: "reverse_kl"}
    return GENERATORS[named[order]] if order in named else alpha_generator(order)


@pytest.mark.parametrize(("loss", "f"), every_loss(), ids=label)
def test_the_on_policy_gradient_of_a_loss_is_that_of_its_divergence(loss: Divergence, f: Callable) -> None:
    """Identity 1: E_p[grad g(residual)] = grad D_f(p||target) with the exact log Z, for each g."""
    problem = choice()
    on_policy = problem.gradient((problem.p * loss.loss(residual(problem, problem.log_z))).sum())
    agree(on_policy, divergence_gradient(problem, f))


@pytest.mark.parametrize(("loss", "f"), every_loss(), ids=label)
def test_the_slope_of_a_loss_integrates_to_the_generator_it_came_from(loss: Divergence, f: Callable) -> None:
    """Identity 2: f(u) = int_1^u psi(log t) dt, up to the null term in u - 1, and psi(r) = f'(e^r) - f'(1)."""
    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    (tangent,) = torch.autograd.grad(f(one), one)
    for u in (0.05, 0.6, 0.9, 1.0, 1.4, 5.0):
        point = torch.tensor(u, dtype=torch.float64, requires_grad=True)
        (derivative,) = torch.autograd.grad(f(point), point)
        there = integrate(lambda t: loss.slope(t.log()), 1.0, u, 40_000)
        expected = float((f(point) - f(one) - tangent * (point - 1)).detach())
        coarse = 2e-4 if loss.name in ("huber", "clipped", "total_variation") else 1e-9
        assert there == pytest.approx(expected, abs=coarse)
        assert float(loss.generator(point.detach())) == pytest.approx(expected, abs=1e-12, rel=1e-10)
        if u != 1.0:
            assert float(loss.slope(point.detach().log())) == pytest.approx(float(derivative - tangent), abs=1e-12)


@pytest.mark.parametrize("name", [name for name in GENERATORS if name != "total_variation"])
def test_the_opposite_sign_of_the_residual_belongs_to_the_adjoint_divergence(name: str) -> None:
    """Identity 3: with Hu et al.'s residual -r their loss is g_H(t) = g(-t), and their generator
    t int_1^t g_H'(log s) / s^2 ds is the adjoint t f(1 / t)."""
    loss = divergence(name)
    for t in (0.2, 0.7, 2.5):
        theirs = t * integrate(lambda s: -loss.slope(-s.log()) / s**2, 1.0, t)
        u = torch.tensor(1 / t, dtype=torch.float64)
        one = torch.ones((), dtype=torch.float64, requires_grad=True)
        (tangent,) = torch.autograd.grad(GENERATORS[name](one), one)
        assert theirs == pytest.approx(t * float(GENERATORS[name](u) - tangent * (u - 1)), abs=1e-9)


@pytest.mark.parametrize("error", [-3.0, 0.0, 5.0])
def test_the_half_square_has_the_kl_gradient_on_policy_whatever_the_constant(error: float) -> None:
    """Identity 4: E_p[grad (log_ratio + C)^2 / 2] = grad KL(p||target) for any C."""
    problem = choice()
    loss = divergence("reverse_kl").loss(residual(problem, problem.log_z + error))
    expected = problem.gradient(kl(problem.log_p, problem.log_target))
    agree(problem.gradient((problem.p * loss).sum()), expected)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("error", [-0.8, 0.6])
def test_a_wrong_constant_scales_the_gradient_of_an_alpha_divergence_and_keeps_its_direction(
    order: float, error: float
) -> None:
    """Identity 5: E_p[grad L_a(log_ratio + C)] = e^((a - 1)(C - log Z)) grad D_a(p||target)."""
    problem = choice()
    loss = divergence("alpha", order=order).loss(residual(problem, problem.log_z + error))
    expected = math.exp((order - 1) * error) * divergence_gradient(problem, alpha_f(order))
    agree(problem.gradient((problem.p * loss).sum()), expected)


def test_a_wrong_constant_turns_the_gradient_of_jensen_shannon() -> None:
    """Identity 5, the other half: only alpha-divergences keep the direction."""
    problem = choice()
    loss = divergence("jensen_shannon").loss(residual(problem, problem.log_z + 0.83))
    wrong, right = (
        problem.gradient((problem.p * loss).sum()),
        divergence_gradient(problem, GENERATORS["jensen_shannon"]),
    )
    cosine = float(wrong @ right / (wrong.norm() * right.norm()))
    assert 0.9 < cosine < 1 - 1e-4


@pytest.mark.parametrize("order", [-1.0, 0.0, 0.5, 2.0, 3.0])
def test_the_best_constant_is_log_z_minus_the_renyi_divergence(order: float) -> None:
    """Identity 6: argmin_C E_p L_a(log_ratio + C) = log Z - R_a(p||target), which is log Z where a = 0."""
    problem = choice()
    best = (problem.log_z - renyi(problem.log_p, problem.log_target, order)).detach().requires_grad_()
    loss = divergence("alpha", order=order)
    log_ratio = residual(problem, 0.0).detach()
    (slope,) = torch.autograd.grad((problem.p * loss.loss(log_ratio + best)).sum(), best)
    assert float(slope) == pytest.approx(0.0, abs=1e-12)
    with torch.no_grad():
        at_best, below, above = ((problem.p * loss.loss(log_ratio + best + e)).sum() for e in (0.0, -0.01, 0.01))
    assert float(at_best) < min(float(below), float(above))
    if order == 0:
        assert float(best.detach()) == pytest.approx(float(problem.log_z), abs=1e-12)


def test_a_batch_that_holds_the_population_gives_the_renyi_bound() -> None:
    """Identity 6 through the estimator: objects of equal probability, each drawn once."""
    problem = choice(8)
    with torch.no_grad():
        problem.logits.zero_()
    log_ratio = residual(problem, 0.0)
    for order in (-1.0, 0.0, 0.5, 2.0):
        constant = partition.deviation_constant(log_ratio, divergence("alpha", order=order))
        expected = problem.log_z - renyi(problem.log_p, problem.log_target, order)
        agree(constant, expected.detach().expand(8))


def expected_gradient(problem: Choice, size: int, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of a batch's loss of its log-ratios, averaged over every batch."""
    total = torch.zeros_like(problem.logits)
    for rows, probability in batches(problem.log_p, size):
        total += probability * problem.gradient(loss(residual(problem, 0.0)[rows]))
    return total


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", ["group_mean", "leave_one_out", "pairwise", "unbiased variance"])
def test_the_expected_batch_gradient_is_that_of_the_kl_times_a_known_factor(size: int, name: str) -> None:
    """Identity 7: half the variance with 1 / B gives (1 - 1 / B) grad KL, with 1 / (B - 1) exactly grad KL; so do the
    detached leave-one-out and pairwise constants."""
    problem = choice(3)
    half_square = divergence("reverse_kl").loss
    losses = {
        "group_mean": lambda x: half_square(x + partition.group_mean(x)).mean(),
        "leave_one_out": lambda x: half_square(x + partition.leave_one_out(x)).mean(),
        "pairwise": lambda x: half_square(x + partition.pairwise(x)).mean(),
        "unbiased variance": lambda x: x.var() / 2,
    }
    factor = 1 - 1 / size if name == "group_mean" else 1.0
    expected = factor * problem.gradient(kl(problem.log_p, problem.log_target))
    agree(expected_gradient(problem, size, losses[name]), expected)


@pytest.mark.parametrize("size", [2, 3])
def test_constants_that_are_not_detached_scale_the_expected_gradient(size: int) -> None:
    """Identity 7, what detaching decides: with their gradient left in, the leave-one-out constant gives B / (B - 1) and
    the pairwise one 2 times grad KL."""
    problem = choice(3)
    gradient = problem.gradient(kl(problem.log_p, problem.log_target))

    def leave_one_out(x: Tensor) -> Tensor:
        return ((x - (x.sum() - x) / (size - 1)) ** 2 / 2).mean()

    agree(expected_gradient(problem, size, leave_one_out), size / (size - 1) * gradient)
    agree(expected_gradient(problem, size, lambda x: ((x - x.roll(-1)) ** 2 / 2).mean()), 2 * gradient)


def test_half_the_unbiased_variance_and_rloo_agree_on_every_batch() -> None:
    """Identity 8: the gradient of the unbiased VarGrad is RLOO's, written out row by row."""
    problem = choice(4)
    for rows, _ in batches(problem.log_p, 3):
        x, log_p = residual(problem, 0.0)[rows], problem.log_p[rows]
        coefficients = [
            x[i].detach() - torch.stack([x[j].detach() for j in range(3) if j != i]).mean() for i in range(3)
        ]
        by_hand = problem.gradient(sum(c * log_p[i] for i, c in enumerate(coefficients)) / 3 + 0 * log_p.sum())
        variance = problem.gradient(residual(problem, 0.0)[rows].var() / 2)
        x = residual(problem, 0.0)[rows]
        estimated = problem.gradient(divergence("reverse_kl").loss(x + partition.leave_one_out(x)).mean())
        x, log_p = residual(problem, 0.0)[rows], problem.log_p[rows]
        coefficient = policy_gradient.reinforce_kl(x, baseline="leave_one_out")
        reinforce = problem.gradient((coefficient * log_p).mean())
        for other in (variance, estimated, reinforce):
            agree(other, by_hand)


def test_half_the_variance_is_a_quarter_of_the_mean_squared_pairwise_difference() -> None:
    """Identity 9: Var_B(X) / 2 = (1 / 4 B^2) sum_ij (X_i - X_j)^2."""
    x = residual(choice(), 0.0).detach()
    size = len(x)
    pairs = residuals.pairwise(x[:, None].expand(size, size), x.expand(size, size))
    variance = divergence("reverse_kl").loss(x + partition.group_mean(x)).mean()
    agree(variance, (pairs**2).sum() / (4 * size**2))
    agree(variance, x.var(unbiased=False) / 2)


def batch_log_ratio(problem: Choice) -> Tensor:
    return residual(problem, 0.0)[torch.tensor([0, 3, 3, 5, 1])]


def test_detaching_the_group_mean_leaves_the_gradient_alone() -> None:
    """Identity 10, for the mean: the slopes of a group sum to 0."""
    problem = choice()
    x = batch_log_ratio(problem)
    attached = problem.gradient(((x - x.mean()) ** 2 / 2).mean())
    x = batch_log_ratio(problem)
    detached = problem.gradient(divergence("reverse_kl").loss(x + partition.group_mean(x)).mean())
    assert not partition.group_mean(x).requires_grad
    agree(detached, attached)


@pytest.mark.parametrize("order", [-1.0, 0.0, 0.5, 2.0])
def test_detaching_the_deviation_constant_leaves_the_gradient_alone(order: float) -> None:
    """Identity 10, for the alpha family: the other side differentiates through the closed form."""
    problem, k = choice(), order - 1
    x = batch_log_ratio(problem)
    shifted = x - ((k * x).logsumexp(0) - math.log(len(x))) / k
    attached = problem.gradient(((k * shifted).exp() - 1 - k * shifted).mean() / k**2)
    detached = problem.gradient(partition.deviation(batch_log_ratio(problem), divergence("alpha", order=order)).mean())
    agree(detached, attached)


@pytest.mark.parametrize("name", ["jensen_shannon", "le_cam", "jeffreys", "huber"])
def test_the_gradient_of_a_deviation_is_that_of_the_minimum_over_constants(name: str) -> None:
    """Identity 10, for the rest: finite differences of min_C sum g(X + C), the constant solved anew each time."""
    x = batch_log_ratio(choice()).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(partition.deviation(x, name).sum(), x)
    step = 1e-5 * torch.eye(len(x), dtype=torch.float64)
    numeric = [
        float(partition.deviation(x.detach() + e, name).sum() - partition.deviation(x.detach() - e, name).sum()) / 2e-5
        for e in step
    ]
    torch.testing.assert_close(gradient, torch.tensor(numeric, dtype=torch.float64), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("order", [-1.0, 0.0, 0.5, 0.999, 1.0, 1.001, 2.0])
def test_the_deviation_of_the_alpha_family_is_a_softmax_and_a_jensen_gap(order: float) -> None:
    """Identity 11: the coefficients sum to 0 and are (B softmax(kX) - 1) / k, k = a - 1; the mean loss is the Jensen
    gap, which tends to half the variance as a tends to 1."""
    x = torch.tensor([0.3, -1.2, 2.0, 0.9], dtype=torch.float64, requires_grad=True)
    size, k = len(x), order - 1
    loss = partition.deviation(x, divergence("alpha", order=order))
    (coefficients,) = torch.autograd.grad(loss.sum(), x)
    assert float(coefficients.sum()) == pytest.approx(0.0, abs=1e-12)
    if k == 0:
        expected, gap = x - x.mean(), x.var(unbiased=False) / 2
    else:
        expected = (size * (k * x).softmax(0) - 1) / k
        gap = (((k * x).logsumexp(0) - math.log(size)) / k - x.mean()) / k
    torch.testing.assert_close(coefficients, expected.detach(), rtol=1e-10, atol=1e-10)
    assert loss.mean().item() == pytest.approx(gap.item(), abs=1e-9)
    if abs(k) < 0.01:
        assert loss.mean().item() == pytest.approx(x.var(unbiased=False).item() / 2, rel=2e-3)


@pytest.mark.parametrize("temper", [0.005, 0.4, 3.0])
@pytest.mark.parametrize("order", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_tempering_an_alpha_divergence_moves_its_order(order: float, temper: float) -> None:
    """Identity 12: L_a(b r) / b = b L_a'(r) with a' = 1 + b (a - 1); f goes along."""
    plain, tempered = divergence("alpha", order=order), divergence("alpha", order=order, temper=temper)
    effective = divergence("alpha", order=1 + temper * (order - 1))
    r = torch.linspace(-3, 3, 61, dtype=torch.float64)
    assert tempered.order == pytest.approx(1 + temper * (order - 1))
    assert tempered.scale == temper
    agree(tempered.loss(r), plain.loss(temper * r) / temper)
    agree(tempered.loss(r), temper * effective.loss(r))
    agree(tempered.generator(r.exp()), temper * effective.generator(r.exp()))
