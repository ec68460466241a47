"""What a target by the distance to modes holds: estimates against lists of all 65,536 words of 16 bits."""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.discrete.environments.bits import LOG_REWARDS, Nearness, modes
from equipoise.discrete.environments.nearness import DRAWS, ball_masses, distances, log_total

CASES = [("paper", 3.0), ("normalised", 3.0), ("distance", 0.5), ("distance", 2.0)]


@pytest.mark.parametrize(("form", "beta"), CASES)
def test_totals_and_masses_are_those_of_the_list(form: str, beta: float) -> None:
    # Close modes on purpose: their balls overlap, and each word's nearest mode must be found out.
    chosen = modes(16)[:7]
    words = torch.arange(2**16)[:, None] >> torch.arange(16) & 1
    log_reward = beta * Nearness(form, chosen)(words)
    log_z = float(log_reward.logsumexp(0))
    inside = (distances(words, chosen) <= 4).double()
    masses = (log_reward - log_z).exp() @ inside
    error = math.sqrt(len(chosen) / DRAWS)  # the bound on the relative standard error; four of them
    assert abs(log_total(LOG_REWARDS[form], chosen, beta) - log_z) < 4 * error
    found = ball_masses(LOG_REWARDS[form], chosen, beta, 4)
    assert float((found / masses).log().abs().max()) < 8 * error  # that of the mass and that of the total


def test_one_mode_is_a_product_of_bits() -> None:
    mode = modes(120)[:1]
    exact = 120 * math.log1p(math.exp(-2.0))
    assert log_total(LOG_REWARDS["distance"], mode, 2.0) == pytest.approx(exact, abs=1e-10)
    assert float(ball_masses(LOG_REWARDS["distance"], mode, 2.0, 120)) == pytest.approx(1.0, abs=1e-10)
