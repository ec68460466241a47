"""Identities 24 to 31 of the algebra: backward policies, Gaussian chains, bounds, temperatures, references, signs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from equipoise.objectives import partition, residuals
from equipoise.objectives.divergences import Divergence, divergence
from objectives.problems import FLOAT, agree, choice, every_loss, grid, kl, label

# h with h'(v) = f'(1) - f'(1 / v), integrated by hand from f' of each divergence.
BACKWARD_GENERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "reverse_kl": lambda v: v * v.log(),
    "forward_kl": lambda v: (v - 1) ** 2 / 2,
    "hellinger": lambda v: 4 * v**1.5 / 3 - 2 * v,
    "pearson": lambda v: -v.log(),
    "jeffreys": lambda v: v * v.log() + (v - 1) ** 2 / 2,
}


@pytest.mark.parametrize("name", BACKWARD_GENERATORS)
def test_on_backward_samples_the_backward_policy_follows_a_divergence_of_its_own(name: str) -> None:
    """Identity 24: E_{P_B}[grad_B g(residual)] = grad D_h(P_B||P_F) over trajectories, h'(v) = f'(1) - f'(1 / v)."""
    graph = grid()
    log_z = graph.log_reward.logsumexp(0)
    log_pf = graph.log_pf.sum(1).detach()
    log_target = graph.log_pb.sum(1) + graph.target - log_z  # P_B and its objects: sums to 1 over trajectories
    assert float(log_target.detach().exp().sum()) == pytest.approx(1.0, abs=1e-12)
    residual = residuals.trajectory_balance(log_z, log_pf, graph.log_pb.sum(1), graph.target)
    sampled = (log_target.detach().exp() * divergence(name).loss(residual)).sum()
    expected = (log_pf.exp() * BACKWARD_GENERATORS[name](log_target.exp() / log_pf.exp())).sum()
    gradients = [torch.autograd.grad(value, graph.backward_logits)[0] for value in (sampled, expected)]
    assert float(gradients[0].abs().max()) > 1e-3
    agree(gradients[0], gradients[1])


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jensen_shannon"])
def test_on_forward_samples_the_backward_policy_follows_the_expected_loss(name: str) -> None:
    """Identity 24, the other samples: -E_{P_F}[psi(residual) grad log P_B] is the gradient of E_{P_F}[g], here by
    finite differences of the sum."""
    graph = grid()
    log_pf, log_z = graph.log_pf.sum(1).detach(), graph.log_reward.logsumexp(0)

    def residual() -> Tensor:
        return residuals.trajectory_balance(log_z, log_pf, graph.log_pb.sum(1), graph.target)

    def expected_loss() -> Tensor:
        return (log_pf.exp() * divergence(name).loss(residual())).sum()

    coefficient = -log_pf.exp() * divergence(name).slope(residual()).detach()
    (gradient,) = torch.autograd.grad((coefficient * graph.log_pb.sum(1)).sum(), graph.backward_logits)
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(1), dtype=FLOAT)
    with torch.no_grad():
        graph.backward_logits.add_(1e-5 * direction)
        above = expected_loss()
        graph.backward_logits.sub_(2e-5 * direction)
        below = expected_loss()
    assert float((gradient * direction).sum()) == pytest.approx(float(above - below) / 2e-5, rel=1e-7)


STEPS, DIMENSION, SIGMA, DT = 4, 2, 0.7, 0.25


def drifts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Paths of a diffusion, a parameter, and along them the drift that it gives and that of a prior."""
    noise = torch.Generator().manual_seed(3)
    path = torch.randn(5, STEPS + 1, DIMENSION, generator=noise, dtype=FLOAT).cumsum(1)
    weight = torch.randn(DIMENSION, DIMENSION, generator=noise, dtype=FLOAT).requires_grad_()
    return path, weight, torch.tanh(path[:, :-1] @ weight), -path[:, :-1]


def gaussian_steps(path: Tensor, drift: Tensor) -> Tensor:
    """log N(x'; x + u dt, sigma^2 dt) of each step, (batch, steps)."""
    step = torch.distributions.Normal(path[:, :-1] + drift * DT, SIGMA * DT**0.5)
    return step.log_prob(path[:, 1:]).sum(2)


def girsanov_steps(path: Tensor, drift: Tensor, prior: Tensor) -> Tensor:
    """(u - v) . (x' - x - (u + v) dt / 2) / sigma^2 of each step."""
    moved = path.diff(dim=1) - (drift + prior) * DT / 2
    return ((drift - prior) * moved).sum(2) / SIGMA**2


def test_the_log_ratio_of_two_gaussian_chains_is_girsanovs() -> None:
    """Identity 25: with equal sigma, log p - log prior in closed form, so that log_prior may be taken as 0."""
    path, _, drift, prior = drifts()
    log_reward, log_z = path[:, -1].sum(1), torch.tensor(0.2, dtype=FLOAT)
    naive = residuals.relative_trajectory_balance(
        log_z, gaussian_steps(path, drift).sum(1), gaussian_steps(path, prior).sum(1), log_reward, 1.5
    )
    closed = girsanov_steps(path, drift, prior).sum(1)
    ours = residuals.relative_trajectory_balance(log_z, closed, torch.zeros_like(closed), log_reward, 1.5)
    agree(ours, naive)


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jensen_shannon"])
def test_gradients_through_a_few_steps_are_unbiased_only_if_the_residual_has_them_all(name: str) -> None:
    """Identity 25, subsampling: the mean over all sets of k of T steps, exact with the full detached residual and
    factor T / k on the gradient, biased where the residual itself comes from the subset."""
    path, weight, drift, prior = drifts()
    steps, k = girsanov_steps(path, drift, prior), 2
    rest = -path[:, -1].sum(1)

    def gradient(log_ratio: Tensor) -> Tensor:
        loss = divergence(name).loss(log_ratio + rest + 0.3).mean()
        return torch.autograd.grad(loss, weight, retain_graph=True)[0]

    subsets = [torch.tensor(rows) for rows in itertools.combinations(range(STEPS), k)]
    chosen = [steps[:, rows].sum(1) * STEPS / k for rows in subsets]
    exact = torch.stack([gradient(steps.detach().sum(1) + part - part.detach()) for part in chosen]).mean(0)
    biased = torch.stack([gradient(part) for part in chosen]).mean(0)
    full = gradient(steps.sum(1))
    agree(exact, full)
    assert float((biased - full).norm() / full.norm()) > 0.01


def test_the_bounds_on_log_z_differ_by_the_jeffreys_divergence() -> None:
    """Identity 26: ELBO = log Z - KL(p||target), EUBO = log Z + KL(target||p), their gap Jeffreys'."""
    problem = choice()
    log_p, target = problem.log_p.detach(), problem.log_target.exp()
    log_ratio = residuals.trajectory_balance(0.0, log_p, torch.zeros_like(log_p), problem.log_reward)
    elbo, eubo = -(log_p.exp() * log_ratio).sum(), -(target * log_ratio).sum()
    agree(elbo, problem.log_z - kl(log_p, problem.log_target))
    agree(eubo, problem.log_z + kl(problem.log_target, log_p))
    jeffreys = (target * divergence("jeffreys").generator(log_p.exp() / target)).sum()
    agree(eubo - elbo, jeffreys)


def test_the_effective_sample_size_is_a_chi_square_divergence() -> None:
    """Identity 26: ESS / B -> 1 / (1 + chi^2(target||p)), exactly so for a batch that repeats each object in
    proportion to p."""
    counts = torch.tensor([1, 2, 3, 4])
    p = counts / counts.sum().double()
    log_reward = torch.tensor([0.5, -1.0, 0.2, 0.9], dtype=FLOAT)
    target = log_reward.softmax(0)
    log_ratio = residuals.trajectory_balance(0.0, p.log(), torch.zeros_like(p), log_reward)
    weights = (-log_ratio).exp().repeat_interleave(counts)
    size = weights.sum() ** 2 / (weights**2).sum() / len(weights)
    chi_square = 2 * (target * divergence("neyman").generator(p / target)).sum()
    agree(size, 1 / (1 + chi_square))
    agree(chi_square, ((target - p) ** 2 / p).sum())


def test_losses_add_up_as_their_divergences_do_and_linex_is_the_alpha_family() -> None:
    """Identity 27: cosh = L_2 + L_0, Jeffreys = L_1 + L_0, Linex_a(r) = L_{1+a}(r), Linex_a(-r) = L_{1-a}(r)."""
    r = torch.linspace(-4, 4, 81, dtype=FLOAT)
    order = {a: divergence("alpha", order=a).loss(r) for a in (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)}
    agree(divergence("shifted_cosh").loss(r), order[2.0] + order[0.0])
    agree(divergence("shifted_cosh").loss(r), 2 * r.cosh() - 2)
    agree(divergence("jeffreys").loss(r), order[1.0] + order[0.0])
    for a in (0.5, 1.0, 2.0):
        linex, mirrored = (((a * s * r).exp() - a * s * r - 1) / a**2 for s in (1, -1))
        agree(linex, order[1 + a])
        agree(mirrored, order[1 - a])


def test_an_exponent_of_the_reward_is_a_power_of_it() -> None:
    """Identity 28: RTB(beta, r) = RTB(1, r^beta); r -> c r shifts the constant by beta log c."""
    problem = choice()
    reward = problem.log_reward.exp()
    prior = torch.linspace(-1, 1, len(reward), dtype=FLOAT).log_softmax(0)
    rtb = residuals.relative_trajectory_balance
    once = rtb(0.4, problem.log_p, prior, reward.log(), 2.5)
    agree(once, rtb(0.4, problem.log_p, prior, (reward**2.5).log(), 1.0))
    scaled = rtb(0.4 + 2.5 * torch.tensor(3.0, dtype=FLOAT).log(), problem.log_p, prior, (3.0 * reward).log(), 2.5)
    agree(once, scaled)


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jensen_shannon", "total_variation"])
def test_a_factor_on_the_reward_changes_no_gradient_under_the_deviation_constant(name: str) -> None:
    """Identity 28, the gradient: the batch's own constant takes up any shift of log r."""
    problem = choice()
    prior = torch.zeros(len(problem.logits), dtype=FLOAT)
    gradients = []
    for shift in (0.0, 11.0):
        target = problem.log_reward + shift
        log_ratio = residuals.relative_trajectory_balance(0.0, problem.log_p, prior, target, 0.5)
        gradients.append(problem.gradient(partition.deviation(log_ratio, name).sum()))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-10)


def test_rtb_against_a_balanced_prior_is_tb_with_the_noising_policy() -> None:
    """Identity 29: a chain that noises data by q, x_t = a x_{t+1} + noise; the prior is its exact reversal, by
    conditioning Gaussians, so TB(q, q1) holds for it, and RTB = TB with backward policy q and reward q1 r^beta."""
    a, variance, steps, beta = 0.8, 0.3, 3, 1.7
    normal = torch.distributions.Normal
    data = normal(torch.tensor(0.6, dtype=FLOAT), torch.tensor(1.2, dtype=FLOAT))
    means, variances = [data.mean], [data.variance]
    for _ in range(steps):
        means.insert(0, a * means[0])
        variances.insert(0, a * a * variances[0] + variance)
    path = torch.randn(6, steps + 1, generator=torch.Generator().manual_seed(5), dtype=FLOAT)
    log_q = normal(a * path[:, 1:], variance**0.5).log_prob(path[:, :-1]).sum(1)
    log_prior = normal(means[0], variances[0].sqrt()).log_prob(path[:, 0])
    for t in range(steps):
        gain = a * variances[t + 1] / variances[t]
        conditional = normal(
            means[t + 1] + gain * (path[:, t] - means[t]), (variances[t + 1] - gain * a * variances[t + 1]).sqrt()
        )
        log_prior = log_prior + conditional.log_prob(path[:, t + 1])
    balanced = residuals.trajectory_balance(0.0, log_prior, log_q, data.log_prob(path[:, -1]))
    torch.testing.assert_close(balanced, torch.zeros(6, dtype=FLOAT), atol=1e-12, rtol=0)
    log_reward = -(path[:, -1] ** 2)
    log_pf = normal(torch.tanh(path[:, :-1]), 0.9).log_prob(path[:, 1:]).sum(1)
    rtb = residuals.relative_trajectory_balance(0.7, log_pf, log_prior, log_reward, beta)
    tb = residuals.trajectory_balance(0.7, log_pf, log_q, data.log_prob(path[:, -1]) + beta * log_reward)
    agree(rtb, tb)


@pytest.mark.parametrize("loss", [loss for loss, _ in every_loss()], ids=label)
def test_at_the_target_every_sample_has_gradient_zero(loss: Divergence) -> None:
    """Identity 30: with p = target and the exact log Z no sample has a gradient: nothing is left of the variance.
    Residuals are 0 to the last digit only up to rounding, which total variation's sign would show."""
    problem = choice()
    logits = problem.log_reward.clone().requires_grad_()
    residual = residuals.trajectory_balance(
        problem.log_z, logits.log_softmax(0), torch.zeros_like(logits), problem.log_reward
    )
    residual = torch.where(residual.abs() < 1e-14, 0.0 * residual, residual)
    for row in range(len(logits)):
        (gradient,) = torch.autograd.grad(loss.loss(residual)[row], logits, retain_graph=True)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-12, rtol=0)


def test_the_mean_residual_on_policy_is_a_kl() -> None:
    """Identity 31: E_p[residual] = KL(p||target) >= 0 with the exact log Z, the test of the residual's sign."""
    problem = choice(seed=4)
    residual = residuals.trajectory_balance(
        problem.log_z, problem.log_p, torch.zeros_like(problem.logits), problem.log_reward
    )
    mean = (problem.p * residual).sum()
    agree(mean, kl(problem.log_p, problem.log_target))
    assert float(mean.detach()) > 0.01
