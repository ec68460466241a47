"""What a replay stands on: rows of nested columns in preallocated slots, and sums by which to draw them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Name = tuple[str, ...]
"""A column's place in a nested dict."""

FAN = 16
"""Children of a node. Draws from 10^6 leaves take 3 to 4 times less than with 2: fewer, wider steps."""


class SumTree:
    """Weights, of which one is drawn with probability weight / total, in time logarithmic in their number.

    Level 0 holds the weights; each node above is the sum of `FAN` nodes below, added from left to right, so that the
    sums are a function of the weights alone and not of the order in which they came.

    Args:
        weights: (leaves,) float64, not negative.

    Example:
        >>> tree = SumTree(torch.tensor([1.0, 0.0, 3.0]))
        >>> tree.draw(torch.tensor([0.0, 0.2, 0.3, 0.9], dtype=torch.float64)).tolist()
        [0, 0, 2, 2]
    """

    def __init__(self, weights: Tensor) -> None:
        sizes = [_blocks(max(1, len(weights))) * FAN]
        while sizes[-1] > FAN:
            sizes.append(_blocks(sizes[-1] // FAN) * FAN)
        self.nodes = torch.zeros(sum(sizes), dtype=torch.float64)
        self.levels = self.nodes.split(sizes)
        self.weights = self.levels[0][: len(weights)]
        self.weights.copy_(weights)
        for below, above in pairwise(self.levels):
            above[: len(below) // FAN] = _sums(below.view(-1, FAN))

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(_sums(self.levels[-1][None]))

    def update(self, leaves: Tensor, weights: Tensor) -> None:
        """Sets the weights of some leaves, no leaf twice; touches their ancestors alone."""
        self.levels[0][leaves] = weights
        for below, above in pairwise(self.levels):
            leaves = torch.unique_consecutive(leaves // FAN)
            above[leaves] = _sums(below.view(-1, FAN)[leaves])

    def draw(self, uniforms: Tensor) -> Tensor:
        """The leaves (n,) at which the running sum passes uniforms * total; never one of weight 0.

        Args:
            uniforms: (n,) float64 in [0, 1).
        """
        place = torch.zeros(len(uniforms), dtype=torch.int64)
        target, zero = uniforms * self.total, uniforms.new_zeros(())
        for level in reversed(self.levels):
            reach = level.view(-1, FAN)[place].cumsum(1)
            # What rounding pushed past the end of a block goes to the last child that has a weight.
            target = torch.minimum(target, torch.nextafter(reach[:, -1], zero))[:, None]
            child = torch.searchsorted(reach, target, right=True)
            target = (target - functional.pad(reach, (1, 0)).gather(1, child))[:, 0]
            place = place * FAN + child[:, 0]
        return place

    def extended(self, leaves: int) -> SumTree:
        """The same weights and zeros, `leaves` in all."""
        return SumTree(functional.pad(self.weights, (0, leaves - len(self))))


class Slots:
    """Rows of nested columns (tensors, strings, None) in slots that are made by doubling, up to `most`.

    A slot is as wide as the widest row so far; narrower rows are padded with zeros on the right. What a row does not
    have reads as zeros. A write costs time in proportion to its rows (amortised), a read to the rows that are read.

    Args:
        most: slots there can be.
    """

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self.columns: dict[Name, _Numbers | _Strings | _Nothing] = {}

    def write(self, slots: Tensor, rows: Mapping[str, Any]) -> None:
        """Puts whole rows into slots, distinct ones; columns that `rows` lacks become 0 there.

        Raises:
            ValueError: a column of another kind or number of dimensions than in the store.
        """
        self._make(int(slots.max()) + 1)
        self.amend(slots, rows)
        given = dict(leaves(rows))
        for name, column in self.columns.items():
            if name not in given:
                column.clear(slots)

    def amend(self, slots: Tensor, rows: Mapping[str, Any]) -> None:
        """Puts the columns that `rows` has into slots that are there, and leaves the others."""
        for name, column in leaves(rows):
            if name not in self.columns:
                self.columns[name] = _column(column, self.size)
            self.columns[name].write(name, slots, column)

    def read(self, slots: Tensor, *, widths: Mapping[Name, int] | None = None) -> dict[str, Any]:
        """The rows in these slots; dimension 1 of the columns in `widths` is cut or padded to what is given there."""
        widths = widths or {}
        return nested({name: column.read(slots, widths.get(name)) for name, column in self.columns.items()})

    def numbers(self, name: Name, slots: Tensor) -> Tensor | None:
        """One column of tensors alone; None where there is none."""
        held = self.columns.get(name)
        return held.read(slots, None) if isinstance(held, _Numbers) else None

    def state_dict(self, size: int) -> dict[str, Any]:
        """The first `size` slots: tensors as they are, strings as a pair of tensors."""
        return {"size": size, "columns": nested({name: held.state(size) for name, held in self.columns.items()})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Holds the slots of `state` and no others."""
        self.size = state["size"]
        self.columns = {name: _loaded(column) for name, column in leaves(state["columns"])}

    def _make(self, needed: int) -> None:
        if needed > self.size:
            self.size = min(self.most, max(needed, 2 * self.size))
            for column in self.columns.values():
                column.resize(self.size)


class _Numbers:
    """A column of tensors; `used` is the width of the widest row, the values may be wider."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.used = values, list(values.shape[1:])

    def write(self, name: Name, slots: Tensor, new: Any) -> None:
        if not isinstance(new, Tensor) or new.dim() != self.values.dim():
            held = f"a tensor of {self.values.dim()} dimensions"
            raise ValueError(f"column '{'.'.join(name)}' is {_kind(new)}; the rows before had {held}")
        self._widen(new)
        new = new.detach()
        if list(new.shape[1:]) == list(self.values.shape[1:]):
            self.values[slots] = new
        else:
            self.values[slots] = 0
            self.values[(slots, *_corner(new.shape[1:]))] = new

    def _widen(self, new: Tensor) -> None:
        """Makes room for wider rows by doubling, and for their type as concatenation does."""
        self.used = [max(sizes) for sizes in zip(self.used, new.shape[1:], strict=True)]
        have = list(self.values.shape[1:])
        shape = [size if used <= size else max(used, 2 * size) for used, size in zip(self.used, have, strict=True)]
        dtype = torch.promote_types(self.values.dtype, new.dtype)
        if shape != have or dtype != self.values.dtype:
            self._remake([len(self.values), *shape], dtype)

    def _remake(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        made = self.values.new_zeros(shape, dtype=dtype)
        made[_corner(self.values.shape)] = self.values
        self.values = made

    def resize(self, size: int) -> None:
        self._remake([size, *self.values.shape[1:]], self.values.dtype)

    def clear(self, slots: Tensor) -> None:
        self.values[slots] = 0

    def read(self, slots: Tensor, width: int | None) -> Tensor:
        used = self.used if width is None else [min(width, self.used[0]), *self.used[1:]]
        chosen = self.values[(slice(None), *_corner(used))][slots]
        missing = 0 if width is None else width - used[0]
        return functional.pad(chosen, [0, 0] * (chosen.dim() - 2) + [0, missing]) if missing else chosen

    def state(self, size: int) -> Tensor:
        return self.values[_corner([size, *self.used])]


class _Strings:
    """A column of strings."""

    def __init__(self, values: list[str]) -> None:
        self.values = values

    def write(self, name: Name, slots: Tensor, new: Any) -> None:
        if not isinstance(new, tuple):
            raise ValueError(f"column '{'.'.join(name)}' is {_kind(new)}; the rows before had strings")
        for slot, entry in zip(slots.tolist(), new, strict=True):
            self.values[slot] = entry

    def resize(self, size: int) -> None:
        self.values += [""] * (size - len(self.values))

    def clear(self, slots: Tensor) -> None:
        for slot in slots.tolist():
            self.values[slot] = ""

    def read(self, slots: Tensor, width: int | None) -> tuple[str, ...]:
        return tuple(self.values[slot] for slot in slots.tolist())

    def state(self, size: int) -> tuple[Tensor, Tensor]:
        """All bytes, and how many belong to each: a header of JSON could not hold a million strings."""
        blobs = [entry.encode("utf-8", "surrogatepass") for entry in self.values[:size]]
        joined = bytearray(b"".join(blobs))
        data = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.zeros(0, dtype=torch.uint8)
        return data, torch.tensor([len(blob) for blob in blobs], dtype=torch.int64)


class _Nothing:
    """A column that is None."""

    def write(self, name: Name, slots: Tensor, new: Any) -> None:
        if new is not None:
            raise ValueError(f"column '{'.'.join(name)}' is {_kind(new)}; the rows before had None")

    def resize(self, size: int) -> None:
        """There is nothing to resize."""

    def clear(self, slots: Tensor) -> None:
        """There is nothing to clear."""

    def read(self, slots: Tensor, width: int | None) -> None:
        return None

    def state(self, size: int) -> None:
        return None


def leaves(tree: Mapping[str, Any], above: Name = ()) -> Iterator[tuple[Name, Any]]:
    """Every leaf of a nested dict with its name."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def nested(named: Mapping[Name, Any]) -> dict[str, Any]:
    """The nested dict of which these are the leaves."""
    tree: dict[str, Any] = {}
    for name, value in named.items():
        inner = tree
        for key in name[:-1]:
            inner = inner.setdefault(key, {})
        inner[name[-1]] = value
    return tree


def _column(like: Any, size: int) -> _Numbers | _Strings | _Nothing:
    if isinstance(like, Tensor):
        return _Numbers(like.new_zeros((size, *like.shape[1:])))
    return _Nothing() if like is None else _Strings([""] * size)


def _loaded(state: Any) -> _Numbers | _Strings | _Nothing:
    if isinstance(state, Tensor):
        return _Numbers(state.clone())
    if state is None:
        return _Nothing()
    joined, lengths = state
    blob, ends = joined.numpy().tobytes(), lengths.cumsum(0).tolist()
    return _Strings([blob[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise([0, *ends])])


def _corner(shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(0, size) for size in shape)


def _kind(column: Any) -> str:
    return f"a tensor of {column.dim()} dimensions" if isinstance(column, Tensor) else type(column).__name__


def _sums(blocks: Tensor) -> Tensor:
    # cumsum adds from left to right; sum would choose an order by the shape of the whole.
    return blocks.cumsum(1)[:, -1]


def _blocks(nodes: int) -> int:
    return -(-nodes // FAN)
