"""Policy-gradient baselines: each coefficient against a gradient or an optimum computed apart, by enumeration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from equipoise.objectives import partition, policy_gradient, residuals
from equipoise.objectives.divergences import divergence
from objectives.problems import FLOAT, Choice, agree, batches, choice, kl

GROUP = torch.tensor([4, 9, 4, 9, 9, 4, 9])


def prior(problem: Choice) -> Tensor:
    return torch.linspace(-0.6, 0.8, len(problem.logits), dtype=FLOAT).log_softmax(0)


def log_ratio(problem: Choice, beta: float = 1.0) -> Tensor:
    return residuals.relative_trajectory_balance(0.0, problem.log_p, prior(problem), problem.log_reward, beta)


def kl_to_posterior(problem: Choice, beta: float = 1.0) -> Tensor:
    return kl(problem.log_p, (prior(problem) + beta * problem.log_reward).log_softmax(0))


def test_reinforce_with_the_kl_in_the_reward_has_the_residuals_of_vargrad_for_coefficients() -> None:
    x = log_ratio(choice())
    mean = policy_gradient.reinforce_kl(x, GROUP)
    agree(mean, (x + partition.group_mean(x, GROUP)).detach())
    others = policy_gradient.reinforce_kl(x, GROUP, baseline="leave_one_out")
    size = torch.where(GROUP == 4, 3.0, 4.0)
    agree(others, mean * size / (size - 1))
    assert not (mean.requires_grad or others.requires_grad)
    assert torch.equal(policy_gradient.reinforce_kl(x, baseline="none"), x.detach())


def test_the_coefficient_of_tba_is_its_published_advantage() -> None:
    """Bartoldson et al. 2025, eq. 7: (r - mean r) - beta_KL (KL - mean KL), here times -1 / beta_KL."""
    problem, weight = choice(), 0.05
    reward, kl_estimate = problem.log_reward, (problem.log_p - prior(problem)).detach()
    advantage = (reward - reward.mean()) - weight * (kl_estimate - kl_estimate.mean())
    coefficient = policy_gradient.reinforce_kl(log_ratio(problem, 1 / weight))
    agree(coefficient, -advantage / weight)


def test_the_original_baseline_has_its_optimum_at_another_target_than_rtbs() -> None:
    """Its population gradient vanishes at prior * exp(r / (2 kl_weight)), and not at prior * r, for any kl_weight."""
    problem = choice()
    reward = problem.log_reward.exp()
    for weight in (0.01, 0.3, 2.0):
        for log_target, vanishes in ((reward / (2 * weight), True), (problem.log_reward, False)):
            logits = (prior(problem) + log_target).clone().requires_grad_()
            log_p = logits.log_softmax(0)
            coefficient = policy_gradient.original(log_p, prior(problem), problem.log_reward, kl_weight=weight)
            (gradient,) = torch.autograd.grad((log_p.detach().exp() * coefficient * log_p).sum(), logits)
            assert (float(gradient.abs().max()) < 1e-10) == vanishes


def test_the_original_coefficient_is_the_gradient_of_the_published_loss() -> None:
    problem, weight = choice(), 0.3
    reward = problem.log_reward.exp()
    coefficient = policy_gradient.original(problem.log_p, prior(problem), problem.log_reward, kl_weight=weight)
    ours = problem.gradient((coefficient * problem.log_p).mean())
    published = -(reward - reward.mean()) * problem.log_p + weight * (problem.log_p - prior(problem)) ** 2
    agree(ours, problem.gradient(published.mean()))


@pytest.mark.parametrize("baseline", ["none", "mean", "leave_one_out"])
def test_off_policy_weights_recover_the_gradient_of_the_kl(baseline: str) -> None:
    """A batch that repeats each object in proportion to another policy; whole-trajectory weights, steps = 1."""
    problem = choice()
    rows = torch.arange(7).repeat_interleave(torch.tensor([3, 1, 2, 5, 1, 1, 4]))
    log_behaviour = torch.tensor([3, 1, 2, 5, 1, 1, 4], dtype=FLOAT).div(17).log()[rows]
    x, log_pf = log_ratio(problem)[rows], problem.log_p[rows]
    coefficient = policy_gradient.off_policy(x, log_pf, log_behaviour, baseline=baseline)
    gradient = problem.gradient((coefficient * log_pf).mean())
    expected = problem.gradient(kl_to_posterior(problem))
    if baseline == "leave_one_out":  # twice a row's own weight, less what it says of itself: proportional on average
        expected = expected * 17 / 16
    agree(gradient, expected)


def test_weights_per_step_are_those_of_the_geometric_mean_and_fade_with_length() -> None:
    log_pf = torch.tensor([-1.0, -2.0, -7.0], dtype=FLOAT)
    log_behaviour = torch.tensor([-2.0, -2.5, -3.0], dtype=FLOAT)
    weights = policy_gradient.self_normalised_weights(log_pf, log_behaviour, steps=4.0)
    ratio = (log_pf - log_behaviour).exp() ** 0.25
    agree(weights, ratio / ratio.sum())
    each = policy_gradient.self_normalised_weights(log_pf, log_behaviour, steps=torch.tensor([1.0, 2.0, 4.0]))
    ratio = (log_pf - log_behaviour).exp() ** torch.tensor([1.0, 0.5, 0.25], dtype=FLOAT)
    agree(each, ratio / ratio.sum())
    flat = policy_gradient.self_normalised_weights(log_pf, log_behaviour, steps=1e9)
    torch.testing.assert_close(flat, torch.full_like(flat, 1 / 3), rtol=1e-6, atol=0)


def expected_gradient(problem: Choice, size: int, coefficient: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of mean(coefficient * log_pf), averaged over every batch."""
    total = torch.zeros_like(problem.logits)
    for rows, probability in batches(problem.log_p, size):
        total += probability * problem.gradient((coefficient(problem.log_reward[rows]) * problem.log_p[rows]).mean())
    return total


@pytest.mark.parametrize(("name", "factor"), [("rloo", 1.0), ("dr_grpo", 1 - 1 / 3)])
def test_group_baselines_descend_the_mean_score_up_to_a_known_factor(name: str, factor: float) -> None:
    """Over all batches of three: RLOO is unbiased, Dr. GRPO short by 1 / B."""
    problem = choice(4)
    gradient = expected_gradient(problem, 3, getattr(policy_gradient, name))
    expected = -factor * problem.gradient((problem.log_p.exp() * problem.log_reward).sum())
    agree(gradient, expected)


def test_grpo_standardises_each_group_and_does_not_see_its_units() -> None:
    score = choice().log_reward
    coefficient = policy_gradient.grpo(score, GROUP, epsilon=1e-12)
    for name in (4, 9):
        rows = name == GROUP
        assert float(coefficient[rows].mean()) == pytest.approx(0.0, abs=1e-12)
        assert float(coefficient[rows].std()) == pytest.approx(1.0, abs=1e-10)
        assert int(coefficient[rows].argmin()) == int(score[rows].argmax())
    torch.testing.assert_close(policy_gradient.grpo(5 * score - 3, GROUP, epsilon=1e-12), coefficient)
    centred = policy_gradient.dr_grpo(score, GROUP)
    spread = torch.where(GROUP == 4, score[GROUP == 4].std(), score[GROUP == 9].std())
    torch.testing.assert_close(coefficient, centred / spread, rtol=1e-9, atol=1e-12)
    assert policy_gradient.grpo(torch.ones(4)).tolist() == [0.0] * 4


def steps() -> tuple[Tensor, Tensor, Tensor]:
    noise = torch.Generator().manual_seed(1)
    log_pf, moved = torch.randn(2, 6, 5, generator=noise, dtype=FLOAT)
    return torch.randn(6, generator=noise, dtype=FLOAT), (log_pf - 2).requires_grad_(), log_pf - 2 + 0.4 * moved


@pytest.mark.parametrize(("low", "high"), [(0.2, None), (0.1, 0.4)])
def test_the_clipped_coefficient_is_the_gradient_of_ppos_surrogate(low: float, high: float | None) -> None:
    """min(rho A, clamp(rho) A) maximised, with A = -coefficient, by autograd."""
    coefficient, log_pf, log_behaviour = steps()
    ratio, advantage = (log_pf - log_behaviour).exp(), -coefficient[:, None]
    clipped = ratio.clamp(1 - low, 1 + (low if high is None else high))
    surrogate = torch.minimum(ratio * advantage, clipped * advantage)
    (expected,) = torch.autograd.grad(-surrogate.sum(), log_pf)
    ours = policy_gradient.ppo_clip(coefficient, log_pf, log_behaviour, clip=low, clip_high=high)
    agree(ours, expected)
    assert bool((ours == 0).any()) and bool((ours != 0).any()) and not ours.requires_grad


def test_cispo_is_the_truncated_weight_times_the_coefficient_and_silences_no_step() -> None:
    coefficient, log_pf, log_behaviour = steps()
    weight = (log_pf - log_behaviour).exp().clamp(max=1.1).detach()
    (expected,) = torch.autograd.grad((weight * coefficient[:, None] * log_pf).sum(), log_pf)
    ours = policy_gradient.cispo(coefficient, log_pf, log_behaviour, ceiling=1.1)
    agree(ours, expected)
    assert bool((ours != 0).all()) and not ours.requires_grad


def test_on_policy_clipped_and_truncated_coefficients_are_the_plain_ones() -> None:
    coefficient, log_pf, _ = steps()
    plain = coefficient[:, None].expand(6, 5)
    for function in (policy_gradient.ppo_clip, policy_gradient.cispo):
        agree(function(coefficient, log_pf, log_pf), plain)
        agree(function(plain, log_pf, log_pf), plain)


@dataclass(frozen=True)
class TwoSteps:
    """Two choices in a row, of two and three actions, and a prior over them. Rows are the six trajectories."""

    root: Tensor  # logits, (2,)
    leaves: Tensor  # logits after either first action, (2, 3)
    prior_root: Tensor  # log-probabilities
    prior_leaves: Tensor

    def along(self, first: Tensor, second: Tensor) -> Tensor:
        """What a table of first and one of second actions say of each step, (6, 2)."""
        return torch.stack([torch.stack([first[a], second[a, b]]) for a in range(2) for b in range(3)])

    @property
    def log_pf(self) -> Tensor:
        return self.along(self.root.log_softmax(0), self.leaves.log_softmax(1))

    @property
    def log_prior(self) -> Tensor:
        return self.along(self.prior_root, self.prior_leaves)

    @property
    def kl_prior(self) -> Tensor:
        """The KL of each step's choice to the prior's, in closed form."""
        log_leaves = self.leaves.log_softmax(1)
        second = (log_leaves.exp() * (log_leaves - self.prior_leaves)).sum(1)
        return self.along(kl(self.root.log_softmax(0), self.prior_root).expand(2), second[:, None].expand(2, 3))

    def gradients(self, value: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(value, (self.root, self.leaves))


def two_steps() -> TwoSteps:
    noise = torch.Generator().manual_seed(7)
    roots, leaves = torch.randn(2, 2, generator=noise, dtype=FLOAT), torch.randn(2, 2, 3, generator=noise, dtype=FLOAT)
    return TwoSteps(
        roots[0].requires_grad_(), leaves[0].requires_grad_(), roots[1].log_softmax(0), leaves[1].log_softmax(1)
    )


TARGET = torch.tensor([1.0, -0.5, 0.3, 2.0, -1.0, 0.0], dtype=FLOAT)


@pytest.mark.parametrize("baseline", ["none", "mean"])
def test_closed_form_kls_with_the_kl_to_go_have_the_gradient_of_the_trajectory_kl(baseline: str) -> None:
    """E_p[grad dpok] = grad KL(p||prior e^target / Z) over whole trajectories, step KLs never mentioned there."""
    problem = two_steps()
    p = problem.log_pf.sum(1).exp().detach()
    loss = (p * policy_gradient.dpok(problem.log_pf, problem.kl_prior, TARGET, baseline=baseline)).sum()
    log_posterior = (problem.log_prior.sum(1) + TARGET).log_softmax(0)
    expected = problem.gradients(kl(problem.log_pf.sum(1), log_posterior))
    for gradient, other in zip(problem.gradients(loss), expected, strict=True):
        agree(gradient, other)


def test_without_the_kl_to_go_the_optimum_is_not_the_posterior() -> None:
    """At prior e^target / Z, by backward induction, the gradient of dpok vanishes; with each step's own KL alone it
    does not."""
    problem = two_steps()
    tilted = problem.prior_leaves + TARGET.view(2, 3)
    best = replace(
        problem,
        root=(problem.prior_root + tilted.logsumexp(1)).requires_grad_(),
        leaves=tilted.clone().requires_grad_(),
    )
    p = best.log_pf.sum(1).exp().detach()
    exact = best.gradients((p * policy_gradient.dpok(best.log_pf, best.kl_prior, TARGET)).sum())
    alone = best.gradients((p * (best.kl_prior.sum(1) - TARGET * best.log_pf.sum(1))).sum())
    assert max(float(gradient.abs().max()) for gradient in exact) < 1e-12
    assert float(alone[0].abs().max()) > 0.01


def test_mirror_descent_has_the_gradient_of_the_kl_to_the_next_iterate_on_policy() -> None:
    """The iterate times e^target / Z, though the constant is the mean target and not log Z."""
    problem = choice()
    iterate = prior(problem)
    residual = policy_gradient.mirror_descent(problem.log_p, iterate, problem.log_reward)
    gradient = problem.gradient((problem.p * divergence("reverse_kl").loss(residual)).sum())
    agree(gradient, problem.gradient(kl_to_posterior(problem)))


def test_mirror_descent_at_the_next_iterate_leaves_the_error_of_its_constant() -> None:
    """There every residual is mean target - log Z, what an estimate by the group mean would have taken away."""
    problem = choice()
    iterate = prior(problem)
    tilted = iterate + problem.log_reward
    log_z = tilted.logsumexp(0)
    residual = policy_gradient.mirror_descent(tilted - log_z, iterate, problem.log_reward)
    agree(residual, (problem.log_reward.mean() - log_z).expand(7))
    kimi = residuals.relative_trajectory_balance(
        partition.mean_reward(problem.log_reward), tilted - log_z, iterate, problem.log_reward, 1.0
    )
    agree(residual, kimi)


def test_k3_is_finite_where_the_model_has_left_the_prior() -> None:
    log_pf = torch.tensor([-900.0, -10.0], requires_grad=True)
    value = policy_gradient.k3(log_pf, torch.zeros(2))
    value.sum().backward()
    assert bool(value.isfinite().all())
    assert log_pf.grad is not None and bool((log_pf.grad < 0).all()) and bool(log_pf.grad.isfinite().all())


ROW, STEP = torch.zeros(2), torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: policy_gradient.reinforce_kl(ROW, baseline="men"), "unknown baseline 'men': did you mean 'mean'"),
        (lambda: policy_gradient.reinforce_kl(STEP), r"log_ratio has shape \(2, 3\)"),
        (lambda: policy_gradient.reinforce_kl(ROW, torch.tensor([0, 1])), "group 0 has one trajectory"),
        (lambda: policy_gradient.original(ROW, ROW, ROW, kl_weight=0.0), "kl_weight is 0.0"),
        (lambda: policy_gradient.original(ROW, STEP, ROW, kl_weight=1.0), r"log_prior has shape \(2, 3\)"),
        (lambda: policy_gradient.self_normalised_weights(ROW, ROW, steps=0.0), "steps is 0.0"),
        (lambda: policy_gradient.off_policy(ROW, STEP, STEP), r"log_pf has shape \(2, 3\); expected \(2,\)"),
        (lambda: policy_gradient.grpo(ROW, epsilon=0.0), "epsilon is 0.0"),
        (lambda: policy_gradient.rloo(ROW[:1]), "group 0 has one trajectory"),
        (lambda: policy_gradient.ppo_clip(ROW, STEP, STEP, clip=1.0), "clip is 1.0; expected less than 1"),
        (lambda: policy_gradient.ppo_clip(ROW, STEP, STEP, clip=-0.1), "clip is -0.1; expected a positive"),
        (lambda: policy_gradient.ppo_clip(ROW[:1], STEP, STEP), r"coefficient has shape \(1,\); expected \(2, 3\)"),
        (lambda: policy_gradient.cispo(ROW, STEP, STEP, ceiling=0.0), "ceiling is 0.0"),
        (lambda: policy_gradient.dpok(STEP, STEP, STEP), r"target has shape \(2, 3\); expected \(2,\)"),
        (lambda: policy_gradient.mirror_descent(ROW, ROW, STEP), r"target has shape \(2, 3\)"),
        (lambda: policy_gradient.k1(ROW, STEP), r"log_prior has shape \(2, 3\)"),
    ],
)
def test_misuse_is_an_error_that_names_what_was_given(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
