"""A steered network: where it begins, what is learned, and that its gradient is there in every mode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from equipoise.contracts import check_sampler
from equipoise.diffusion.networks import DriftMLP
from equipoise.diffusion.processes import Process, brownian, cosine_schedule, variance_preserving
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.diffusion.steering import LIMIT, Steered

TILT = torch.tensor([1.5, -0.5])
PROCESSES = [brownian(8), variance_preserving(cosine_schedule(6), prediction="v_prediction")]


def linear(state: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    return state @ TILT


def steered(process: Process, log_reward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = linear) -> Steered:
    torch.manual_seed(0)
    return Steered(DriftMLP(process, 2), process, log_reward)


def test_at_the_start_it_is_the_exact_posterior_of_a_linear_log_reward() -> None:
    # Brownian motion tilted by exp(a . x) has drift a, and log Z = |a|^2 / 2 on every path.
    process = brownian(8)
    prior = DiffusionSampler(process, steered(process).network, (2,)).frozen()
    sampler = DiffusionSampler(process, steered(process), (2,), prior=prior)
    drawn = sampler.sample(64, generator=torch.Generator().manual_seed(0))
    log_pf = sampler.score(drawn, frozenset({"log_pf"})).get("log_pf").sum(1)
    assert isinstance(drawn.objects, torch.Tensor)
    weight = drawn.objects @ TILT - log_pf
    assert torch.allclose(weight, TILT.square().sum().expand(64) / 2, atol=1e-5)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_step_is_moved_by_its_variance_times_the_gradient_and_a_last_one_without_noise_is_not(
    process: Process,
) -> None:
    state = torch.randn(process.steps, 2, generator=torch.Generator().manual_seed(1))
    step = torch.arange(process.steps)
    with torch.no_grad():
        moved = steered(process)(state, step, None) - steered(process).network(state, step, None)
    expected = process.std.square()[:, None] * TILT
    assert torch.allclose(process.gain[:, None] * moved, expected.expand_as(moved).double(), atol=1e-6)


def test_a_steered_sampler_holds_the_contract_and_learns_its_strengths() -> None:
    process = PROCESSES[1]
    prior = DiffusionSampler(process, steered(process).network, (2,)).frozen()
    sampler = DiffusionSampler(
        process, steered(process, lambda state, place: -state.square().sum(1)), (2,), prior=prior
    )
    check_sampler(sampler, n=6)
    drawn = sampler.sample(4, generator=torch.Generator().manual_seed(0))
    sampler.score(drawn, frozenset({"log_pf"})).get("log_pf").sum().backward()
    strength = sampler.get_parameter("network.strength").grad
    assert strength is not None and bool((strength[:-1] != 0).all()) and strength[-1] == 0


def test_a_gradient_that_explodes_is_held_and_no_state_sees_another() -> None:
    process = brownian(4)
    network = steered(process, lambda state, place: 1e6 * state[:, 0].square())
    state = torch.tensor([[1.0, 0.0], [-1e-9, 0.0]])
    moved = network(state, torch.tensor(2), None).detach() / process.std[2].float() ** 2 * float(process.gain[2])
    assert moved[0, 0] == pytest.approx(LIMIT) and moved[1, 0] == pytest.approx(-2e-3)
