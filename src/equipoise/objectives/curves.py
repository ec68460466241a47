"""The curves behind the divergences: value g, slope psi = g' and generator f, each in the form that loses no digits.

With r the residual, u = e^r the density ratio and D_f(model||target) = E_target f(u):

    psi(r) = f'(e^r) - f'(1),    g(r) = int_0^r psi(t) dt,    f(u) = int_1^u psi(log t) dt.

Every curve holds between its two bounds; `divergences` goes on linearly beyond them. Values and slopes are computed in
the dtype of the residual, generators in float64.

Source: Fawkes and Hartford, 2026, "f-Trajectory Balance", Prop. 4.2 and 4.4 as quoted in second hand, arXiv 2605.15417;
        rederived, and tested as identities 1 and 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.objectives import quadrature

EXPONENT = 30.0  # beyond it exponential sides go on linearly
FARTHEST = 1e6  # how far out the reach of a user's own slope is looked for
LOG_2 = math.log(2.0)
Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)


class Curve(Protocol):
    """A convex loss of a residual with g(0) = psi(0) = 0, and the f-divergence it belongs to."""

    @property
    def bounds(self) -> Bounds: ...
    def value(self, residual: Tensor) -> Tensor: ...
    def slope(self, residual: Tensor) -> Tensor: ...
    def generator(self, ratio: Tensor) -> Tensor: ...
    def tempered(self, temper: float) -> Curve: ...


def second_remainder(x: Tensor) -> Tensor:
    """(e^x - 1 - x) / x^2, by its series within |x| < 1/4, where the difference would lose its digits."""
    inside = x.abs() < 0.25
    near, far = torch.where(inside, x, 0.0), torch.where(inside, 1.0, x)
    series = torch.full_like(x, 1 / math.factorial(14))
    for n in range(13, 1, -1):
        series.mul_(near).add_(1 / math.factorial(n))
    return torch.where(inside, series, (torch.expm1(far) - far) / (far * far))


@dataclass(frozen=True)
class Alphas:
    """scale * sum over rates k of L_{1+k}: value (e^{kr} - 1 - kr) / k^2, slope (e^{kr} - 1) / k; k = 0 is r^2 / 2.

    One rate is an alpha-divergence of order 1 + k. Rates (0, -1) are Jeffreys', (1, -1) the shifted cosh.
    """

    rates: tuple[float, ...]
    scale: float = 1.0

    @property
    def bounds(self) -> Bounds:
        lowest, highest = min(self.rates), max(self.rates)
        return (EXPONENT / lowest if lowest < 0 else -math.inf, EXPONENT / highest if highest > 0 else math.inf)

    def value(self, residual: Tensor) -> Tensor:
        parts = [second_remainder(rate * residual) if rate else 0.5 for rate in self.rates]
        return self.scale * sum(parts) * residual * residual

    def slope(self, residual: Tensor) -> Tensor:
        parts = [torch.expm1(rate * residual) / rate if rate else residual for rate in self.rates]
        return self.scale * sum(parts[1:], parts[0])

    def generator(self, ratio: Tensor) -> Tensor:
        parts = [alpha_generator(rate, ratio) for rate in self.rates]
        return self.scale * sum(parts[1:], parts[0])

    def tempered(self, temper: float) -> Alphas:
        return Alphas(tuple(temper * rate for rate in self.rates), temper * self.scale)


def alpha_generator(rate: float, ratio: Tensor) -> Tensor:
    """f(u) = (u^a - a u + a - 1) / (a (a - 1)) with a = 1 + rate, as the divided difference (h(a) - h(1)) / (a - 1)
    of h(a) = (u^a - 1) / a, which keeps its digits for a near 0; near a = 1 the integral does."""
    if rate == 0:
        return torch.xlogy(ratio, ratio) - ratio + 1
    if abs(rate) < 1e-3:
        return quadrature.generator(lambda s: torch.expm1(rate * s) / rate, ratio)
    order, logarithm = 1 + rate, ratio.log()
    power = torch.expm1(order * logarithm) / order if order else logarithm
    return (power - (ratio - 1)) / rate


@dataclass(frozen=True)
class Huber:
    """scale * r^2 / 2 within |r| <= delta, linear beyond: the reverse KL with bounded coefficients."""

    delta: float
    scale: float = 1.0
    bounds = UNBOUNDED

    def value(self, residual: Tensor) -> Tensor:
        inner = residual.clamp(-self.delta, self.delta)
        return self.scale * inner * (residual - inner / 2)

    def slope(self, residual: Tensor) -> Tensor:
        return self.scale * residual.clamp(-self.delta, self.delta)

    def generator(self, ratio: Tensor) -> Tensor:
        inner = ratio.clamp(exponential(-self.delta), exponential(self.delta))
        return self.scale * (torch.xlogy(inner, inner) - inner + 1 + inner.log() * (ratio - inner))

    def tempered(self, temper: float) -> Huber:
        return Huber(self.delta / temper, self.scale * temper)


@dataclass(frozen=True)
class Clipped:
    """scale * max(r^2 - threshold, 0) / 2: no gradient where |r| <= sqrt(threshold)."""

    threshold: float
    scale: float = 1.0
    bounds = UNBOUNDED

    def value(self, residual: Tensor) -> Tensor:
        return self.scale * (residual * residual - self.threshold).clamp(min=0.0) / 2

    def slope(self, residual: Tensor) -> Tensor:
        return self.scale * torch.where(residual * residual > self.threshold, residual, 0.0)

    def generator(self, ratio: Tensor) -> Tensor:
        edge = math.sqrt(self.threshold)
        inner = ratio.clamp(exponential(-edge), exponential(edge))
        return self.scale * (torch.xlogy(ratio, ratio) - ratio - torch.xlogy(inner, inner) + inner)

    def tempered(self, temper: float) -> Clipped:
        return Clipped(self.threshold / temper**2, self.scale * temper)


def exponential(x: float) -> float:
    """e^x, infinite where float64 overflows."""
    return math.exp(x) if x < 709 else math.inf


@dataclass(frozen=True)
class TotalVariation:
    """|r| / 2: the same at every temper."""

    bounds = UNBOUNDED

    def value(self, residual: Tensor) -> Tensor:
        return residual.abs() / 2

    def slope(self, residual: Tensor) -> Tensor:
        return residual.sign() / 2

    def generator(self, ratio: Tensor) -> Tensor:
        return (ratio - 1).abs() / 2

    def tempered(self, temper: float) -> TotalVariation:
        return self


@dataclass(frozen=True)
class JensenShannon:
    """g = (r log 2 - Li2(-e^-r) - pi^2 / 12) / 2, slope (log 2 - softplus(-r)) / 2: linear above, quadratic below."""

    bounds = UNBOUNDED

    def value(self, residual: Tensor) -> Tensor:
        m = residual.abs()
        # Li2(-e^m) = -pi^2/6 - m^2/2 - Li2(-e^-m) carries the negative side back to the series' own.
        tail = alternating_dilogarithm(m)
        above = m * LOG_2 + tail - math.pi**2 / 12
        below = m * m / 2 - m * LOG_2 + math.pi**2 / 12 - tail
        return near_zero(self.slope, residual, torch.where(residual < 0, below, above) / 2)

    def slope(self, residual: Tensor) -> Tensor:
        half = residual.clamp(-1.0, 1.0) / 2
        near = half / 2 - torch.log1p(torch.sinh(half) ** 2) / 4
        return torch.where(residual.abs() < 1, near, (LOG_2 + functional.logsigmoid(residual)) / 2)

    def generator(self, ratio: Tensor) -> Tensor:
        return (torch.xlogy(ratio, ratio) - (1 + ratio) * ((1 + ratio) / 2).log()) / 2

    def tempered(self, temper: float) -> Curve:
        return Tempered(self, temper)


@dataclass(frozen=True)
class LeCam:
    """g = 2 log cosh(r/2) + tanh(r/2) - r/2, slope 1/2 - 2 sigmoid(-r)^2 in (-3/2, 1/2)."""

    bounds = UNBOUNDED

    def value(self, residual: Tensor) -> Tensor:
        half = residual / 2
        log_cosh = half.abs() + torch.log1p(torch.exp(-residual.abs())) - LOG_2
        return near_zero(self.slope, residual, 2 * log_cosh + torch.tanh(half) - half)

    def slope(self, residual: Tensor) -> Tensor:
        return torch.tanh(residual / 2) * (0.5 + torch.sigmoid(-residual))

    def generator(self, ratio: Tensor) -> Tensor:
        return (ratio - 1) ** 2 / (2 * (ratio + 1))

    def tempered(self, temper: float) -> Curve:
        return Tempered(self, temper)


def near_zero(slope: Callable[[Tensor], Tensor], residual: Tensor, far: Tensor) -> Tensor:
    """The integral of the slope within |r| < 1, where the closed form cancels; the closed form beyond."""
    near = quadrature.integral(slope, residual.clamp(-1.0, 1.0), quadrature.panel())
    return torch.where(residual.abs() < 1, near, far)


@functools.cache
def alternating_weights(terms: int = 24) -> tuple[float, ...]:
    """c_k with sum_k (-1)^k a_k = sum_k c_k a_k for totally monotone a_k, to a relative error of 6^-terms.

    Source: Cohen, Rodriguez Villegas and Zagier, 2000, "Convergence acceleration of alternating series", algorithm 1.
    """
    power = (3 + math.sqrt(8)) ** terms
    total = (power + 1 / power) / 2
    b, c, weights = -1.0, -total, []
    for k in range(terms):
        c = b - c
        weights.append(c / total)
        b *= (k + terms) * (k - terms) / ((k + 0.5) * (k + 1))
    return tuple(weights)


def alternating_dilogarithm(m: Tensor) -> Tensor:
    """-Li2(-e^-m) = sum_{n>=1} (-1)^(n+1) e^(-nm) / n^2 for m >= 0."""
    weights = alternating_weights()
    n = torch.arange(1, len(weights) + 1, dtype=m.dtype, device=m.device)
    return (torch.exp(-m[..., None] * n) * (m.new_tensor(weights) / (n * n))).sum(-1)


@dataclass(frozen=True)
class Tempered:
    """g(b r) / b of a curve that is not closed under tempering."""

    curve: Curve
    temper: float

    @property
    def bounds(self) -> Bounds:
        low, high = self.curve.bounds
        return low / self.temper, high / self.temper

    def value(self, residual: Tensor) -> Tensor:
        return self.curve.value(self.temper * residual) / self.temper

    def slope(self, residual: Tensor) -> Tensor:
        return self.curve.slope(self.temper * residual)

    def generator(self, ratio: Tensor) -> Tensor:
        return quadrature.generator(self.slope, ratio)

    def tempered(self, temper: float) -> Curve:
        return Tempered(self.curve, self.temper * temper)


@dataclass(frozen=True)
class Custom:
    """A user's own slope psi(r), in float64; the value is its integral."""

    function: Callable[[Tensor], Tensor]
    bounds: Bounds

    def value(self, residual: Tensor) -> Tensor:
        return quadrature.integral(self.function, residual.double(), quadrature.graded()).to(residual.dtype)

    def slope(self, residual: Tensor) -> Tensor:
        return self.function(residual.double()).to(residual.dtype)

    def generator(self, ratio: Tensor) -> Tensor:
        return quadrature.generator(self.function, ratio)

    def tempered(self, temper: float) -> Curve:
        return Tempered(self, temper)


@dataclass(frozen=True)
class FromGenerator:
    """The slope f'(e^r) - f'(1) of a user's own f'."""

    derivative: Callable[[Tensor], Tensor]

    def __call__(self, residual: Tensor) -> Tensor:
        return self.derivative(residual.exp()) - self.derivative(torch.ones_like(residual))


def custom(function: Callable[[Tensor], Tensor]) -> Custom:
    """A user's slope, held within the residuals where it stays below e^30 and is a number.

    Raises:
        ValueError: It is not 0 at 0, it decreases somewhere, or it does not map a tensor to one of its shape.
    """
    probe = torch.linspace(-5.0, 5.0, 200, dtype=torch.float64)
    with torch.no_grad():
        slope = function(probe)
        if not isinstance(slope, Tensor) or slope.shape != probe.shape:
            raise ValueError("the slope of a residual must be a tensor of the residual's shape")
        at_zero = float(function(probe.new_zeros(1)))
        if not abs(at_zero) <= 1e-12:
            raise ValueError(f"the slope at residual 0 is {at_zero}; expected 0, or balance is no minimum")
        if bool((slope.diff() < -1e-9 * (1 + slope[1:].abs())).any()):
            raise ValueError("the slope decreases between residuals -5 and 5; expected a convex loss")
        return Custom(function, (-reach(lambda r: -function(-r)), reach(function)))


def reach(slope: Callable[[Tensor], Tensor]) -> float:
    """The largest residual at which a slope is still a number below e^30; infinite if that is so at 1e6."""

    def holds(r: float) -> bool:
        return float(slope(torch.tensor([r], dtype=torch.float64)).abs()) <= math.exp(EXPONENT)

    if holds(FARTHEST):
        return math.inf
    low, high = 0.0, FARTHEST
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low * (1 - 1e-6)  # so that it still holds once rounded to float32
