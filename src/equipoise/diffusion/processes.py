"""Diffusion processes: what a network's output does to a state, and how an object is noised.

Steps are numbered in the generating direction: state 0 is noise, state `steps` the object. Every process here is linear
in the state and in the network's output, with noise of a standard deviation that depends on the step alone, so that one
record of schedules describes Euler-Maruyama, DDPM and DDIM with noise alike, and two models of one process differ by
their outputs only: their log-ratio needs no difference of densities (`ratios`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

PREDICTIONS = ("epsilon", "sample", "v_prediction")
VARIANCES = ("posterior", "forward")


@dataclass(frozen=True, eq=False)
class Process:
    """The schedules of a process, each (steps,) float64 but `labels`.

    Generating, x_{t+1} = keep x_t + gain f(x_t, t) + std noise; noising, x_t = back_keep x_{t+1} + back_std noise; the
    output that denoises best given the object is state_part x_t + object_part x_T, and x_t given the object is
    object_keep x_T + object_std noise.

    Attributes:
        keep: factor of the state.
        gain: factor of the network's output.
        std: of a generating step's noise, shared by every model of the process; 0 in the last step alone, which is
            then the prior's for all of them.
        back_keep: factor of the state in a noising step.
        back_std: of a noising step's noise.
        state_part: of the best output.
        object_part: of the best output.
        start_std: of state 0, a centred normal; 0: it is the origin.
        labels: (steps,) what the network is told of each step.
        reference_std: of the object of the process whose output is 0, where that is a Brownian motion from the
            origin; None: sampling from scratch has no reference of its own.
    """

    keep: Tensor
    gain: Tensor
    std: Tensor
    back_keep: Tensor
    back_std: Tensor
    state_part: Tensor
    object_part: Tensor
    start_std: float
    labels: Tensor
    reference_std: float | None = None

    def __post_init__(self) -> None:
        if not bool((self.std[:-1] > 0).all()) or float(self.std[-1]) < 0:
            step = int((self.std <= 0).int().argmax())
            raise ValueError(
                f"step {step} of {self.steps} has no noise (std {float(self.std[step]):g}): a trajectory's probability "
                "needs noise in every step but the last; use DDPM, or DDIM with eta > 0"
            )

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.std)

    @property
    def noiseless_end(self) -> bool:
        """Whether the last step has no noise."""
        return float(self.std[-1]) == 0.0

    def marginals(self) -> tuple[Tensor, Tensor]:
        """object_keep and object_std of every state, (steps + 1,)."""
        keep, variance = [torch.ones((), dtype=torch.float64)], [torch.zeros((), dtype=torch.float64)]
        for factor, std in zip(self.back_keep.flip(0), self.back_std.flip(0), strict=True):
            keep.append(factor * keep[-1])
            variance.append(factor**2 * variance[-1] + std**2)
        return torch.stack(keep[::-1]), torch.stack(variance[::-1]).sqrt()

    def require_same(self, other: Process) -> None:
        """Raises a ValueError where another process differs from this one."""
        if self.steps != other.steps:
            raise ValueError(f"the model has {self.steps} steps and its prior {other.steps}: they must be the same")
        if not torch.allclose(self.std, other.std, rtol=1e-9, atol=0.0):
            step = int((self.std - other.std).abs().argmax())
            raise ValueError(
                f"sigma of step {step} is {float(self.std[step]):g} in the model and {float(other.std[step]):g} in its "
                "prior: with different sigmas their log-ratio is unbounded as steps shrink; give both one process"
            )
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor) and not torch.allclose(value, getattr(other, entry.name), rtol=1e-9):
                raise ValueError(f"'{entry.name}' of the model and of its prior differ: give both one process")
        if self.start_std != other.start_std:
            raise ValueError(f"the model starts with std {self.start_std:g} and its prior with {other.start_std:g}")


def brownian(steps: int, variance: float | Sequence[float] = 1.0, *, time: float = 1.0) -> Process:
    """Euler-Maruyama of dx = f(x, t) dt + sigma dW from the origin; noising is the Brownian bridge pinned there.

    Source: Zhang and Chen, 2022, "Path Integral Sampler", arXiv 2111.15141; the setting of Venkatraman et al., 2024,
        arXiv 2405.20971.

    Args:
        steps: of equal length time / steps.
        variance: sigma^2 per unit of time, > 0: one number, or one of each step.
        time: at the end, > 0.

    Raises:
        ValueError: no steps, another number of variances, or values that are not positive.

    Example:
        >>> process = brownian(100, 5.0)
        >>> process.steps, round(float(process.std[0]) ** 2, 6)
        (100, 0.05)

    Use it to sample from a density from scratch, and for priors of few dimensions.
    """
    if steps < 1 or not time > 0:
        raise ValueError(f"{steps} steps in a time of {time}: at least one step and a positive time were expected")
    sigma2 = torch.as_tensor(variance, dtype=torch.float64).expand(steps) if _one(variance) else _each(variance, steps)
    if not bool((sigma2 > 0).all()):
        raise ValueError(f"variance is {variance}: positive numbers were expected")
    dt = time / steps
    after = (sigma2 * dt).cumsum(0)
    before, total = after - sigma2 * dt, after[-1]
    back_std = (sigma2 * dt * before / after).sqrt()
    pull = sigma2 / (total - before)
    ones = torch.ones(steps, dtype=torch.float64)
    return Process(
        keep=ones,
        gain=ones * dt,
        std=(sigma2 * dt).sqrt(),
        back_keep=before / after,
        back_std=back_std,
        state_part=-pull,
        object_part=pull,
        start_std=0.0,
        labels=torch.arange(steps, dtype=torch.float64) * dt,
        reference_std=math.sqrt(float(total)),
    )


def variance_preserving(
    alpha_bar: Tensor,
    *,
    eta: float = 1.0,
    prediction: str = "epsilon",
    variance: str = "posterior",
    labels: Tensor | None = None,
) -> Process:
    """DDPM (eta = 1), or DDIM with noise (0 < eta < 1), of a schedule of signal shares.

    Source: Ho et al., 2020, "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, eq. 6-7 and 11; Song et al.,
        2021, "Denoising Diffusion Implicit Models", arXiv 2010.02502, eq. 12 and 16; v: Salimans and Ho, 2022, arXiv
        2202.00512.

    Args:
        alpha_bar: share of signal in the variance of each state, (steps + 1,), rising from noise to the object; the
            last is at most 1.
        eta: share of DDPM's noise, in (0, 1].
        prediction: what the network's output is: "epsilon", "sample" or "v_prediction".
        variance: of a step: "posterior" (given the object), or "forward" (that of the noising step, DDPM's other
            choice; eta must be 1). With "posterior" the last step has no noise where alpha_bar ends at 1.
        labels: (steps,) what the network is told of each step; None: its noising time, counted down.

    Raises:
        ValueError: a schedule that does not rise within (0, 1], or an unknown choice; eta = 0 leaves no noise.

    Example:
        >>> import torch
        >>> process = variance_preserving(torch.linspace(0.01, 1.0, 6), variance="forward")
        >>> process.steps, process.noiseless_end
        (5, False)

    Use it for images. With eta well below 1 log-ratios are large, since both models' noise is small.
    """
    alpha_bar = alpha_bar.double()
    if prediction not in PREDICTIONS or variance not in VARIANCES:
        raise ValueError(f"prediction '{prediction}', variance '{variance}': use one of {PREDICTIONS}, {VARIANCES}")
    rising = alpha_bar.dim() == 1 and len(alpha_bar) > 1 and bool((alpha_bar.diff() > 0).all())
    if not rising or float(alpha_bar[0]) <= 0 or float(alpha_bar[-1]) > 1 + 1e-12:
        raise ValueError(f"alpha_bar {alpha_bar.tolist()[:8]}: shares that rise from noise to the object, in (0, 1]")
    if not 0 < eta <= 1 or (variance == "forward" and eta != 1):
        raise ValueError(f"eta is {eta}: more than 0, at most 1, and 1 with variance 'forward'; without noise a "
                         "trajectory has no probability")  # fmt: skip
    now, after = alpha_bar[:-1], alpha_bar[1:].clamp(max=1.0)
    forward_variance = 1 - now / after
    posterior = ((1 - after) / (1 - now) * forward_variance).clamp(min=0.0)
    # The mean of x_{t+1} is signal * (estimate of the object) + direction * (estimate of the noise).
    signal, direction = after.sqrt(), (1 - after - eta**2 * posterior).clamp(min=0.0).sqrt()
    object_state, object_output, noise_state, noise_output = _estimates(prediction, now)
    state_part, object_part = _best_output(prediction, now)
    return Process(
        keep=signal * object_state + direction * noise_state,
        gain=signal * object_output + direction * noise_output,
        std=(eta * posterior.sqrt()) if variance == "posterior" else forward_variance.sqrt(),
        back_keep=(now / after).sqrt(),
        back_std=forward_variance.sqrt(),
        state_part=state_part,
        object_part=object_part,
        start_std=1.0,
        labels=torch.arange(len(now) - 1, -1, -1, dtype=torch.float64) if labels is None else labels.double(),
    )


def cosine_schedule(steps: int, offset: float = 0.008) -> Tensor:
    """Shares of signal, (steps + 1,), rising as a squared cosine; the first noising step is at most 0.999.

    Source: Nichol and Dhariwal, 2021, "Improved Denoising Diffusion Probabilistic Models", arXiv 2102.09672, eq. 17.

    Example:
        >>> cosine_schedule(4).shape
        torch.Size([5])
    """
    place = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    share = torch.cos((place + offset) / (1 + offset) * math.pi / 2) ** 2
    kept = (share[1:] / share[:-1]).clamp(min=1e-3)  # of the signal, step by step, from the object to noise
    return torch.cat([torch.ones(1, dtype=torch.float64), kept.cumprod(0)]).flip(0)


def _estimates(prediction: str, share: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Estimates of the object and of the noise, as factors of state and output."""
    signal, noise = share.sqrt(), (1 - share).sqrt()
    zero, one = torch.zeros_like(share), torch.ones_like(share)
    if prediction == "epsilon":
        return 1 / signal, -noise / signal, zero, one
    if prediction == "sample":
        return zero, one, 1 / noise, -signal / noise
    return signal, -noise, noise, signal


def _best_output(prediction: str, share: Tensor) -> tuple[Tensor, Tensor]:
    """The output that is exact for a given object, as factors of state and object."""
    signal, noise = share.sqrt(), (1 - share).sqrt()
    if prediction == "epsilon":
        return 1 / noise, -signal / noise
    if prediction == "sample":
        return torch.zeros_like(share), torch.ones_like(share)
    return signal / noise, -1 / noise


def _one(variance: float | Sequence[float]) -> bool:
    return isinstance(variance, int | float)


def _each(variance: float | Sequence[float], steps: int) -> Tensor:
    given = torch.as_tensor(variance, dtype=torch.float64)
    if given.shape != (steps,):
        raise ValueError(f"{len(given)} variances for {steps} steps: one number, or one of each step, was expected")
    return given
