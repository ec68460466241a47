"""What no sampler of a process can fall below: its steps have the process's noise, the target's steps have less.

A sampler from scratch draws x_{t+1} = x_t + drift + noise of variance v_t, whatever its network. The target's own
path, an object and the bridge to it, is the Brownian motion reweighted by r = target / N(0, V_T): a Markov chain too,
whose steps are the motion's times the reward-to-go E[r(x_T) | x_{t+1}]. For a Gaussian target N(m, s^2) that is a
Gaussian of precision P_{t+1} = P_T / (1 + P_T R_{t+1}), where P_T = 1 / s^2 - 1 / V_T and R is the variance that
remains, and the target's step has variance v_t / (1 + a_t), with a_t = v_t P_{t+1}. The best a sampler can do is to
have each step's mean right; what is left is a divergence of two Gaussians of one mean, the same in every state.

P_T is negative where the target is wider than the motion's end, and 0 where it is as wide. 1 + P_T R > 0 even then,
since R <= V_T and 1 / s^2 > 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from equipoise.diffusion.processes import Process


@dataclass(frozen=True)
class Floor:
    """The smallest bounds' gaps, nats: one sampler attains both.

    Attributes:
        elbo_gap: log Z - ELBO, the KL of model to target paths.
        eubo_gap: EUBO - log Z, the KL of target to model paths.
    """

    elbo_gap: float
    eubo_gap: float

    @property
    def total(self) -> float:
        """EUBO - ELBO."""
        return self.elbo_gap + self.eubo_gap


def gaussian_floor(process: Process, std: float, dimensions: int) -> Floor:
    """The floor of a sampler from scratch whose target is N(m, std^2 I), for any m.

    With a_t of the module's head, KL of model to target is sum_t d (a_t - ln(1 + a_t)) / 2 and KL of target to model
    sum_t d (ln(1 + a_t) - a_t / (1 + a_t)) / 2. Both fall as 1 / steps.

    Source: derived here; the reward-to-go as a change of measure: Zhang and Chen, 2022, "Path Integral Sampler", arXiv
        2111.15141.

    Args:
        process: a Brownian motion from the origin (`processes.brownian`).
        std: s of the target, > 0.
        dimensions: d of an object.

    Raises:
        ValueError: a process of another kind, or values that are not positive.

    Example:
        >>> from equipoise.diffusion.processes import brownian
        >>> coarse, fine = (gaussian_floor(brownian(steps, 4.0), 0.5, 2) for steps in (10, 1000))
        >>> f"{coarse.total:.2f} {fine.total:.4f}"
        '1.41 0.0141'
        >>> f"{gaussian_floor(brownian(10, 4.0), 2.0, 2).total:.2f}"  # the motion's own end
        '0.00'

    Use it to judge a sampler from scratch: a gap near its floor cannot be trained away, only more steps help.
    """
    excess = _excess(process, std, dimensions)
    logs = excess.log1p()
    half = 0.5 * dimensions
    elbo_gap = half * (excess - logs).sum()
    eubo_gap = half * (logs - excess / (1 + excess)).sum()
    return Floor(float(elbo_gap), float(eubo_gap))


def log_z_bias(process: Process, std: float, dimensions: int, noise: float) -> float:
    """How far below log Z a learned log Z settles while exploration inflates the noise of the paths.

    On paths of the best sampler whose steps have variance v_t k_t, k_t = 1 + noise^2 / v_t, its log-ratio to the target
    has mean sum_t d (a_t k_t - ln(1 + a_t)) / 2, and the squared loss puts minus that into log Z. The means of the
    steps, and so the samples, are not biased. Without noise it is the ELBO's gap.

    Args:
        process: a Brownian motion from the origin.
        std: of the target, > 0.
        dimensions: of an object.
        noise: `Behaviour.noise`, the extra standard deviation of each step.

    Raises:
        ValueError: as `gaussian_floor`, or a negative noise.

    Example:
        >>> from equipoise.diffusion.processes import brownian
        >>> process = brownian(20, 1.0)
        >>> round(log_z_bias(process, 0.5, 2, 0.2), 2), round(gaussian_floor(process, 0.5, 2).elbo_gap, 2)
        (1.21, 0.06)

    Use it to see why exploration ends at 0, and why log Z is reported as an importance estimate.
    """
    if noise < 0:
        raise ValueError(f"noise is {noise}: a standard deviation of at least 0 was expected")
    excess = _excess(process, std, dimensions)
    inflation = 1 + noise**2 / process.std.square()
    return float(0.5 * dimensions * (excess * inflation - excess.log1p()).sum())


def _excess(process: Process, std: float, dimensions: int) -> Tensor:
    """a_t of each step, (steps,) float64: variance times the precision of the reward-to-go at the step's end."""
    if process.reference_std is None:
        raise ValueError("the process is no Brownian motion from the origin: its floor has no closed form here")
    if not (std > 0 and math.isfinite(std)) or dimensions < 1:
        raise ValueError(f"std {std} of {dimensions} dimensions: a positive number and at least one were expected")
    variance = process.std.square()
    total = variance.sum()
    precision = 1 / std**2 - 1 / total
    return variance * precision / (1 + precision * (total - variance.cumsum(0)))
