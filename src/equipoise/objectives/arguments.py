"""What every function of this folder asks of its arguments: shapes, positive numbers, known names, enough precision.

Each error says what was given and what was expected.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)

_READ = ContextVar("_READ", default=True)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Within it, arguments are judged by their shapes and not by their values: for what is traced to be compiled."""
    token = _READ.set(False)
    try:
        yield
    finally:
        _READ.reset(token)


def real(name: str, tensor: Tensor) -> Tensor:
    """Return a floating-point tensor of at least float32: logarithms of probabilities lose their differences in less.

    Integers and booleans become the default dtype.

    Raises:
        ValueError: The tensor is complex.
    """
    if tensor.is_complex():
        raise ValueError(f"{name} is {tensor.dtype}; expected real numbers")
    if not tensor.is_floating_point():
        return tensor.to(torch.get_default_dtype())
    return tensor.float() if torch.finfo(tensor.dtype).bits < 32 else tensor


def rows(named: Mapping[str, Tensor]) -> list[Tensor]:
    """Return tensors of one shape (batch,), each in at least float32.

    Raises:
        ValueError: One has another shape.
    """
    (first, leader), *_ = named.items()
    if leader.ndim != 1:
        raise ValueError(f"{first} has shape {tuple(leader.shape)}; expected (batch,)")
    return same_shape(named)


def grids(named: Mapping[str, Tensor]) -> list[Tensor]:
    """Return tensors of one shape (batch, steps), each in at least float32.

    Raises:
        ValueError: One has another shape.
    """
    (first, leader), *_ = named.items()
    if leader.ndim != 2:
        raise ValueError(f"{first} has shape {tuple(leader.shape)}; expected (batch, steps)")
    return same_shape(named)


def same_shape(named: Mapping[str, Tensor]) -> list[Tensor]:
    """Return tensors of one shape, each in at least float32.

    Raises:
        ValueError: One has another shape than the first.
    """
    (first, leader), *_ = named.items()
    for name, tensor in named.items():
        shaped(name, tensor, tuple(leader.shape), f"the shape of {first}")
    return [real(name, tensor) for name, tensor in named.items()]


def shaped(name: str, tensor: Tensor, shape: tuple[int, ...], meaning: str) -> Tensor:
    """Return the tensor, in at least float32, if it has the shape.

    Raises:
        ValueError: It has another shape.
    """
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}, {meaning}")
    return real(name, tensor)


def constant(name: str, value: Tensor | float, batch: int) -> Tensor | float:
    """Return a number, or a tensor of shape () or (batch,), that is added to every row.

    Raises:
        ValueError: The tensor has another shape.
    """
    if not isinstance(value, Tensor):
        return value
    if tuple(value.shape) not in ((), (batch,)):
        raise ValueError(f"{name} has shape {tuple(value.shape)}; expected () or ({batch},)")
    return real(name, value)


def positive(name: str, value: Tensor | float) -> None:
    """Accept positive finite numbers.

    Raises:
        ValueError: A value is zero, negative, infinite or not a number.
    """
    accepted = (value > 0) & value.isfinite() if isinstance(value, Tensor) else 0 < value < math.inf
    if not every(accepted):
        raise ValueError(f"{name} is {described(value)}; expected a positive finite number")


def finite(name: str, value: Tensor | float) -> None:
    """Accept finite numbers.

    Raises:
        ValueError: A value is infinite or not a number.
    """
    if not every(value.isfinite() if isinstance(value, Tensor) else math.isfinite(value)):
        raise ValueError(f"{name} is {described(value)}; expected a finite number")


def every(accepted: Tensor | bool) -> bool:
    """Whether a test holds of all elements."""
    return bool(accepted.all()) if isinstance(accepted, Tensor) else accepted


def between(name: str, value: float, low: float, high: float) -> None:
    """Accept numbers from low to high.

    Raises:
        ValueError: The value lies outside, or is not a number.
    """
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; expected a number from {low} to {high}")


def described(value: Tensor | float) -> str:
    """A value as an error shows it: a large tensor by its range."""
    if not isinstance(value, Tensor):
        return repr(value)
    if value.numel() <= 4:
        return str(value.tolist())
    return f"between {value.min().item()} and {value.max().item()}"


def lengths(length: Tensor, batch: int, steps: int) -> None:
    """Accept lengths of trajectories: integers (batch,) from 1 to steps.

    Raises:
        ValueError: The shape or the dtype differs, or a length lies outside 1 .. steps; the first such row is named.
    """
    if tuple(length.shape) != (batch,) or length.dtype not in INTEGERS:
        raise ValueError(f"length is {length.dtype} of shape {tuple(length.shape)}; expected integers ({batch},)")
    outside = (length < 1) | (length > steps)
    if _READ.get() and bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise ValueError(f"length[{row}] is {int(length[row])}; expected 1 to {steps}, the steps of log_pf")


def known(what: str, name: str, names: Sequence[str]) -> str:
    """Return the name if it is one of the names.

    Raises:
        ValueError: It is not; the nearest is named, or all where none is near.
    """
    if name in names:
        return name
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names)}"
    raise ValueError(f"unknown {what} {name!r}: {hint}")
