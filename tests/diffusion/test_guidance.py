"""Guidance against a prior whose posterior is known: Brownian motion, tilted by a linear log-reward."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from equipoise.diffusion.guidance import Guided, classifier_guidance, posterior_sampling
from equipoise.diffusion.networks import DriftMLP
from equipoise.diffusion.processes import brownian, cosine_schedule, variance_preserving
from equipoise.diffusion.sampler import DiffusionSampler

TILT = torch.tensor([1.5, -0.5])


def prior(steps: int = 8) -> DiffusionSampler:
    process = brownian(steps)
    return DiffusionSampler(process, DriftMLP(process, 2), (2,)).frozen()  # the drift is 0 at the start


def linear(state: torch.Tensor, place: torch.Tensor | None = None) -> torch.Tensor:
    return state @ TILT


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_classifier_guidance_of_scale_1_is_exact_where_the_log_reward_is_linear() -> None:
    # The posterior of N(0, I) tilted by exp(a . x) is N(a, I), and E[log r] given x_t has gradient a at every state.
    moved = classifier_guidance(prior(), 50, linear, generator=noise())
    plain = prior().sample(50, generator=noise()).objects
    assert isinstance(plain, torch.Tensor)
    assert torch.allclose(moved - plain, TILT.expand(50, 2), atol=1e-5)


def test_posterior_sampling_moves_every_step_by_the_gradient_at_the_estimate() -> None:
    # Without drift the estimate of the object is the state, so that each of 8 steps moves by scale a.
    moved = posterior_sampling(prior(), 50, linear, scale=0.25, generator=noise())
    plain = prior().sample(50, generator=noise()).objects
    assert isinstance(plain, torch.Tensor)
    assert torch.allclose(moved - plain, (2.0 * TILT).expand(50, 2), atol=1e-5)


def test_the_estimate_of_posterior_sampling_is_the_object_for_the_best_output() -> None:
    process = variance_preserving(cosine_schedule(6), prediction="v_prediction")
    target = torch.tensor([[0.7, -0.2]])
    parts = process.state_part.float(), process.object_part.float()

    class Best(torch.nn.Module):
        def forward(self, state: torch.Tensor, step: torch.Tensor, condition: None) -> torch.Tensor:
            return parts[0][step] * state + parts[1][step] * target

    seen = []

    def log_reward(objects: torch.Tensor) -> torch.Tensor:
        seen.append(objects.detach())
        return objects.sum(1)

    posterior_sampling(DiffusionSampler(process, Best(), (2,)), 3, log_reward, generator=noise())
    assert len(seen) == 6
    assert all(torch.allclose(estimate, target.expand(3, 2), atol=1e-4) for estimate in seen)


@pytest.mark.parametrize("guide", [classifier_guidance, posterior_sampling])
def test_scale_0_draws_from_the_prior_and_a_huge_scale_is_an_error(guide: Callable[..., torch.Tensor]) -> None:
    plain = prior().sample(5, generator=noise()).objects
    assert isinstance(plain, torch.Tensor)
    assert torch.allclose(guide(prior(), 5, linear, scale=0.0, generator=noise()), plain, atol=1e-6)
    with pytest.raises(ValueError, match="give a smaller scale"):
        guide(prior(), 5, lambda state, place=None: state.square().sum(1), scale=1e30, generator=noise())
    with pytest.raises(ValueError, match="at least 0"):
        guide(prior(), 5, linear, scale=-1.0, generator=noise())


def test_what_is_guided_draws_like_a_sampler_and_offers_no_scores() -> None:
    model = prior()
    guided = Guided(model, lambda n, generator: classifier_guidance(model, n, linear, generator=generator))
    drawn = guided.sample(4, generator=noise())
    assert isinstance(drawn.objects, torch.Tensor) and drawn.objects.shape == (4, 2)
    assert guided.offers == frozenset() and drawn.log_reward is None
