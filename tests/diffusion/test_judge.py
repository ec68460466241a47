"""The judge of points: its estimates of the exact target against a target that has a closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from equipoise.diffusion.judge import PointJudge
from equipoise.diffusion.processes import brownian
from equipoise.diffusion.sampler import DiffusionSampler
from equipoise.diffusion.targets import Mixture
from equipoise.recipes.rewards import wrapped


class Constant(nn.Module):
    """A drift that is the same everywhere."""

    def __init__(self, drift: Tensor) -> None:
        super().__init__()
        self.drift = nn.Parameter(drift)

    def forward(self, state: Tensor, step: Tensor, condition: Tensor | None) -> Tensor:
        return self.drift.expand_as(state)


def sampler(drift: Tensor, prior: DiffusionSampler | None) -> DiffusionSampler:
    return DiffusionSampler(brownian(10, 1.0), Constant(drift), (2,), prior=prior)


def test_a_tilted_brownian_motion_is_judged_as_its_closed_form_says() -> None:
    # Prior N(0, I); R = exp(a . x): the target is N(a, I), which the constant drift a draws exactly, log Z = |a|^2 / 2.
    tilt = torch.tensor([0.8, -0.4])
    prior = sampler(torch.zeros(2), None).frozen()
    mixture = Mixture(tilt[None], torch.ones(1), 1.0)

    reward = wrapped(lambda points: points @ tilt)
    log_z = float(tilt @ tilt) / 2
    exact = PointJudge(sampler(tilt, prior), mixture, reward, 1.0, None).figures()
    assert exact["elbo"] == pytest.approx(log_z, abs=1e-5)
    assert exact["eubo"] == pytest.approx(log_z, abs=1e-5)
    assert exact["ess"] == pytest.approx(1.0, abs=1e-5)
    assert exact["target_log_z"] == pytest.approx(log_z, abs=4 * exact["target_log_z_error"])
    off = math.exp(-2.0)  # of a standard normal in the plane, farther than 2
    assert exact["target_off_mode_mass"] == pytest.approx(off, abs=4 * exact["target_off_mode_mass_error"])
    assert exact["off_mode_mass"] == pytest.approx(off, abs=0.02)
    # The prior itself as the sampler: KL(model||target) below log Z, KL(target||model) above.
    worse = PointJudge(sampler(torch.zeros(2), prior), mixture, reward, 1.0, lambda: 7.0).figures()
    assert worse["elbo"] == pytest.approx(0.0, abs=0.05)
    assert worse["eubo"] == pytest.approx(2 * log_z, abs=0.1)
    assert worse["log_z"] == 7.0


def test_from_scratch_paths_of_the_target_are_bridges_to_exact_points() -> None:
    # Target N(0, I) is the Brownian motion itself: log Z = 0 whatever the path.
    mixture = Mixture(torch.zeros(1, 2), torch.ones(1), 1.0)
    found = PointJudge(sampler(torch.zeros(2), None), mixture, wrapped(mixture.log_prob), 1.0, None).figures()
    assert found["elbo"] == pytest.approx(0.0, abs=1e-5) and found["eubo"] == pytest.approx(0.0, abs=1e-5)
    assert found["wasserstein2"] < 1.5 * found["wasserstein2_floor"]
    assert "target_log_z" not in found
