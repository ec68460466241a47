"""The diffusion sampler: the contract in every set-up, steps that stay, steps that are frozen, and its errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffusion.small import FLOAT, Linear, drift, gaussian_steps, network_of, tuned
from equipoise.contracts import Behaviour, check_sampler
from equipoise.diffusion.processes import brownian, cosine_schedule, variance_preserving
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.sampling.rollouts import Rollouts
from equipoise.trajectories import Columns, ends

BRIDGE = brownian(6, [0.5, 1.0, 2.0, 1.0, 0.7, 0.3])
CONTEXT = torch.arange(24.0).view(8, 3) / 24


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(context: Columns) -> Tensor:
    assert isinstance(context, Tensor)
    return context


def from_scratch() -> DiffusionSampler:
    return DiffusionSampler(BRIDGE, drift(BRIDGE), (2,))


def images(*, frozen_end: bool = True, prior: bool = True) -> DiffusionSampler:
    """Objects of (1, 2, 3), variance-preserving; the last step has no noise where `frozen_end`."""
    bar = cosine_schedule(5) if frozen_end else torch.linspace(0.05, 0.95, 6)
    process = variance_preserving(bar)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = Linear(6, 5), Linear(6, 5)
    shape = (1, 2, 3)
    base = DiffusionSampler(process, first, shape).frozen() if prior else None
    return DiffusionSampler(process, second, shape, prior=base)


SETTINGS: dict[str, Callable[[], DiffusionSampler]] = {
    "with a prior": tuned,
    "from scratch": from_scratch,
    "images with a frozen end": images,
    "images": lambda: images(frozen_end=False),
    "images without a prior": lambda: images(prior=False),
    "subsampled": lambda: tuned(subsample=2),
    "keeping its behaviour": lambda: tuned(keep_behaviour=True),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_sampler_keeps_its_contract(name: str) -> None:
    check_sampler(SETTINGS[name]())


@pytest.mark.parametrize("subsample", [None, 3])
def test_a_conditional_sampler_keeps_its_contract(subsample: int | None) -> None:
    sampler = tuned(conditions=3, condition=features, subsample=subsample)
    check_sampler(sampler, context=CONTEXT, group=torch.arange(8))
    drawn = sampler.sample(8, context=CONTEXT, generator=generator())
    found, other = (
        sampler.score(one, frozenset({"log_pf"}), generator=generator()).get("log_pf")
        for one in (drawn, replace(drawn, context=CONTEXT + 1))
    )
    assert not torch.equal(found, other)


@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_from_scratch_the_log_ratio_is_that_of_the_naive_gaussians_on_every_path(noise: float) -> None:
    """log_pf - log_pb = sum log N(step) - sum log N(bridge step), of paths drawn wide or not, and of bridges."""
    sampler = from_scratch()
    drawn = sampler.sample(50, behaviour=Behaviour(noise=noise), generator=generator())
    objects = torch.randn(50, 2, generator=generator(1)) * 3
    for paths in (drawn, sampler.sample_to(ends(objects), generator=generator(2))):
        scores = sampler.score(paths, frozenset({"log_pf", "log_pb"}))
        found = (scores.get("log_pf") - scores.get("log_pb")).sum(1, dtype=FLOAT)
        states = paths.path["state"].double()
        bridge = torch.zeros(50, dtype=FLOAT)
        for t in range(1, BRIDGE.steps):  # the first step of the bridge ends in the origin with certainty
            back = torch.distributions.Normal(BRIDGE.back_keep[t] * states[:, t + 1], BRIDGE.back_std[t])
            bridge += back.log_prob(states[:, t]).sum(1)
        naive = gaussian_steps(sampler, paths).sum(1) - bridge
        assert naive.abs().max() > 1
        assert torch.allclose(found, naive, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_inflated_noise_adds_its_square_to_the_variance_of_every_step(noise: float) -> None:
    """An object's second moment about the path of means, in a sampler whose drift is 0."""
    sampler = DiffusionSampler(BRIDGE, torch.nn.Module(), (2,))
    sampler.network.forward = lambda state, step, condition: torch.zeros_like(state)  # type: ignore[method-assign]
    drawn = sampler.sample(20_000, behaviour=Behaviour(noise=noise), generator=generator())
    moved = drawn.path["state"].diff(dim=1).double()
    expected = BRIDGE.std.square() + noise**2
    error = expected * math.sqrt(2 / 40_000)
    assert ((moved.square().mean((0, 2)) - expected).abs() < 5 * error).all()


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_the_kept_behaviour_is_the_density_that_the_steps_were_drawn_from(noise: float) -> None:
    sampler = tuned(keep_behaviour=True)
    assert sampler.prior is not None and sampler.keeps == {"log_behaviour"}
    drawn = sampler.sample(30, behaviour=Behaviour(noise=noise), generator=generator())
    wide = (BRIDGE.std.square() + noise**2).sqrt()
    naive = gaussian_steps(sampler, drawn, wide) - gaussian_steps(sampler.prior, drawn)
    kept = drawn.fixed["log_behaviour"]
    assert torch.allclose(kept.value.double(), naive, rtol=1e-4, atol=1e-4)
    assert torch.equal(kept.version, drawn.version)
    if noise == 0.0:
        assert torch.allclose(kept.value, sampler.score(drawn, frozenset({"log_pf"})).get("log_pf"), atol=1e-5)


def test_a_last_step_without_noise_is_the_priors_for_every_model() -> None:
    sampler = images()
    assert sampler.process.noiseless_end and sampler.prior is not None
    with torch.no_grad():
        for parameter in sampler.network.parameters():
            parameter.add_(1.0)
    drawn = sampler.sample(9, generator=generator())
    before = drawn.path["state"][:, -2]
    output = sampler.prior.network(before, torch.tensor(4), None)
    mean = sampler.process.keep[4].float() * before + sampler.process.gain[4].float() * output
    assert torch.allclose(drawn.path["state"][:, -1], mean, atol=1e-6)
    scores = sampler.score(drawn, frozenset({"log_pf", "kl_prior"}))
    for field in ("log_pf", "kl_prior"):
        assert not scores.get(field)[:, -1].any() and scores.get(field)[:, :-1].all()


def test_kept_steps_stay_and_the_rest_is_drawn_anew() -> None:
    sampler = tuned()
    start = sampler.sample(7, generator=generator())
    keep = torch.arange(7)  # row i keeps i of 6 steps
    drawn = sampler.sample(7, start=start, keep=keep, generator=generator(1))
    old, new = start.path["state"], drawn.path["state"]
    for row in range(7):
        assert torch.equal(old[row, : row + 1], new[row, : row + 1])
        assert (old[row, row + 1 :] != new[row, row + 1 :]).all()
    assert isinstance(drawn.objects, Tensor) and torch.equal(drawn.objects, new[:, -1])
    again = sampler.sample(7, start=start, keep=keep, behaviour=Behaviour(noise=0.5), generator=generator(1))
    moved = (again.path["state"] - new).abs().sum(2)
    assert (moved[0, 1:] > 0).all() and not moved[6].any()


def test_kept_starts_of_images_are_their_noise() -> None:
    sampler = images()
    start = sampler.sample(4, generator=generator())
    drawn = sampler.sample(4, start=start, keep=torch.tensor([0, 1, 1, 0]), generator=generator(1))
    same = (drawn.path["state"][:, 0] == start.path["state"][:, 0]).flatten(1).all(1)
    assert same.tolist() == [False, True, True, False]


def test_paths_to_given_objects_have_the_moments_of_the_noising() -> None:
    objects = torch.tensor([3.0, -1.0]).expand(20_000, 2)
    for sampler in (from_scratch(), tuned()):
        paths = sampler.sample_to(ends(objects), generator=generator()).path["state"].double()
        keep, std = sampler.process.marginals()
        assert torch.equal(paths[:, -1].float(), objects)
        mean = keep[:, None] * objects[0].double()
        assert ((paths.mean(0) - mean).abs() <= 5 * std[:, None] / math.sqrt(20_000) + 1e-6).all()
        assert torch.allclose(paths.var(0), std.square()[:, None].expand(-1, 2), rtol=0.06, atol=1e-9)


def test_denoising_is_the_paths_likelihood_by_the_motion_up_to_a_constant() -> None:
    """E over times and noise of `denoising` = E over bridges of -log p(path), up to a number that no network moves:
    the difference of two networks' figures is that of their paths' log-densities."""
    first, second = (DiffusionSampler(BRIDGE, drift(BRIDGE, seed=seed), (2,)) for seed in (0, 5))
    torch.nn.init.constant_(network_of(second).out.bias, 1.0)
    objects = ends(torch.randn(400, 2, generator=generator()).repeat(100, 1) * 2)
    singles, wholes = [], []
    paths = first.sample_to(objects, generator=generator(1))
    with torch.no_grad():
        for sampler in (first, second):
            singles.append(sampler.score(objects, frozenset({"denoising"}), generator=generator(2)).get("denoising"))
            wholes.append(-sampler.score(paths, frozenset({"log_pf"})).get("log_pf").sum(1))
    single, whole = singles[0] - singles[1], wholes[0] - wholes[1]
    error = math.hypot(float(single.std()), float(whole.std())) / math.sqrt(len(single))
    assert abs(float(whole.mean())) > 10 * error
    assert float(single.mean()) == pytest.approx(float(whole.mean()), abs=5 * error)


def trainable_prior() -> object:
    prior = DiffusionSampler(BRIDGE, drift(BRIDGE), (2,))
    return DiffusionSampler(BRIDGE, drift(BRIDGE), (2,), prior=prior)


def with_prior_of(steps: int, variance: float, shape: tuple[int, ...] = (2,)) -> object:
    process = brownian(steps, variance)
    return DiffusionSampler(
        BRIDGE, drift(BRIDGE), (2,), prior=DiffusionSampler(process, drift(process), shape).frozen()
    )


def draws(reward: Callable[[Tensor], object]) -> object:
    return Rollouts(tuned(), lambda objects, context: reward(objects)).draw(4, generator())  # type: ignore[arg-type]


ERRORS: dict[str, tuple[Callable[[], object], str]] = {
    "sigmas that differ": (lambda: with_prior_of(6, 2.0), "sigma of step .* give both one process"),
    "steps that differ": (lambda: with_prior_of(7, 1.0), "6 steps and its prior 7"),
    "another shape": (lambda: with_prior_of_shape(), r"the prior's objects are \(3,\), the model's \(2,\)"),
    "a trainable prior": (trainable_prior, r"trainable parameters .*give prior.frozen\(\)"),
    "too many steps chosen": (lambda: tuned(subsample=7), "subsample is 7: from 1 to the 6 steps"),
    "no step chosen": (lambda: tuned(subsample=0), "subsample is 0"),
    "eta of 0": (lambda: variance_preserving(cosine_schedule(5), eta=0.0), "eta is 0.0"),
    "epsilon": (
        lambda: tuned().sample(2, behaviour=Behaviour(epsilon=0.1), generator=generator()),
        "explores by noise alone",
    ),
    "temperature": (
        lambda: tuned().sample(2, behaviour=Behaviour(temperature=2.0), generator=generator()),
        "explores by noise alone",
    ),
    "a need that is not offered": (
        lambda: from_scratch().score(from_scratch().sample(2, generator=generator()), frozenset({"log_prior"})),
        r"not \['log_prior'\]",
    ),
    "no generator for a subsample": (
        lambda: tuned(subsample=2).score(tuned().sample(2, generator=generator()), frozenset({"log_pf"})),
        "give score a generator",
    ),
    "paths of another length": (
        lambda: tuned().score(other_length(), frozenset({"log_pf"})),
        "paths of 4 steps: this sampler's have 6",
    ),
    "objects of another shape": (
        lambda: tuned().sample_to(ends(torch.zeros(3, 5)), generator=generator()),
        r"objects \(3, 5\): a tensor of rows of \(2,\)",
    ),
    "a condition too many": (
        lambda: DiffusionSampler(BRIDGE, drift(BRIDGE), (2,), condition=features).sample(
            8, context=CONTEXT, generator=generator()
        ),
        "takes 0 features of a condition and was given some",
    ),
    "a reward of NaN": (
        lambda: draws(lambda objects: torch.where(torch.arange(4) == 2, math.nan, objects[:, 0])),
        r"the log-reward at index 2 is nan \(object \[",
    ),
    "a reward of minus infinity": (lambda: draws(lambda objects: objects[:, 0] - math.inf), "at index 0 is -inf"),
    "a reward of the wrong shape": (lambda: draws(lambda objects: objects), r"float32 \(4, 2\) for 4 objects"),
    "a reward of the wrong type": (lambda: draws(lambda objects: 1.0), "returned float for 4 objects"),
}


def with_prior_of_shape() -> object:
    prior = DiffusionSampler(BRIDGE, Linear(3, 6), (3,)).frozen()
    return DiffusionSampler(BRIDGE, drift(BRIDGE), (2,), prior=prior)


def other_length():
    process = brownian(4, 1.0)
    return DiffusionSampler(process, drift(process), (2,)).sample(2, generator=generator())


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_honoured_is_an_error_that_says_so(name: str) -> None:
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_the_prior_is_not_trained_and_does_not_move_with_the_model() -> None:
    sampler = tuned()
    assert sampler.prior is not None
    drawn = sampler.sample(5, generator=generator())
    sampler.score(drawn, frozenset({"log_pf", "kl_prior"})).get("log_pf").sum().backward()
    assert all(parameter.grad is None for parameter in sampler.prior.parameters())
    assert all(parameter.grad is not None for parameter in sampler.network.parameters())
    twin = sampler.frozen()
    with torch.no_grad():
        network_of(sampler).out.bias.add_(1.0)
    assert not torch.equal(network_of(twin).out.bias, network_of(sampler).out.bias)
    assert not any(parameter.requires_grad for parameter in twin.parameters())
