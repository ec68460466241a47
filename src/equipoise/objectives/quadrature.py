"""Integrals from 0 of a function that is smooth but may bend sharply near 0, by Gauss-Legendre panels graded to 0."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

NODES = 16
PANELS = 11
LOWEST = -700.0  # exp(-700) is about the smallest power that float64 holds without loss
Rule = tuple[tuple[float, ...], tuple[float, ...]]  # nodes and weights on [0, 1]


@functools.cache
def panel() -> Rule:
    """Gauss-Legendre on [0, 1], from the eigenvectors of its Jacobi matrix (Golub and Welsch, 1969)."""
    with torch.inference_mode(False), torch.no_grad():
        k = torch.arange(1, NODES, dtype=torch.float64, device="cpu")
        above = torch.diag(k / (4 * k * k - 1).sqrt(), 1)
        nodes, vectors = torch.linalg.eigh(above + above.T)
        return tuple(((nodes + 1) / 2).tolist()), tuple((vectors[0] ** 2).tolist())


@functools.cache
def graded() -> Rule:
    """One panel on [0, 2^-10] and one on each doubling, so that a bend at 1 is seen on an interval of length 1,000."""
    nodes, weights = panel()
    ends = [2.0**-k for k in range(PANELS - 1, -1, -1)]
    spans = list(zip([0.0, *ends[:-1]], ends, strict=True))
    return (
        tuple(a + (b - a) * x for a, b in spans for x in nodes),
        tuple((b - a) * w for a, b in spans for w in weights),
    )


def integral(function: Callable[[Tensor], Tensor], upper: Tensor, rule: Rule) -> Tensor:
    """int_0^upper function(t) dt for each element of upper, without cancellation where upper is near 0."""
    nodes, weights = (upper.new_tensor(part) for part in rule)
    return upper * (function(upper[..., None] * nodes) * weights).sum(-1)


def generator(slope: Callable[[Tensor], Tensor], ratio: Tensor) -> Tensor:
    """f(u) = int_1^u slope(log t) dt = int_0^{log u} slope(s) e^s ds.

    f(0) is infinite where slope(s) e^s has not died out at s = -700: forward KL's, for one, tends to -1.
    """
    logarithm = ratio.log().clamp(min=LOWEST)
    value = integral(lambda s: slope(s) * s.exp(), logarithm, graded())
    at_the_end = slope(ratio.new_tensor(LOWEST)) * math.exp(LOWEST)
    return torch.where((ratio == 0) & (at_the_end.abs() > 1e-6), torch.inf, value)
