"""Theorems on paths of a diffusion: Trust-PCL is RTB times alpha^2; a conditional log Z has its closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diffusion.small import FLOAT, gaussian_steps, gradient_of, tuned
from equipoise.contracts import Behaviour
from equipoise.diffusion.processes import brownian
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.objectives.divergences import divergence
from equipoise.objectives.partition import Conditional, Learned
from equipoise.sampling.rollouts import Rollouts
from equipoise.training.balance import RESIDUALS, balance, consistency
from equipoise.training.loop import Loop, Run
from equipoise.training.terms import Loss, Term
from equipoise.trajectories import Columns, Trajectories

ALPHA, LOG_Z = 0.4, 1.3


def rewarded(noise: float, n: int = 30) -> tuple[DiffusionSampler, Trajectories]:
    """A tuned sampler, and paths of it, drawn with more noise than it has, with a log-reward."""
    sampler = tuned()
    drawn = sampler.sample(n, behaviour=Behaviour(noise=noise), generator=torch.Generator().manual_seed(0))
    return sampler, replace(drawn, log_reward=torch.linspace(-3.0, 4.0, n))


def loss_of(term: Term, drawn: Trajectories) -> Loss:
    return term.loss(drawn, term.sampler.score(drawn, term.needs & term.sampler.offers), 0)


def rtb(sampler: DiffusionSampler, log_z: nn.Module, name: str = "reverse_kl") -> Term:
    chosen = divergence(name)
    return balance("rtb", "", sampler, RESIDUALS["relative"], chosen, log_z, beta=lambda step, trajectories: 1 / ALPHA)


def trust_pcl(sampler: DiffusionSampler, v_soft: nn.Module) -> Term:
    return balance("trust_pcl", "", sampler, consistency(ALPHA), divergence("reverse_kl"), v_soft)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_trust_pcls_loss_is_alpha_squared_rtbs_on_every_path(noise: float) -> None:
    """Both terms as runs have them, and RTB's loss a third time from densities of torch.distributions in float64."""
    sampler, drawn = rewarded(noise)
    assert sampler.prior is not None and drawn.log_reward is not None
    ours, theirs = Learned(LOG_Z), Learned(ALPHA * LOG_Z)
    residual, soft = loss_of(rtb(sampler, ours), drawn).residual, loss_of(trust_pcl(sampler, theirs), drawn).residual
    assert residual is not None and soft is not None
    naive = gaussian_steps(sampler, drawn).sum(1) - gaussian_steps(sampler.prior, drawn).sum(1)
    naive = 0.5 * (LOG_Z + naive - drawn.log_reward.double() / ALPHA).square()
    assert torch.allclose(0.5 * residual.double().square(), naive, rtol=1e-4, atol=1e-4)
    assert torch.allclose(0.5 * soft.double().square(), ALPHA**2 * naive, rtol=1e-4, atol=1e-4)
    assert (naive.max() > 10 * naive.min()).item()


def test_trust_pcls_gradient_is_alpha_squared_rtbs_in_the_policy_and_alpha_times_in_v() -> None:
    sampler, drawn = rewarded(0.5)
    ours, theirs = Learned(LOG_Z), Learned(ALPHA * LOG_Z)
    first, second = loss_of(rtb(sampler, ours), drawn), loss_of(trust_pcl(sampler, theirs), drawn)
    policy = gradient_of(first.value, sampler.network)
    assert policy.norm() > 1
    assert torch.allclose(gradient_of(second.value, sampler.network), ALPHA**2 * policy, rtol=1e-4, atol=1e-4)
    of_log_z, of_v = gradient_of(first.value, ours), gradient_of(second.value, theirs)
    assert torch.allclose(of_v, ALPHA * of_log_z, rtol=1e-5)
    assert torch.allclose(second.metrics["log_z"], first.metrics["log_z"])  # V in the unit of log Z


def test_rtb_against_the_densities_has_their_gradient_too() -> None:
    """Autograd through naive float64 densities, whatever the divergence."""
    sampler, drawn = rewarded(0.3)
    assert sampler.prior is not None and drawn.log_reward is not None
    for name in ("reverse_kl", "jensen_shannon"):
        value = loss_of(rtb(sampler, Learned(LOG_Z), name), drawn).value
        naive = gaussian_steps(sampler, drawn).sum(1) - gaussian_steps(sampler.prior, drawn).sum(1).detach()
        expected = divergence(name).loss(LOG_Z + naive - drawn.log_reward.double() / ALPHA).mean()
        found, wanted = (gradient_of(one, sampler.network) for one in (value, expected))
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


class OfCondition(nn.Module):
    """A drift that is linear in the condition and does not see the state."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, state: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        assert condition is not None
        return self.linear(condition)


def squares(trajectories: Trajectories) -> Tensor:
    """c_1^2, c_2^2 and c_1 c_2 of a context."""
    assert isinstance(trajectories.context, Tensor)
    context = trajectories.context
    return torch.stack([context[:, 0] ** 2, context[:, 1] ** 2, context[:, 0] * context[:, 1]], 1)


VARIANCE = 1.5


def tilted() -> tuple[DiffusionSampler, Conditional, Rollouts]:
    """Prior N(0, 1.5 I) of 5 steps and reward exp(c . x): log Z(c) = 0.75 |c|^2, and the best drift is 1.5 c."""
    process = brownian(5, VARIANCE)

    def condition(context: Columns) -> Tensor:
        assert isinstance(context, Tensor)
        return context

    def reward(objects: Columns, context: Columns) -> Tensor:
        assert isinstance(objects, Tensor) and isinstance(context, Tensor)
        return (objects * context).sum(1)

    def conditions(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.rand(n, 2, generator=generator) * 2 - 1, torch.arange(n)

    prior = DiffusionSampler(process, OfCondition(), (2,), condition=condition).frozen()
    sampler = DiffusionSampler(process, OfCondition(), (2,), prior=prior, condition=condition)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        log_z = Conditional(squares, nn.Linear(3, 1))
    behaviour = Behaviour(noise=0.3)
    return sampler, log_z, Rollouts(sampler, reward, conditions=conditions, behaviour=lambda version: behaviour)


def linear_of(module: nn.Module) -> nn.Linear:
    found = next(part for part in module.modules() if isinstance(part, nn.Linear))
    return found


def conditional_term(sampler: DiffusionSampler, log_z: Conditional) -> Term:
    return balance("rtb", "rollouts", sampler, RESIDUALS["relative"], divergence("reverse_kl"), log_z)


def test_at_the_closed_form_of_a_conditional_log_z_every_residual_is_0() -> None:
    sampler, log_z, rollouts = tilted()
    with torch.no_grad():
        linear_of(sampler.network).weight.copy_(VARIANCE * torch.eye(2))
        linear_of(log_z).weight.copy_(torch.tensor([[VARIANCE / 2, VARIANCE / 2, 0.0]]))
        linear_of(log_z).bias.zero_()
    drawn = rollouts.draw(50, torch.Generator().manual_seed(0))
    residual = loss_of(conditional_term(sampler, log_z), drawn).residual
    assert residual is not None and residual.abs().max() < 1e-5
    assert isinstance(drawn.context, Tensor)
    other = loss_of(conditional_term(sampler, log_z), replace(drawn, context=-drawn.context)).residual
    assert other is not None and other.abs().max() > 0.1


def test_a_conditional_log_z_is_learned_to_its_closed_form() -> None:
    """Off-policy, with noise in every step: here the model can be exactly the target, so that nothing is biased."""
    sampler, log_z, rollouts = tilted()
    run = Run(
        modules={"policy": sampler.network, "log_z": log_z},
        learning_rate={"policy": lambda step: 0.05, "log_z": lambda step: 0.05},
        terms=(conditional_term(sampler, log_z),),
        sources={"rollouts": rollouts},
        batch={"rollouts": 64},
        steps=250,
        seed=0,
    )
    loop = Loop(run)
    for _ in range(250):
        loop.advance()
    assert torch.allclose(linear_of(sampler.network).weight, VARIANCE * torch.eye(2), atol=0.02)
    contexts = torch.cartesian_prod(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 5))
    drawn = sampler.sample(25, context=contexts, generator=torch.Generator().manual_seed(1))
    found = log_z(torch.zeros(25), torch.zeros(25), drawn)
    assert torch.allclose(found.to(FLOAT), VARIANCE / 2 * contexts.to(FLOAT).square().sum(1), atol=0.02)
