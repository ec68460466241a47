"""Losses of a residual, each named by the divergence that it minimises.

For a residual r = log model - log target and any f-divergence D_f(model||target) = E_target f(model / target), the loss

    g(r) = int_0^r psi(t) dt    with slope    psi(r) = f'(e^r) - f'(1)

has, on samples of the model that are not differentiated, the expected gradient of D_f; on samples of any other
distribution that covers the target, its minimum is still the target. So the loss is chosen by what it does on-policy
and is valid off-policy. The slope is what trains: `loss` is differentiated by it exactly.

=================  ============================================  =======  ======================
name               divergence                                    f''(1)   grows above 0 / below
=================  ============================================  =======  ======================
reverse_kl         KL(model||target); r^2 / 2                    1        quadratic / quadratic
forward_kl         KL(target||model)                             1        linear / exponential
hellinger          4 H^2, H^2 = sum (sqrt p - sqrt q)^2 / 2      1        linear / exponential
pearson            chi^2(model||target) / 2                      1        exponential / linear
neyman             chi^2(target||model) / 2                      1        linear / exponential
alpha              alpha-divergence of the given order           1        by the order
jeffreys           KL(model||target) + KL(target||model)         2        quadratic / exponential
shifted_cosh       pearson + forward_kl; 2 cosh r - 2            2        exponential / exponential
jensen_shannon     mean KL of both to their mean                 1/4      linear / quadratic
le_cam             sum (p - q)^2 / (p + q) / 2                   1/2      linear / linear
total_variation    sum |p - q| / 2; |r| / 2                      -        linear / linear
huber              reverse KL with slopes held to [-d, d]        1        linear / linear
clipped            reverse KL without slope where r^2 <= c       -        quadratic / quadratic
=================  ============================================  =======  ======================

An exponential side is exact up to exponent 30 and linear beyond, so the slope keeps its sign and is finite.

Source: Fawkes and Hartford, 2026, "f-Trajectory Balance: A Loss Family for Tuning GFlowNets, Generative Models, and
        LLMs with Off- and On-Policy Data", arXiv 2605.15417 (alpha family; their sign is ours); Hu et al., 2024,
        "Beyond Squared Error: Exploring Loss Design for Enhanced Training of Generative Flow Networks", arXiv
        2410.02596 (shifted cosh; their residual is target minus model, so their Linex(1) is our forward_kl).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.objectives.arguments import finite, known, positive, real
from equipoise.objectives.curves import (
    UNBOUNDED,
    Alphas,
    Clipped,
    Curve,
    FromGenerator,
    Huber,
    JensenShannon,
    LeCam,
    TotalVariation,
    custom,
)
from equipoise.objectives.names import DIVERGENCES

__all__ = ["DIVERGENCES", "Divergence", "divergence"]

ORDERS = {"reverse_kl": 1.0, "forward_kl": 0.0, "hellinger": 0.5, "pearson": 2.0, "neyman": -1.0}
HALF_SQUARE = Alphas((0.0,))
CURVES: dict[str, Curve] = {
    "jeffreys": Alphas((0.0, -1.0)),
    "shifted_cosh": Alphas((1.0, -1.0)),
    "jensen_shannon": JensenShannon(),
    "le_cam": LeCam(),
    "total_variation": TotalVariation(),
}


@dataclass(frozen=True)
class Divergence:
    """A loss of a residual and the divergence it belongs to; made by `divergence`.

    Attributes:
        name: Name of the divergence, "custom" for a user's own.
        curve: Its value, slope and generator where no exponent passes 30.
        order: Order of the alpha family, 1 + temper * (order - 1) once tempered; None outside the family.
        scale: Factor of the family's loss, the temper; 1 outside the family. The constant that minimises a batch's
            loss does not depend on it.
    """

    name: str
    curve: Curve
    order: float | None = None
    scale: float = 1.0

    def loss(self, residual: Tensor) -> Tensor:
        """g(residual) >= 0, elementwise; its gradient is `slope(residual)` exactly.

        Args:
            residual: Any shape, in nats, log model minus log target. Half precision is computed in float32.

        Raises:
            ValueError: The residual is complex.

        Example:
            >>> import torch
            >>> residual = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
            >>> loss = divergence("forward_kl").loss(residual)
            >>> loss.detach()
            tensor([0.7183, 0.0000, 0.3679])
            >>> torch.autograd.grad(loss.sum(), residual)[0]
            tensor([-1.7183,  0.0000,  0.6321])

        Use it on a residual with log Z in it; without, every loss but the reverse KL on-policy aims elsewhere. Values
        of two divergences do not compare: log the residual's own statistics.
        """
        residual = real("residual", residual)
        if self.curve == HALF_SQUARE:  # autograd's gradient of it is the slope to the last digit, and costs less
            return residual.square() / 2
        return Primitive.apply(residual, self.curve)

    def slope(self, residual: Tensor) -> Tensor:
        """psi(residual) = f'(e^residual) - f'(1), elementwise: the coefficient of the gradient of log model.

        Args:
            residual: Any shape, in nats.

        Raises:
            ValueError: The residual is complex.

        Example:
            >>> import torch
            >>> divergence("total_variation").slope(torch.tensor([-3.0, 0.0, 3.0]))
            tensor([-0.5000,  0.0000,  0.5000])

        Use it to see how hard a trajectory pulls; `loss` is what to differentiate.
        """
        return slope_of(self.curve, real("residual", residual))

    def generator(self, ratio: Tensor) -> Tensor:
        """f(ratio) = int_1^ratio slope(log t) dt, so that D_f(model||target) = E_target f(model / target).

        f(1) = f'(1) = 0. Without the linear continuation: this is the divergence itself. Computed in float64, returned
        in the dtype of the ratio.

        Args:
            ratio: Any shape, model / target, at least 0.

        Raises:
            ValueError: A ratio is negative.

        Example:
            >>> import torch
            >>> model, target = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
            >>> (target * divergence("total_variation").generator(model / target)).sum()
            tensor(0.2500)

        Use it where both distributions can be enumerated; f(0) is infinite where the divergence is.
        """
        ratio = real("ratio", ratio)
        if bool((ratio < 0).any()):
            raise ValueError(f"ratio has the negative value {float(ratio.min())}; expected model / target >= 0")
        return self.curve.generator(ratio.double()).to(ratio.dtype)


class Primitive(torch.autograd.Function):
    """The value of a curve, differentiated by its slope: autograd through the value would lose digits near 0."""

    generate_vmap_rule = True

    @staticmethod
    def forward(residual: Tensor, curve: Curve) -> Tensor:
        if curve.bounds == UNBOUNDED:
            return curve.value(residual)
        inner = residual.clamp(*curve.bounds)
        return curve.value(inner) + curve.slope(inner) * (residual - inner)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Curve], output: Tensor) -> None:
        residual, ctx.curve = inputs
        ctx.save_for_backward(residual)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (residual,) = ctx.saved_tensors
        return gradients[0] * slope_of(ctx.curve, residual), None


def slope_of(curve: Curve, residual: Tensor) -> Tensor:
    """The slope of a curve, constant beyond its bounds."""
    return curve.slope(residual if curve.bounds == UNBOUNDED else residual.clamp(*curve.bounds))


def divergence(
    name: str | None = None,
    *,
    order: float | None = None,
    delta: float | None = None,
    threshold: float | None = None,
    temper: float = 1.0,
    slope: Callable[[Tensor], Tensor] | None = None,
    generator_derivative: Callable[[Tensor], Tensor] | None = None,
) -> Divergence:
    """The loss g(temper * r) / temper of a named divergence, or of a user's own slope psi(r) or derivative f'(u).

    In the alpha family tempering changes the order: L_order(b r) / b = b L_{1 + b (order - 1)}(r), so a small temper
    is almost the reverse KL, whatever the name.

    Source: the table of this module; tempering, Fawkes and Hartford, 2026, arXiv 2605.15417; clipping, the published
        code of Venkatraman et al., 2024, "Amortizing Intractable Inference in Diffusion Models for Vision, Language,
        and Control", arXiv 2405.20971.

    Args:
        name: One of DIVERGENCES.
        order: Order of "alpha", required there: 1 is KL(model||target), 0 KL(target||model); below 1 the loss covers
            modes, above 1 it seeks them.
        delta: Residual beyond which "huber" is linear, in nats; 1 by default.
        threshold: Squared residual up to which "clipped" is 0, in nats^2; 0.1 by default.
        temper: Factor on the residual, > 0.
        slope: A function of a float64 residual of any shape, nondecreasing, 0 at 0. It goes on as a constant beyond
            the residuals where it is a number below e^30. The loss is its integral by quadrature.
        generator_derivative: f'(u), a function of a float64 ratio u > 0 of any shape, nondecreasing.

    Raises:
        ValueError: An unknown name (the nearest is named); none or more than one of name, slope and
            generator_derivative; a missing or needless order, delta or threshold, or one out of range; a temper that
            is not positive; a slope that decreases or is not 0 at 0.

    Example:
        >>> import torch
        >>> divergence("alpha", order=0.75).order
        0.75
        >>> divergence("forward_kl", temper=0.005).order
        0.995
        >>> own = divergence(generator_derivative=torch.log)
        >>> own.loss(torch.tensor([2.0]))
        tensor([2.])

    Use reverse_kl first; forward_kl, hellinger or an order below 1 where modes are missed; jensen_shannon, le_cam or
    huber where residuals are so large that one trajectory rules the batch.
    """
    positive("temper", temper)
    if sum(given is not None for given in (name, slope, generator_derivative)) != 1:
        raise ValueError("expected exactly one of a name, slope=... and generator_derivative=...")
    if name is None:
        absent("a loss of one's own", order=order, delta=delta, threshold=threshold)
        function = FromGenerator(generator_derivative) if generator_derivative is not None else slope
        assert function is not None
        return tempered(Divergence("custom", custom(function)), temper)
    return tempered(named(known("divergence", name, DIVERGENCES), order, delta, threshold), temper)


def named(name: str, order: float | None, delta: float | None, threshold: float | None) -> Divergence:
    """The divergence of a known name, once what it needs is given and nothing else is."""
    if name == "alpha":
        absent(name, delta=delta, threshold=threshold)
        if order is None:
            raise ValueError('alpha needs an order: divergence("alpha", order=0.5)')
        finite("order", order)
        return of_order(name, float(order))
    if name == "huber":
        absent(name, order=order, threshold=threshold)
        positive("delta", delta := 1.0 if delta is None else delta)
        return Divergence(name, Huber(float(delta)))
    if name == "clipped":
        absent(name, order=order, delta=delta)
        positive("threshold", threshold := 0.1 if threshold is None else threshold)
        return Divergence(name, Clipped(float(threshold)))
    absent(name, order=order, delta=delta, threshold=threshold)
    return of_order(name, ORDERS[name]) if name in ORDERS else Divergence(name, CURVES[name])


def of_order(name: str, order: float) -> Divergence:
    """The member of the alpha family with this order."""
    return Divergence(name, Alphas((order - 1,)), order)


def tempered(plain: Divergence, temper: float) -> Divergence:
    """g(temper * r) / temper."""
    if temper == 1:
        return plain
    temper = float(temper)
    curve = plain.curve.tempered(temper)
    if plain.order is None:
        return Divergence(plain.name, curve)
    return Divergence(plain.name, curve, 1 + temper * (plain.order - 1), temper)


def absent(
    name: str, *, order: float | None = None, delta: float | None = None, threshold: float | None = None
) -> None:
    """Refuse parameters that a divergence does not have.

    Raises:
        ValueError: One is given.
    """
    for parameter, value in (("order", order), ("delta", delta), ("threshold", threshold)):
        if value is not None:
            raise ValueError(f"{name} takes no {parameter}; got {parameter}={value}")


def chosen(choice: Divergence | str) -> Divergence:
    """A divergence given by itself or by its name."""
    return choice if isinstance(choice, Divergence) else divergence(choice)
