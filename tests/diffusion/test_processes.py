"""Processes against the papers' formulas, written out here; the best output against Bayes' rule for Gaussians."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffusion.small import FLOAT
from equipoise.diffusion.processes import (
    PREDICTIONS,
    Process,
    brownian,
    cosine_schedule,
    variance_preserving,
)

VARIANCES = [0.4, 2.0, 1.0, 0.1, 3.0]
SCHEDULES = {"cosine": cosine_schedule(9), "linear": torch.linspace(0.02, 0.97, 8, dtype=FLOAT)}


def near(first: Tensor, second: Tensor, tolerance: float = 1e-12) -> None:
    assert first.shape == second.shape
    assert torch.allclose(first.double(), second.double(), rtol=tolerance, atol=tolerance)


def test_the_bridge_has_the_marginals_of_a_brownian_motion_pinned_at_both_ends() -> None:
    """x_t given x_T = y and x_0 = 0 is N(y s / S, s (S - s) / S), where s and S are the variances at t and T."""
    process = brownian(5, VARIANCES, time=2.0)
    clock = torch.tensor([0.0, *VARIANCES], dtype=FLOAT).cumsum(0) * 0.4
    keep, std = process.marginals()
    near(keep, clock / clock[-1])
    near(std.square(), clock * (clock[-1] - clock) / clock[-1])
    assert process.reference_std == pytest.approx(math.sqrt(float(clock[-1])))


def test_a_bridge_step_is_bayes_rule_for_the_motions_step() -> None:
    """p(x_t | x_{t+1}) of the motion without drift: N(x_t; 0, s) N(x_{t+1}; x_t, v) up to a constant in x_t."""
    process = brownian(5, VARIANCES, time=2.0)
    clock = torch.tensor([0.0, *VARIANCES], dtype=FLOAT).cumsum(0) * 0.4
    assert process.back_keep[0] == 0 and process.back_std[0] == 0  # the start is the origin
    for t in range(1, 5):
        step = clock[t + 1] - clock[t]
        precision = 1 / clock[t] + 1 / step
        near(process.back_std[t] ** 2, 1 / precision)
        near(process.back_keep[t], 1 / step / precision)


def test_euler_maruyama_moves_by_drift_times_dt_with_the_motions_variance() -> None:
    process = brownian(100, 5.0)
    near(process.keep, torch.ones(100, dtype=FLOAT))
    near(process.gain, torch.full((100,), 0.01, dtype=FLOAT))
    near(process.std.square(), torch.full((100,), 0.05, dtype=FLOAT))
    near(process.labels, torch.arange(100, dtype=FLOAT) / 100)
    assert process.start_std == 0.0 and not process.noiseless_end


def noise_estimate(prediction: str, output: Tensor, state: Tensor, share: Tensor) -> Tensor:
    """epsilon of x = sqrt(share) x_0 + sqrt(1 - share) epsilon, from what the network gives."""
    if prediction == "epsilon":
        return output
    if prediction == "sample":
        return (state - share.sqrt() * output) / (1 - share).sqrt()
    # v = sqrt(share) epsilon - sqrt(1 - share) x_0: the rotation of (x_0, epsilon), so that epsilon is
    return (1 - share).sqrt() * state + share.sqrt() * output


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("variance", ["posterior", "forward"])
def test_a_ddpm_step_has_the_published_mean_and_variance(schedule: str, prediction: str, variance: str) -> None:
    """Ho et al. 2020, eq. 11, one mean for both variances: (x - beta / sqrt(1 - abar) epsilon) / sqrt(alpha)."""
    bar = SCHEDULES[schedule]
    process = variance_preserving(bar, prediction=prediction, variance=variance)
    noise = torch.Generator().manual_seed(0)
    state, output = torch.randn(2, len(bar) - 1, generator=noise, dtype=FLOAT)
    now, after = bar[:-1], bar[1:]
    alpha = now / after
    beta = 1 - alpha
    tilde = (1 - after) / (1 - now) * beta
    epsilon = noise_estimate(prediction, output, state, now)
    mean = (state - beta / (1 - now).sqrt() * epsilon) / alpha.sqrt()
    near(process.keep * state + process.gain * output, mean, 1e-9)
    near(process.std.square(), beta if variance == "forward" else tilde)
    assert process.noiseless_end == (variance == "posterior" and schedule == "cosine")


@pytest.mark.parametrize("eta", [0.2, 0.7, 1.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_ddim_step_has_the_published_mean_and_variance(prediction: str, eta: float) -> None:
    """Song et al. 2021, eq. 12 and 16: sqrt(abar') x_0 + sqrt(1 - abar' - sigma^2) epsilon + sigma noise."""
    bar = SCHEDULES["linear"]
    process = variance_preserving(bar, eta=eta, prediction=prediction)
    noise = torch.Generator().manual_seed(1)
    state, output = torch.randn(2, len(bar) - 1, generator=noise, dtype=FLOAT)
    now, after = bar[:-1], bar[1:]
    sigma = eta * ((1 - after) / (1 - now)).sqrt() * (1 - now / after).sqrt()
    epsilon = noise_estimate(prediction, output, state, now)
    estimate = (state - (1 - now).sqrt() * epsilon) / now.sqrt()
    mean = after.sqrt() * estimate + (1 - after - sigma**2).sqrt() * epsilon
    near(process.keep * state + process.gain * output, mean, 1e-10)
    near(process.std, sigma)


def test_predictions_say_the_same_of_a_state_and_move_it_alike() -> None:
    bar = SCHEDULES["cosine"]
    noise = torch.Generator().manual_seed(2)
    state, best_object = torch.randn(2, 9, generator=noise, dtype=FLOAT)
    moved = []
    for prediction in PREDICTIONS:
        process = variance_preserving(bar, prediction=prediction)
        output = process.state_part * state + process.object_part * best_object
        moved.append(process.keep * state + process.gain * output)
    near(moved[0], moved[1], 1e-9)
    near(moved[0], moved[2], 1e-9)


def test_noising_reaches_every_state_with_its_share_of_signal() -> None:
    for bar in SCHEDULES.values():
        process = variance_preserving(bar)
        keep, std = process.marginals()
        near(keep, (bar / bar[-1]).sqrt(), 1e-10)
        near(std.square(), 1 - bar / bar[-1], 1e-10)


def posterior_of_next(process: Process, t: int) -> tuple[Tensor, Tensor, Tensor]:
    """E[x_{t+1} | x_t, x_T] as factors of x_t and x_T, and its variance, by Bayes' rule for Gaussians."""
    keep, std = process.marginals()
    prior_precision = 1 / std[t + 1].square().clamp(min=1e-300)
    likelihood = process.back_keep[t] ** 2 / process.back_std[t] ** 2
    variance = 1 / (prior_precision + likelihood)
    of_state = variance * process.back_keep[t] / process.back_std[t] ** 2
    return of_state, variance * prior_precision * keep[t + 1], variance


@pytest.mark.parametrize("prediction", [None, *PREDICTIONS])
def test_the_best_output_moves_a_state_to_its_posterior_mean(prediction: str | None) -> None:
    """For DDPM (eta 1) whose schedule ends in the object, and for the bridge, whose first noising step is certain."""
    bar = SCHEDULES["cosine"]
    process = brownian(5, VARIANCES) if prediction is None else variance_preserving(bar, prediction=prediction)
    for t in range(1 if prediction is None else 0, process.steps - 1):
        of_state, of_object, variance = posterior_of_next(process, t)
        near(process.keep[t] + process.gain[t] * process.state_part[t], of_state, 1e-8)
        near(process.gain[t] * process.object_part[t], of_object, 1e-8)
        if prediction is None:
            assert variance < process.std[t] ** 2  # a motion's step has more noise than the bridge's
        else:
            near(process.std[t] ** 2, variance, 1e-8)
    last = process.steps - 1  # the last step reaches the object itself
    near(process.keep[last] + process.gain[last] * process.state_part[last], torch.zeros((), dtype=FLOAT), 1e-8)
    near(process.gain[last] * process.object_part[last], torch.ones((), dtype=FLOAT), 1e-8)


def test_the_first_step_of_a_bridge_heads_for_the_object_in_proportion_to_its_variance() -> None:
    process = brownian(5, VARIANCES)
    clock = torch.tensor(VARIANCES, dtype=FLOAT).cumsum(0)
    near(process.gain[0] * process.object_part[0], clock[0] / clock[-1])


@pytest.mark.parametrize("steps", [4, 50])
def test_the_cosine_schedule_is_the_published_one(steps: int) -> None:
    """Nichol and Dhariwal 2021, eq. 17 with s = 0.008, and their cut of beta at 0.999."""
    place = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
    bar = [1.0]
    for t in range(steps):
        bar.append(bar[-1] * (1 - min(0.999, 1 - place[t + 1] / place[t])))
    near(cosine_schedule(steps), torch.tensor(bar[::-1], dtype=FLOAT))


@pytest.mark.parametrize(
    ("bar", "choices", "message"),
    [
        ([0.1, 0.5, 1.0], {"eta": 0.0}, "without noise a trajectory has no probability"),
        ([0.1, 0.5, 1.0], {"eta": 1.2}, "eta is 1.2"),
        ([0.1, 0.5, 1.0], {"eta": 0.5, "variance": "forward"}, "1 with variance 'forward'"),
        ([0.1, 0.5, 1.0], {"prediction": "noise"}, "prediction 'noise'"),
        ([0.1, 0.5, 1.0], {"variance": "learned"}, "variance 'learned'"),
        ([0.5, 0.1, 1.0], {}, "rise from noise to the object"),
        ([0.0, 0.5, 1.0], {}, "rise from noise to the object"),
        ([0.1, 0.5, 1.1], {}, "rise from noise to the object"),
        ([0.1], {}, "rise from noise to the object"),
    ],
)
def test_a_schedule_without_noise_or_sense_is_an_error(bar: list[float], choices: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variance_preserving(torch.tensor(bar), **choices)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1.0), "at least one step"),
        ((3, 0.0), "positive numbers"),
        ((3, [1.0, -1.0, 1.0]), "positive numbers"),
        ((3, [1.0, 1.0]), "2 variances for 3 steps"),
    ],
)
def test_a_motion_that_does_not_move_is_an_error(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brownian(*arguments)
    with pytest.raises(ValueError, match="positive time"):
        brownian(3, 1.0, time=0.0)


def test_a_step_without_noise_before_the_last_is_an_error() -> None:
    whole = variance_preserving(torch.tensor([0.1, 0.5, 1.0]))
    fields = {name: getattr(whole, name) for name in Process.__dataclass_fields__}
    with pytest.raises(ValueError, match="step 0 of 2 has no noise"):
        Process(**{**fields, "std": torch.tensor([0.0, 0.1], dtype=FLOAT)})
