"""Policy-gradient terms beside balance terms: where their gradients are the same, what they need, how runs resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffusion.small import gaussian_steps, gradient_of, network_of, tuned
from equipoise.contracts import Behaviour, Source
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.discrete.environments.hypergrid import Hypergrid
from equipoise.discrete.policies.mlp import MLP, Uniform
from equipoise.discrete.sampler import DiscreteSampler
from equipoise.objectives import partition
from equipoise.objectives.divergences import divergence
from equipoise.sampling.given import Data, Repeat
from equipoise.sampling.rollouts import Rollouts
from equipoise.training import policy_gradient as terms
from equipoise.training.balance import RESIDUALS, balance
from equipoise.training.loop import Loop, Run
from equipoise.training.terms import Loss, Term
from equipoise.trajectories import Columns, Trajectories, from_bytes, to_bytes

ALPHA = 0.5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def beta(step: int, trajectories: Trajectories) -> float:
    return 1 / ALPHA


def drawn_of(sampler: DiffusionSampler, noise: float = 0.0, n: int = 12) -> Trajectories:
    drawn = sampler.sample(n, behaviour=Behaviour(noise=noise), generator=generator())
    return replace(drawn, log_reward=torch.linspace(-1.0, 2.0, n), group=torch.arange(n) % 2)


def loss_of(term: Term, drawn: Trajectories) -> Loss:
    return term.loss(drawn, term.sampler.score(drawn, term.needs & term.sampler.offers, generator=generator()), 0)


def gradient(term: Term, drawn: Trajectories, sampler: DiffusionSampler) -> Tensor:
    return gradient_of(loss_of(term, drawn).value, sampler.network)


def policy_gradient(sampler: DiffusionSampler, coefficient: terms.Coefficient) -> Term:
    return terms.policy_gradient("rl", "", sampler, coefficient, beta=beta)


def vargrad(sampler: DiffusionSampler) -> Term:
    estimator = partition.estimator("group_mean", divergence("reverse_kl"))
    return balance("rtb", "", sampler, RESIDUALS["relative"], divergence("reverse_kl"), estimator, beta=beta)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_reinforce_with_the_mean_as_its_baseline_is_vargrad_on_every_batch(noise: float) -> None:
    sampler = tuned()
    drawn = drawn_of(sampler, noise)
    ours, theirs = policy_gradient(sampler, terms.reinforce()), vargrad(sampler)
    expected = gradient(theirs, drawn, sampler)
    assert expected.norm() > 0.1
    assert torch.allclose(gradient(ours, drawn, sampler), expected, rtol=1e-4, atol=1e-6)
    one, other = loss_of(ours, drawn), loss_of(theirs, drawn)
    assert one.residual is not None and other.residual is not None
    assert torch.allclose(one.residual, other.residual, atol=1e-5)
    sizes = gradient(policy_gradient(sampler, terms.reinforce(baseline="leave_one_out")), drawn, sampler)
    assert torch.allclose(sizes, expected * 6 / 5, rtol=1e-4, atol=1e-6)


def every_path() -> tuple[DiscreteSampler, Trajectories]:
    """A walk on a line of four cells and all its paths."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        environment = Hypergrid(dim=1, side=4)
        policy = MLP(environment.features, (8,), {"forward": 2})
    sampler = DiscreteSampler(environment, policy, backward="uniform", prior=Uniform({"forward": 2}))
    drawn = sampler.sample(400, generator=generator())
    assert isinstance(drawn.objects, Tensor)
    first = [int((drawn.objects[:, 0] == cell).int().argmax()) for cell in range(4)]
    drawn = drawn[torch.tensor(first)]
    return sampler, replace(drawn, log_reward=torch.tensor([0.3, -1.0, 2.0, 0.1]))


@pytest.mark.parametrize("log_z", [-2.0, 0.0, 3.0])
def test_on_policy_the_expected_gradient_of_reinforce_is_rtbs_whatever_its_constant(log_z: float) -> None:
    """All paths of a chain, each by itself and weighted by its probability: no batch, so no baseline of one. Both times
    alpha, which is 1 / beta, are minus the gradient of KL-regularised RL, E[log R] - alpha KL(model||prior)."""
    sampler, drawn = every_path()
    reinforce = terms.policy_gradient("rl", "", sampler, terms.reinforce(baseline="none"), beta=beta)
    learned = partition.Learned(log_z)
    rtb = balance("rtb", "", sampler, RESIDUALS["relative"], divergence("reverse_kl"), learned, beta=beta)
    found = []
    probability = sampler.score(drawn, frozenset({"log_pf"})).get("log_pf").sum(1).exp()
    assert float(probability.detach().sum()) == pytest.approx(1.0)
    for term in (reinforce, rtb):
        each = [gradient_of(loss_of(term, drawn[torch.tensor([row])]).value, sampler.policy) for row in range(4)]
        found.append(sum(p * one for p, one in zip(probability.detach(), each, strict=True)))
    scores = sampler.score(drawn, frozenset({"log_pf", "log_prior"}))
    log_pf, log_prior = scores.get("log_pf").sum(1), scores.get("log_prior").sum(1)
    assert drawn.log_reward is not None
    objective = (log_pf.exp() * (drawn.log_reward - ALPHA * (log_pf - log_prior))).sum()
    ascent = gradient_of(objective, sampler.policy)
    assert ascent.norm() > 0.05
    for one in found:
        assert isinstance(one, Tensor) and torch.allclose(-ALPHA * one, ascent, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "coefficient", [terms.reinforce_weighted(), terms.reinforce_weighted(geometric=False), terms.ppo()]
)
def test_on_policy_weighted_and_clipped_reinforce_are_reinforce(coefficient: terms.Coefficient) -> None:
    sampler = tuned(keep_behaviour=True)
    drawn = replace(drawn_of(sampler), group=torch.zeros(12, dtype=torch.int64))
    expected = gradient(policy_gradient(sampler, terms.reinforce()), drawn, sampler)
    assert torch.allclose(
        gradient(policy_gradient(sampler, coefficient), drawn, sampler), expected, rtol=1e-3, atol=1e-5
    )


def test_off_policy_a_path_weighs_by_its_density_over_that_which_drew_it() -> None:
    """Self-normalised weights from torch.distributions in float64, around the weighted mean and around none."""
    sampler = tuned(keep_behaviour=True)
    assert sampler.prior is not None
    drawn = replace(drawn_of(sampler, 0.3), group=torch.zeros(12, dtype=torch.int64))
    wide = (sampler.process.std.square() + 0.09).sqrt()
    weight = (gaussian_steps(sampler, drawn) - gaussian_steps(sampler, drawn, wide)).sum(1).detach().softmax(0)
    log_ratio = (gaussian_steps(sampler, drawn) - gaussian_steps(sampler.prior, drawn)).sum(1)
    assert drawn.log_reward is not None and float(weight.max()) > 2 * float(weight.min())
    score = (log_ratio - drawn.log_reward.double() / ALPHA).detach()
    expected = gradient_of((weight * score * log_ratio).sum(), sampler.network)
    term = policy_gradient(sampler, terms.reinforce_weighted(geometric=False, baseline="none"))
    assert torch.allclose(gradient(term, drawn, sampler), expected, rtol=1e-3, atol=1e-4)


def test_dpok_is_reinforce_where_the_model_is_its_prior() -> None:
    """There the KL and its gradient are 0, step by step, and the reward alone is left."""
    sampler = tuned()
    network_of(sampler).load_state_dict(network_of(sampler.prior).state_dict())
    drawn = drawn_of(sampler)
    expected = gradient(policy_gradient(sampler, terms.reinforce()), drawn, sampler)
    term = terms.dpok("rl", "", sampler, beta=beta)
    assert torch.allclose(gradient(term, drawn, sampler), expected, rtol=1e-4, atol=1e-5)


def test_the_bound_that_terms_report_is_one_bound() -> None:
    """DPOK's from closed-form KLs, REINFORCE's from log-ratios: equal in expectation on-policy."""
    sampler = tuned()
    drawn = replace(drawn_of(sampler, n=4000), log_reward=torch.zeros(4000))
    dpok = loss_of(terms.dpok("rl", "", sampler, beta=beta), drawn).metrics["log_z"]
    reinforce = loss_of(policy_gradient(sampler, terms.reinforce()), drawn).metrics["log_z"]
    with torch.no_grad():
        spread = sampler.score(drawn, frozenset({"log_pf"})).get("log_pf").sum(1).std()
    assert float(dpok) < -0.1 and dpok != reinforce and abs(float(dpok - reinforce)) < 5 * float(spread) / 4000**0.5


def test_likelihood_is_the_mean_of_denoising_and_needs_no_path() -> None:
    sampler = tuned()
    drawn = Data(torch.randn(50, 2, generator=generator())).draw(20, generator())
    expected = sampler.score(drawn, frozenset({"denoising"}), generator=generator()).get("denoising").mean()
    found = loss_of(terms.likelihood("prior", "", sampler), drawn)
    assert torch.equal(found.value, expected) and found.residual is None and found.value.requires_grad


def reward(objects: Columns, context: Columns) -> Tensor:
    assert isinstance(objects, Tensor)
    return -objects.square().sum(1)


def ppo_run() -> Run:
    sampler = tuned(keep_behaviour=True)
    source = Repeat(Rollouts(sampler, reward, behaviour=lambda version: Behaviour(noise=0.1)), 3)
    term = terms.policy_gradient("rl", "source", sampler, terms.ppo())
    return Run(
        modules={"policy": sampler.network},
        learning_rate={"policy": lambda step: 1e-2},
        terms=(term,),
        sources={"source": source},
        batch={"source": 6},
        steps=11,
        seed=4,
    )


def run_of(term: Term, source: Source) -> Run:
    sampler = term.sampler
    assert isinstance(sampler, DiffusionSampler)
    return replace(ppo_run(), modules={"policy": sampler.network}, terms=(term,), sources={"source": source})


def prior_run() -> Run:
    return run_of(terms.likelihood("prior", "source", tuned()), Data(torch.randn(30, 2, generator=generator())))


def subsampled_run() -> Run:
    sampler = tuned(subsample=2)
    return run_of(replace(vargrad(sampler), source="source"), Rollouts(sampler, reward))


@pytest.mark.parametrize("build", [ppo_run, prior_run, subsampled_run])
@pytest.mark.parametrize("at", [3, 7])
def test_a_run_taken_up_from_a_checkpoint_ends_bit_for_bit_where_it_would_have(
    build: Callable[[], Run], at: int
) -> None:
    whole, first, second = Loop(build()), Loop(build()), Loop(build())
    for _ in range(11):
        whole.advance()
    for _ in range(at):
        first.advance()
    second.load_state_dict(from_bytes(to_bytes(first.state_dict())))
    for _ in range(11 - at):
        second.advance()
    assert to_bytes(second.state_dict()) == to_bytes(whole.state_dict())


def test_what_a_term_cannot_work_with_is_an_error() -> None:
    sampler = tuned()
    drawn = drawn_of(sampler)
    short = policy_gradient(sampler, lambda trajectories, scores, target: target[:3])
    with pytest.raises(ValueError, match=r"the coefficient is \(3,\) for log_pf \(12, 6\)"):
        loss_of(short, drawn)
    for coefficient in (terms.ppo(), terms.reinforce_weighted()):
        with pytest.raises(ValueError, match="without their log_behaviour"):
            loss_of(policy_gradient(sampler, coefficient), drawn)
    kept = drawn_of(tuned(keep_behaviour=True))
    absent = replace(kept.fixed["log_behaviour"], version=torch.full((12,), -1))
    with pytest.raises(ValueError, match="without their log_behaviour"):
        loss_of(policy_gradient(sampler, terms.ppo()), replace(kept, fixed={"log_behaviour": absent}))
    with pytest.raises(ValueError, match="without a log_reward"):
        loss_of(policy_gradient(sampler, terms.reinforce()), replace(drawn, log_reward=None))
