"""The matmul floor of a training step: what the network's products alone cost on the states that are valid.

A step evaluates each valid state once while it draws (`batch` rows at a time) and once with gradients (all rows at
once), and its backward pass multiplies by each weight twice, but once by the first, whose input needs no gradient. The
rate of each product is measured on the spot, at its own shape; the floor is the sum of the times. Elementwise work,
softmax, sampling, masks, the environment, the optimiser and Python are not in it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workloads import Bits, Finetuning, Hypergrid, Strings, Workload

TIMED_S = 0.02
"""CPU seconds that each product is repeated for, three times."""


@dataclass(frozen=True)
class Product:
    """(rows, inner) times (inner, columns), `batch` of them at a time, `count` times a step."""

    rows: int
    inner: int
    columns: int
    count: float = 1.0
    batch: int = 1

    @property
    def flops(self) -> float:
        """Floating-point operations a step."""
        return 2.0 * self.rows * self.inner * self.columns * self.batch * self.count

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What its rate depends on."""
        return self.rows, self.inner, self.columns, self.batch


def perceptron(widths: Sequence[int], rows: int, times: float, *, trained: bool) -> list[Product]:
    """The layers of a perceptron on so many rows, so many times, with or without a backward pass."""
    layers = enumerate(itertools.pairwise(widths))
    return [Product(rows, a, b, times * ((3 if place else 2) if trained else 1)) for place, (a, b) in layers]


def products(work: Workload, length: float) -> list[Product]:
    """All products of a step.

    Args:
        work: the workload.
        length: mean number of actions of a trajectory.

    Example:
        >>> round(sum(product.flops for product in products(Strings(), 8)) / 1e6)
        145
    """
    rows = max(1, round(work.batch * length))
    if isinstance(work, Hypergrid):
        inside = (work.dimensions * work.side, *(work.hidden,) * work.hidden_layers)
        drawn = perceptron((*inside, work.dimensions + 1), work.batch, length, trained=False)
        return drawn + perceptron((*inside, 2 * work.dimensions + 1), rows, 1, trained=True)
    if isinstance(work, Strings):
        widths = ((work.letters + 1) * work.length, *(work.hidden,) * work.hidden_layers, work.letters)
        return perceptron(widths, work.batch, length, trained=False) + perceptron(widths, rows, 1, trained=True)
    if isinstance(work, Bits):
        return _transformer(work, length)
    return _diffusion(work)


def _transformer(work: Bits, length: float) -> list[Product]:
    """Blocks on one token a string (cached), or on all positions of a state."""
    places, width, size = work.positions, work.width, work.width // work.heads
    words, blocks = 2**work.word, work.blocks
    tokens = 1 if work.left_to_right else places
    found = []
    for states, times, factor in ((work.batch, length, 1), (round(work.batch * length), 1.0, 3)):
        rows, count = states * tokens, times * factor
        found += [Product(rows, width, 3 * width, blocks * count), Product(rows, width, width, 3 * blocks * count)]
        found.append(Product(rows, width, words, count))
        if not work.left_to_right:
            each = {"count": blocks * count, "batch": states * work.heads}
            found += [Product(places, size, places, **each), Product(places, places, size, **each)]
    if work.left_to_right:  # half of the places lie ahead
        each = {"count": 1.5 * blocks, "batch": work.batch * work.heads}
        found += [Product(places, size, places, **each), Product(places, places, size, **each)]
    return found


def _diffusion(work: Finetuning) -> list[Product]:
    """The drift at every state while drawing; model and prior once more, the model with gradients through some."""
    widths = (2, work.width, work.width, 2)
    trained = work.batch * (work.subsample or work.steps)
    return [
        *perceptron(widths, work.batch, work.steps, trained=False),
        *perceptron(widths, work.batch * work.steps, 1, trained=False),
        *perceptron(widths, trained, 1, trained=True),
    ]


def rates(shapes: Iterable[tuple[int, int, int, int]]) -> dict[tuple[int, int, int, int], float]:
    """Measured floating-point operations a second of each shape, one thread, float32: the best of three."""
    import torch

    torch.set_num_threads(1)
    found = {}
    for rows, inner, columns, batch in sorted(set(shapes)):
        kind = (batch,) if batch > 1 else ()
        left, right = torch.randn(*kind, rows, inner), torch.randn(*kind, inner, columns)
        out, multiply = torch.empty(*kind, rows, columns), torch.bmm if batch > 1 else torch.mm
        each = 2.0 * rows * inner * columns * batch
        repeats = max(1, int(TIMED_S * 5e10 / each))
        best = float("inf")
        for _ in range(4):  # the first warms up
            began = time.process_time()
            for _ in range(repeats):
                multiply(left, right, out=out)
            best = min(best, (time.process_time() - began) / repeats)
        found[rows, inner, columns, batch] = each / best
    return found


def floor_ms(found: Sequence[Product], rate: dict[tuple[int, int, int, int], float]) -> float:
    """Milliseconds of all products at their rates."""
    return 1e3 * sum(product.flops / rate[product.shape] for product in found)


def measured(work: Workload, length: float) -> dict[str, float]:
    """The floor of a workload, measured now: `ms`, `gigaflops` a step, and the mean `gigaflops_per_s`."""
    found = products(work, length)
    ms = floor_ms(found, rates(product.shape for product in found))
    total = sum(product.flops for product in found) / 1e9
    return {"ms": ms, "gigaflops": total, "gigaflops_per_s": 1e3 * total / ms}
