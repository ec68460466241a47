"""Brownian motion on rotations: the density of its heat kernel against the uniform measure, and draws from it.

A walk of variance v turns a rotation by R Exp(xi), xi ~ N(0, v 1) where v is small. Its kernels compose exactly:
steps of variances v and w make one of v + w, so that a path's steps and its marginals agree, as those of a Gaussian
on the rotation vector do not.

With omega the angle of the turn, the density against the uniform (Haar) measure is

    f(omega; v) = sum_l (2 l + 1) exp(-l (l + 1) v / 2) sin((l + 1/2) omega) / sin(omega / 2),

which converges fast where v is large. Where it is small, its Poisson resummation does:

    f = exp(v / 8) sqrt(2 pi) v^(-3/2) sum_n (-1)^n (omega + 2 pi n) exp(-(omega + 2 pi n)^2 / (2 v)) / sin(omega / 2).

Source: Nikolayev and Savyolov, 1970, "Normal distribution on the rotation group SO(3)"; Leach et al., 2022, "Denoising
diffusion probabilistic models on SO(3)", which counts v / 2 as epsilon^2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from equipoise.antibody.geometry import exponential, logarithm, of_quaternion

SWITCH = 1.0
"""Variance from which the first series is taken; both are exact to 1e-12 there."""

TERMS = 12
WINDINGS = (-2, -1, 1, 2)
GRID = 2048
"""Points of the table that angles are drawn from."""

REACH = 9.0
"""Standard deviations that the table spans."""


def log_density(angle: Tensor, variance: Tensor) -> Tensor:
    """log f(omega; v): nats against the uniform measure, so that 0 is the uniform density.

    Args:
        angle: omega, from 0 to pi, (...), radians.
        variance: v, positive, broadcasting to it.

    Returns:
        (...), float64, differentiable in the angle.

    Example:
        >>> float(log_density(torch.tensor(1.0), torch.tensor(50.0)).abs()) < 1e-12
        True

    Use it for scores. Its gradient at 0 and at pi is that of an angle a little inside.
    """
    angle, variance = torch.broadcast_tensors(angle.double(), variance.double())
    angle = angle.clamp(1e-6, math.pi - 1e-6)
    small = variance < SWITCH
    # Each series is computed where it does not hold too, at a variance where it does: no value there can be infinite.
    near = _resummed(angle, torch.where(small, variance, SWITCH))
    far = _series(angle, torch.where(small, SWITCH, variance))
    return torch.where(small, near, far)


def relative_angle(first: Tensor, second: Tensor) -> Tensor:
    """The angle of the turn from one rotation to another, (...), radians, float64.

    From the distance of the matrices, |A - B|^2 = 8 sin^2(omega / 2), which is accurate at small angles.

    Args:
        first: (..., 3, 3).
        second: the same.

    Example:
        >>> turned = exponential(torch.tensor([0.0, 0.0, 0.5]))
        >>> round(float(relative_angle(torch.eye(3), turned)), 6)
        0.5
    """
    square = (first.double() - second.double()).square().flatten(-2).sum(-1) / 8
    return 2 * square.clamp(1e-14, 1 - 1e-14).sqrt().asin()


def log_kernel(rotation: Tensor, centre: Tensor, variance: Tensor) -> Tensor:
    """log-density of a rotation that a walk of this variance reaches from `centre`, against the uniform measure.

    Args:
        rotation: (..., 3, 3).
        centre: the same.
        variance: broadcasting to (...).

    Returns:
        Nats, (...), float64.

    Example:
        >>> float(log_kernel(torch.eye(3), torch.eye(3), torch.tensor(100.0)).abs()) < 1e-12
        True
    """
    return log_density(relative_angle(rotation, centre), variance)


class Walk:
    """Draws turns of walks of given variances, by inverse distribution functions that are tabulated once.

    Args:
        variances: of the walks, positive, (walks,).

    Example:
        >>> walk = Walk(torch.tensor([0.01, 1.0]))
        >>> uniform, normal = torch.full((2,), 0.5), torch.ones(2, 3)
        >>> walk.turn(torch.tensor([0, 1]), uniform, normal).shape
        torch.Size([2, 3, 3])
    """

    def __init__(self, variances: Tensor) -> None:
        variance = variances.double()[:, None]
        widest = (REACH * variance.sqrt()).clamp(max=math.pi)
        angle = torch.linspace(0, 1, GRID, dtype=torch.float64) * widest
        density = log_density(angle, variance).exp() * (1 - angle.cos())
        mass = 0.5 * (density[:, 1:] + density[:, :-1]) * angle.diff(dim=1)
        share = torch.nn.functional.pad(mass.cumsum(1), (1, 0))
        # All tables in one rising row, each two beyond the last: one search serves any mixture of walks.
        offset = 2.0 * torch.arange(len(variance), dtype=torch.float64)[:, None]
        self.angle, self.share = angle.flatten(), (share / share[:, -1:] + offset).flatten()

    def angles(self, index: Tensor, uniform: Tensor) -> Tensor:
        """The angles at which the distribution functions of walks `index` reach `uniform`, of its shape, float64."""
        wanted = uniform.double() + 2.0 * index
        first = index * GRID
        place = torch.searchsorted(self.share, wanted).clamp(first + 1, first + GRID - 1)
        low, high = self.share[place - 1], self.share[place]
        part = ((wanted - low) / (high - low).clamp(min=1e-300)).clamp(0, 1)
        return self.angle[place - 1] + part * (self.angle[place] - self.angle[place - 1])

    def turn(self, index: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
        """Turns of walks `index`, (..., 3, 3): by an angle from `uniform` (...), about the direction of `normal`."""
        angle = self.angles(index, uniform).to(normal.dtype)
        axis = torch.nn.functional.normalize(normal, dim=-1)
        return exponential(angle[..., None] * axis)


def uniform_rotation(normal: Tensor) -> Tensor:
    """Rotations that are uniform where `normal`, (..., 4), is standard normal.

    Example:
        >>> uniform_rotation(torch.tensor([1.0, 0.0, 0.0, 0.0])).tolist() == torch.eye(3).tolist()
        True
    """
    return of_quaternion(normal)


def towards(rotation: Tensor, goal: Tensor, share: Tensor) -> Tensor:
    """The rotation that lies this share of the way along the shortest turn to another one, (..., 3, 3).

    Args:
        rotation: (..., 3, 3).
        goal: the same.
        share: from 0 to 1, broadcasting to (...).

    Example:
        >>> half = towards(torch.eye(3), exponential(torch.tensor([0.0, 0.0, 1.0])), torch.tensor(0.5))
        >>> torch.allclose(half, exponential(torch.tensor([0.0, 0.0, 0.5])))
        True
    """
    return rotation @ exponential(share[..., None] * logarithm(rotation.transpose(-1, -2) @ goal))


def _series(angle: Tensor, variance: Tensor) -> Tensor:
    order = torch.arange(TERMS, dtype=torch.float64, device=angle.device)
    decay = (2 * order + 1) * (-0.5 * order * (order + 1) * variance[..., None]).exp()
    waves = ((order + 0.5) * angle[..., None]).sin() / (0.5 * angle[..., None]).sin()
    return (decay * waves).sum(-1).clamp(min=1e-300).log()


def _resummed(angle: Tensor, variance: Tensor) -> Tensor:
    total = torch.ones_like(angle)
    for winding in WINDINGS:
        turned = angle + 2 * math.pi * winding
        sign = -1.0 if winding % 2 else 1.0
        total = total + sign * turned / angle * (-(turned.square() - angle.square()) / (2 * variance)).exp()
    constant = variance / 8 + 0.5 * math.log(2 * math.pi) - 1.5 * variance.log()
    shape = (angle / (0.5 * angle).sin()).log() - angle.square() / (2 * variance)
    return constant + shape + total.clamp(min=1e-300).log()
