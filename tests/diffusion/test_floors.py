"""The floor of a shared-sigma sampler against joint Gaussians of whole paths, which know nothing of a reward-to-go."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from diffusion.small import FLOAT
from equipoise.contracts import Behaviour
from equipoise.diffusion.floors import gaussian_floor, log_z_bias
from equipoise.diffusion.processes import Process, brownian, variance_preserving
from equipoise.diffusion.sampler import DiffusionSampler

UNEVEN = brownian(7, [0.2, 3.0, 1.0, 0.5, 2.0, 0.1, 1.2], time=1.4)
END = float(UNEVEN.std.square().sum().sqrt())
WIDTHS = [0.3, 1.0, END, 3.0]
"""Standard deviations of the target, narrower than the motion's end, as wide, and wider."""


def target_paths(process: Process, mean: float, std: float) -> MultivariateNormal:
    """The law of (x_1, ..., x_T): an object of N(mean, std^2), noised step by step down the bridge; one dimension."""
    steps = process.steps
    means, covariance = torch.zeros(steps, dtype=FLOAT), torch.zeros(steps, steps, dtype=FLOAT)
    means[-1], covariance[-1, -1] = mean, std**2
    for t in range(steps - 2, -1, -1):
        keep, noise = process.back_keep[t + 1], process.back_std[t + 1]
        means[t] = keep * means[t + 1]
        covariance[t, t + 1 :] = keep * covariance[t + 1, t + 1 :]
        covariance[t + 1 :, t] = covariance[t, t + 1 :]
        covariance[t, t] = keep**2 * covariance[t + 1, t + 1] + noise**2
    return MultivariateNormal(means, covariance)


def model_paths(process: Process, slope: Tensor, offset: Tensor) -> MultivariateNormal:
    """The law of a sampler whose steps have mean slope_t x_t + offset_t and the process's noise, from the origin."""
    means, rows, mean = [], [], torch.zeros((), dtype=FLOAT)
    row = torch.zeros(process.steps, dtype=FLOAT)  # x_t as a combination of the steps' noises
    for t in range(process.steps):
        mean = slope[t] * mean + offset[t]
        row = slope[t] * row + process.std[t] * torch.eye(process.steps, dtype=FLOAT)[t]
        means.append(mean)
        rows.append(row)
    factor = torch.stack(rows)
    return MultivariateNormal(torch.stack(means), factor @ factor.T)


def best_steps(process: Process, paths: MultivariateNormal) -> tuple[Tensor, Tensor]:
    """Slope and offset of E[x_{t+1} | x_t] under the given paths, by regression on their covariance."""
    covariance, mean = paths.covariance_matrix, paths.mean
    slope = torch.cat([torch.zeros(1, dtype=FLOAT), covariance.diagonal(1) / covariance.diagonal()[:-1]])
    before = torch.cat([torch.zeros(1, dtype=FLOAT), mean[:-1]])
    return slope, mean - slope * before


@pytest.mark.parametrize("std", WIDTHS)
@pytest.mark.parametrize("process", [UNEVEN, brownian(1, 2.0), brownian(40, 5.0)], ids=["uneven", "one", "forty"])
def test_the_floor_is_the_divergence_of_the_best_samplers_paths_from_the_targets(process: Process, std: float) -> None:
    target = target_paths(process, 1.7, std)
    slope, offset = (value.requires_grad_() for value in best_steps(process, target))
    model = model_paths(process, slope, offset)
    reverse, forward = kl_divergence(model, target), kl_divergence(target, model)
    floor = gaussian_floor(process, std, 3)
    assert floor.elbo_gap == pytest.approx(3 * reverse.item(), rel=1e-8, abs=1e-10)
    assert floor.eubo_gap == pytest.approx(3 * forward.item(), rel=1e-8, abs=1e-10)
    assert floor.total == pytest.approx(floor.elbo_gap + floor.eubo_gap)
    for divergence in (reverse, forward):  # and no step's mean can be changed to gain
        for gradient in torch.autograd.grad(divergence, (slope, offset), retain_graph=True):
            assert gradient.abs().max() < 1e-8


def test_any_other_linear_sampler_lies_above_the_floor() -> None:
    noise = torch.Generator().manual_seed(0)
    for std in WIDTHS:
        target = target_paths(UNEVEN, -0.4, std)
        slope, offset = best_steps(UNEVEN, target)
        floor = gaussian_floor(UNEVEN, std, 1)
        for _ in range(20):
            moved = [value + 0.2 * torch.randn(7, generator=noise, dtype=FLOAT) for value in (slope, offset)]
            model = model_paths(UNEVEN, moved[0], moved[1])
            assert float(kl_divergence(model, target)) > floor.elbo_gap
            assert float(kl_divergence(target, model)) > floor.eubo_gap


def test_the_floor_falls_with_the_steps_and_is_0_for_the_motions_own_end() -> None:
    totals = [gaussian_floor(brownian(steps, 5.0), 0.5, 2).total for steps in (10, 100, 1000)]
    assert totals[0] / totals[1] > 5 and totals[1] / totals[2] == pytest.approx(10, rel=0.1)
    assert abs(gaussian_floor(UNEVEN, END, 4).total) < 1e-12
    assert gaussian_floor(UNEVEN, 2 * END, 4).total > 1e-3


class Best(torch.nn.Module):
    """The drift of the best sampler for N(mean, std^2 I), by regression; its parameter is added to it."""

    def __init__(self, process: Process, mean: float, std: float) -> None:
        super().__init__()
        slope, offset = best_steps(process, target_paths(process, mean, std))
        self.slope, self.offset = (slope - process.keep) / process.gain, offset / process.gain
        self.more = torch.nn.Parameter(torch.zeros(process.steps))

    def forward(self, state: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        value = (self.slope[step].float(), self.offset[step].float(), self.more[step])
        slope, offset, more = (part.view(-1, 1) for part in value)
        return slope * state + offset + more


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("std", [0.5, 3.0])
def test_a_learned_log_z_is_off_by_the_predicted_bias_and_the_means_are_not(std: float, noise: float) -> None:
    """On paths of the best sampler, drawn with more noise than it has, the mean residual is the bias, and at the
    constant that takes it away the squared loss leaves every step's mean where it is."""
    process = brownian(8, 1.0)
    sampler = DiffusionSampler(process, Best(process, 1.5, std), (2,))
    drawn = sampler.sample(20_000, behaviour=Behaviour(noise=noise), generator=torch.Generator().manual_seed(0))
    scores = sampler.score(drawn, frozenset({"log_pf", "log_pb"}))
    target = torch.distributions.Normal(1.5, std).log_prob(drawn.path["state"][:, -1]).sum(1)
    log_ratio = scores.get("log_pf").sum(1) - scores.get("log_pb").sum(1) - target  # log Z is 0
    error = float(log_ratio.detach().std()) / math.sqrt(len(drawn))
    bias = log_z_bias(process, std, 2, noise)
    assert float(log_ratio.detach().mean()) == pytest.approx(bias, abs=4 * error + 1e-5)
    if noise == 0.0:
        assert bias == pytest.approx(gaussian_floor(process, std, 2).elbo_gap)
    else:
        assert abs(bias) > 20 * error and abs(bias) > 2 * gaussian_floor(process, std, 2).elbo_gap
    (log_ratio - bias).square().mul(0.5).mean().backward()
    drift = sampler.network.more
    assert isinstance(drift, torch.nn.Parameter) and drift.grad is not None
    states = drawn.path["state"]
    means = torch.stack([sampler.network(states[:, t], torch.tensor(t), None) for t in range(8)], 1) * process.gain[0]
    moved = (states[:, 1:] - states[:, :-1] - means).sum(2) * (process.gain / process.std**2)
    rows = ((log_ratio - bias)[:, None] * moved).detach()  # the gradient of each path, step by step
    assert torch.allclose(drift.grad, rows.mean(0).float(), atol=1e-4)
    assert (rows.mean(0).abs() < 5 * rows.std(0) / math.sqrt(len(rows))).all()


def test_what_has_no_floor_is_an_error() -> None:
    images = variance_preserving(torch.linspace(0.1, 0.9, 5))
    with pytest.raises(ValueError, match="no Brownian motion"):
        gaussian_floor(images, 1.0, 2)
    for std, dimensions in ((0.0, 2), (-1.0, 2), (math.inf, 2), (1.0, 0)):
        with pytest.raises(ValueError, match="a positive number"):
            gaussian_floor(UNEVEN, std, dimensions)
    with pytest.raises(ValueError, match="noise is -1"):
        log_z_bias(UNEVEN, 1.0, 2, -1.0)
