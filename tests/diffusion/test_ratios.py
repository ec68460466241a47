"""Log-ratios of steps against torch.distributions in float64; gradients through chosen steps against all subsets."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from diffusion.small import FLOAT, gaussian_steps, gradient_of, network_of, tuned
from equipoise.contracts import Behaviour
from equipoise.diffusion import ratios
from equipoise.objectives.divergences import divergence


def steps(*shape: int, dtype: torch.dtype = FLOAT) -> tuple[Tensor, Tensor, Tensor]:
    """What steps were moved by, and two models' outputs."""
    noise = torch.Generator().manual_seed(0)
    moved, output, reference = torch.randn(3, *shape, generator=noise, dtype=dtype)
    return moved, output, reference


def density(moved: Tensor, output: Tensor, gain: Tensor, std: Tensor) -> Tensor:
    return Independent(Normal(gain[:, None] * output, std[:, None].expand_as(output)), 1).log_prob(moved)


GAIN, STD = torch.tensor([0.3, -1.0, 2.0, 0.1], dtype=FLOAT), torch.tensor([0.5, 1.0, 0.1, 2.0], dtype=FLOAT)


def test_girsanovs_form_is_the_difference_of_two_log_densities() -> None:
    moved, output, reference = steps(7, 4, 3)
    naive = density(moved, output, GAIN, STD) - density(moved, reference, GAIN, STD)
    assert torch.allclose(ratios.girsanov(moved, output, reference, GAIN, STD), naive, rtol=1e-10, atol=1e-10)


def test_float32_keeps_the_digits_of_an_images_path() -> None:
    """3,072 dimensions and 1,000 steps, model and prior near each other: relative error of the path's sum at most 1e-5,
    against float64 differences of log-densities of the very same numbers."""
    dimensions, count = 3072, 1000
    noise = torch.Generator().manual_seed(1)
    std = torch.linspace(0.14, 0.01, count)
    gain = -0.5 * std
    naive, exact, ours, squares = 0.0, 0.0, 0.0, 0.0
    for part in torch.arange(count).split(50):
        output = torch.randn(len(part), dimensions, generator=noise)
        reference = output + 0.02 * torch.randn(output.shape, generator=noise)
        moved = gain[part, None] * output + std[part, None] * torch.randn(output.shape, generator=noise)
        both = [value.double() for value in (moved, output, reference, gain[part], std[part])]
        single = density(both[0], both[1], both[3], both[4]) - density(both[0], both[2], both[3], both[4])
        exact += float(single.sum())
        found = ratios.girsanov(moved, output, reference, gain[part], std[part])
        assert found.dtype == torch.float32
        ours += float(found.sum(dtype=FLOAT))
        squares += float(single.abs().sum())
        rounded = [value.float() for value in both]
        naive += float(density(rounded[0], rounded[1], rounded[3], rounded[4]).sum())
        naive -= float(density(rounded[0], rounded[2], rounded[3], rounded[4]).sum())
    assert abs(exact) > 50
    assert abs(ours - exact) / abs(exact) <= 1e-5
    assert abs(naive - exact) > 10 * abs(ours - exact)  # what a difference of densities loses


def test_the_kl_of_a_step_is_that_of_its_gaussians_and_the_mean_of_its_log_ratio() -> None:
    _, output, reference = steps(7, 4, 3)
    first, second = (Normal(GAIN[:, None] * mean, STD[:, None].expand_as(mean)) for mean in (output, reference))
    expected = kl_divergence(first, second).sum(-1)
    assert torch.allclose(ratios.step_kl(output, reference, GAIN, STD), expected, rtol=1e-10)
    ratio = ratios.girsanov(GAIN[:, None] * output, output, reference, GAIN, STD)  # it is linear in the noise
    assert torch.allclose(ratio, expected, rtol=1e-10)


def test_a_widened_step_is_a_difference_of_gaussians_of_two_widths() -> None:
    moved, output, reference = steps(7, 4, 3)
    wide = STD + torch.tensor([0.0, 0.2, 1.0, 3.0], dtype=FLOAT)
    naive = density(moved, output, GAIN, wide) - density(moved, reference, GAIN, STD)
    found = ratios.widened(moved, output, reference, GAIN, STD, wide)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), naive, rtol=1e-6, atol=1e-6)
    same = ratios.widened(moved, output, reference, GAIN, STD, STD)
    assert torch.allclose(same.double(), ratios.girsanov(moved, output, reference, GAIN, STD), rtol=1e-6, atol=1e-6)


def test_a_step_without_noise_is_0_for_all_and_trains_nothing() -> None:
    moved, output, reference = steps(7, 4, 3)
    output.requires_grad_()
    std = torch.where(torch.arange(4) == 3, 0.0, STD)
    found = [
        ratios.girsanov(moved, output, reference, GAIN, std),
        ratios.step_kl(output, reference, GAIN, std),
        ratios.widened(moved, output, reference, GAIN, std, std),
    ]
    for value in found:
        assert torch.isfinite(value).all() and (value[:, 3] == 0).all() and (value[:, :3] != 0).all()
        (gradient,) = torch.autograd.grad(value.double().sum(), output)
        assert torch.isfinite(gradient).all() and (gradient[:, 3] == 0).all()


def subset_gradients(name: str, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The full gradient; the mean over all subsets of k steps; the same where the residual is of the subset too."""
    moved, _, reference = steps(5, 4, 3)
    _, start, _ = steps(1, 4, 3)
    weight = start.clone().requires_grad_()
    rest = torch.linspace(-1.0, 1.0, 5, dtype=FLOAT)

    def scored(places: Tensor) -> Tensor:
        """Of the given steps of each row."""
        output = torch.tanh(weight * moved)
        chosen = [value.gather(1, places[..., None].expand(-1, -1, 3)) for value in (moved, output, reference)]
        return ratios.girsanov(chosen[0], chosen[1], chosen[2], GAIN[places], torch.ones_like(GAIN[places]))

    def gradient(log_ratio: Tensor) -> Tensor:
        loss = divergence(name).loss(log_ratio.sum(1) + rest).mean()
        return torch.autograd.grad(loss, weight)[0]

    every = torch.arange(4).expand(5, 4)
    full = scored(every)
    unbiased, biased = [], []
    for subset in combinations(range(4), k):
        chosen = torch.tensor(subset).expand(5, k)
        rows = ratios.subsampled(full.detach(), scored(chosen), chosen)
        assert torch.allclose(rows, full, rtol=1e-12)
        unbiased.append(gradient(rows))
        biased.append(gradient(4 / k * scored(chosen)))
    return gradient(full), torch.stack(unbiased).mean(0), torch.stack(biased).mean(0)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl", "jensen_shannon", "le_cam"])
def test_the_mean_over_all_subsets_is_the_full_gradient_unless_the_residual_is_subsampled_too(
    name: str, k: int
) -> None:
    full, unbiased, biased = subset_gradients(name, k)
    assert torch.allclose(unbiased, full, rtol=1e-10, atol=1e-12)
    assert (biased - full).norm() > 1e-2 * full.norm()


@pytest.mark.parametrize("name", ["reverse_kl", "forward_kl"])
def test_the_samplers_subsample_has_the_full_value_and_on_average_the_full_gradient(name: str) -> None:
    """The sampler draws its subsets: over 144 drawings the mean gradient is the full one within their own error."""
    sampler, part = tuned(), tuned(subsample=2)
    assert torch.equal(network_of(sampler).out.weight, network_of(part).out.weight)
    drawn = sampler.sample(6, behaviour=Behaviour(noise=0.3), generator=torch.Generator().manual_seed(0))
    needs, rest = frozenset({"log_pf", "kl_prior"}), torch.linspace(-2.0, 1.0, 6)

    def gradient(one, generator: torch.Generator) -> Tensor:
        scores = one.score(drawn, needs, generator=generator)
        loss = divergence(name).loss(scores.get("log_pf").sum(1) + rest) + scores.get("kl_prior").sum(1)
        return gradient_of(loss.mean(), one.network)

    generator = torch.Generator().manual_seed(1)
    full = gradient(sampler, generator)
    found = torch.stack([gradient(part, generator) for _ in range(144)])
    error = found.std(0) / 12
    assert ((found.mean(0) - full).abs() <= 6 * error + 1e-5 * full.abs().max()).all()
    assert (found.std(0) > 0).any()
    whole, some = (one.score(drawn, needs, generator=generator) for one in (sampler, part))
    for field in ("log_pf", "kl_prior"):
        assert torch.allclose(whole.get(field), some.get(field), rtol=1e-5, atol=1e-6)


def test_a_tuned_samplers_log_pf_is_the_difference_of_the_two_models_densities() -> None:
    sampler = tuned()
    assert sampler.prior is not None
    for noise in (0.0, 0.5):
        drawn = sampler.sample(40, behaviour=Behaviour(noise=noise), generator=torch.Generator().manual_seed(3))
        found = sampler.score(drawn, frozenset({"log_pf", "log_prior"}))
        naive = gaussian_steps(sampler, drawn) - gaussian_steps(sampler.prior, drawn)
        assert naive.abs().max() > 0.5
        assert torch.allclose(found.get("log_pf").double(), naive, rtol=1e-4, atol=1e-4)
        assert not found.get("log_prior").any()
