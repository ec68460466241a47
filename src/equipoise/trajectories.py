"""The two records that pass through the whole library: `Trajectories` and `Scores`.

Batch first, everywhere. A *column* has one entry a row: a tensor (n, ...) or n strings. *Columns* are one column, a
dict of them, or None. Dimension 1 of whatever lies in `path` and `fixed` is steps or steps + 1; nothing is read beyond
a row's `length`. Concatenation right-pads with zeros every dimension but the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

Column = Tensor | tuple[str, ...]
Columns = Column | Mapping[str, "Columns"] | None
"""One column, a dict of columns (nested as need be), or None."""


@dataclass(frozen=True)
class Fixed:
    """Values that training does not change, with the version of what computed them.

    `value` is (n, steps, ...) or (n,); `version` (n,) int64 counts the version of whatever froze the value; -1 says
    that the row has none.
    """

    value: Tensor
    version: Tensor


@dataclass(frozen=True)
class Trajectories:
    """A batch of trajectories, in the form in which they are drawn, stored, sent and scored again.

    Attributes:
        path: what its sampler needs to score a trajectory again; each tensor (n, steps, ...) or (n, steps + 1, ...);
            empty for end points alone.
        length: (n,) int64, the steps that count.
        objects: the end points: (n, ...) tensor, n strings, or a dict of them.
        context: what each trajectory is conditioned on, or None.
        group: (n,) int64, a stable id of the condition that shares a log Z; never a position in the batch.
        log_reward: (n,) log R(x), before `beta`; None until a source has called the reward.
        version: (n,) int64, the sampler's version that drew the row.
        key: (n,) int64, the id given by the source that keeps the row; -1: nobody.
        fixed: values by name that training does not change (see `Fixed`).
        steps: width of the step dimension; by default the largest `length`.

    Raises:
        ValueError: rows or steps that disagree, naming the field.

    Example:
        >>> import torch
        >>> rows = ends(torch.tensor([[0, 1], [2, 3]]), log_reward=torch.zeros(2))
        >>> len(rows), rows[torch.tensor([1])].objects.tolist()
        (2, [[2, 3]])
    """

    path: dict[str, Tensor]
    length: Tensor
    objects: Columns
    context: Columns
    group: Tensor
    log_reward: Tensor | None
    version: Tensor
    key: Tensor
    fixed: dict[str, Fixed] = field(default_factory=dict)
    steps: int = -1

    def __post_init__(self) -> None:
        n = len(self.length)
        if self.steps < 0:
            object.__setattr__(self, "steps", int(self.length.max()) if n else 0)
        for name, column in _columns_by_name(self):
            rows = column.shape[0] if isinstance(column, Tensor) else len(column)
            if rows != n:
                raise ValueError(f"'{name}' has {rows} rows where 'length' has {n}: one entry a trajectory")
        for name, value in self.path.items():
            if value.dim() < 2 or value.shape[1] - self.steps not in (0, 1):
                raise ValueError(
                    f"path['{name}'] has shape {tuple(value.shape)}: dimension 1 must be {self.steps} or "
                    f"{self.steps + 1} (steps, or steps + 1)"
                )

    def __len__(self) -> int:
        return len(self.length)

    def __getitem__(self, rows: Tensor) -> Trajectories:
        """The chosen rows (long indices or a boolean mask), trimmed to the longest of them."""
        chosen = _map_rows(self, lambda column: _take(column, rows))
        return chosen.trimmed()

    def trimmed(self) -> Trajectories:
        """The same rows with the step dimension cut to the largest `length`."""
        longest = int(self.length.max()) if len(self) else 0
        excess = self.steps - longest
        if not excess:
            return self
        path = {name: value[:, : value.shape[1] - excess] for name, value in self.path.items()}
        fixed = {
            name: replace(kept, value=kept.value[:, : kept.value.shape[1] - excess]) if kept.value.dim() > 1 else kept
            for name, kept in self.fixed.items()
        }
        return replace(self, path=path, fixed=fixed, steps=longest)

    def to(self, device: torch.device | str) -> Trajectories:
        """The same record with every tensor on `device`."""
        return _map_rows(self, lambda column: column.to(device) if isinstance(column, Tensor) else column)


@dataclass(frozen=True)
class Scores:
    """What a sampler says of a batch of trajectories; only the fields that were asked for are filled.

    Per-step fields are (n, steps) and exactly 0 outside `mask`; per-state fields are (n, steps + 1). `log_flow`,
    `log_outflow` and `log_stop` are left 0 at the terminal state, where the residual puts the target; `log_inflow`
    is 0 at the source. `denoising` is (n,): an estimate of -log p(object), up to a constant, from objects alone.
    """

    mask: Tensor
    log_pf: Tensor | None = None
    log_pb: Tensor | None = None
    log_prior: Tensor | None = None
    kl_prior: Tensor | None = None
    entropy: Tensor | None = None
    log_flow: Tensor | None = None
    log_inflow: Tensor | None = None
    log_outflow: Tensor | None = None
    log_stop: Tensor | None = None
    denoising: Tensor | None = None

    def get(self, name: str) -> Tensor:
        """The field `name`; a ValueError where the sampler was not asked for it."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"scores hold no '{name}': name it in the residual's needs")
        return value


def ends(
    objects: Columns, *, context: Columns = None, group: Tensor | None = None, log_reward: Tensor | None = None
) -> Trajectories:
    """A record of end points alone (path empty, length 0): what `Sampler.sample_to` completes."""
    n = rows_of(objects)
    zeros = torch.zeros(n, dtype=torch.int64)
    return Trajectories(
        path={},
        length=zeros,
        objects=objects,
        context=context,
        group=zeros.clone() if group is None else group,
        log_reward=log_reward,
        version=zeros.clone(),
        key=torch.full((n,), -1, dtype=torch.int64),
    )


def concatenate(parts: Sequence[Trajectories]) -> Trajectories:
    """One record of all rows, in order; every dimension but the first is padded with zeros on the right.

    Raises:
        ValueError: nothing to concatenate, or parts of which only some have a field.
    """
    kept = [part for part in parts if len(part)] or list(parts[:1])
    if not kept:
        raise ValueError("concatenate was given no record: give at least one")
    if len(kept) == 1:
        return kept[0]
    names = {frozenset(part.path) for part in kept}
    if len(names) > 1:
        raise ValueError(f"paths hold different names: {sorted(map(sorted, names))}; complete them with sample_to")
    if len({part.log_reward is None for part in kept}) > 1:
        raise ValueError("some parts have a log_reward and some do not: call the reward first")
    steps = max(part.steps for part in kept)
    path = {name: _cat_steps([(part.path[name], part.steps) for part in kept], steps) for name in kept[0].path}
    return Trajectories(
        path=path,
        length=torch.cat([part.length for part in kept]),
        objects=_cat([part.objects for part in kept]),
        context=_cat([part.context for part in kept]),
        group=torch.cat([part.group for part in kept]),
        log_reward=None if kept[0].log_reward is None else _cat_tensors([part.log_reward for part in kept]),
        version=torch.cat([part.version for part in kept]),
        key=torch.cat([part.key for part in kept]),
        fixed=_cat_fixed(kept, steps),
        steps=steps,
    )


def rows_of(columns: Columns) -> int:
    """How many rows `columns` have.

    Raises:
        ValueError: None has no number of rows.
    """
    if columns is None:
        raise ValueError("None has no rows: give a tensor, a tuple of strings, or a dict of them")
    if isinstance(columns, Mapping):
        return rows_of(next(iter(columns.values())))
    return len(columns)


def to_bytes(tree: Any) -> bytes:
    """One safetensors blob of a nested tree whose leaves are tensors, JSON values or `Trajectories`.

    What is not a tensor goes into the blob's metadata as JSON. Dict keys may be strings or integers; tuples stay
    tuples.

    Example:
        >>> from_bytes(to_bytes({"step": 3, "moments": {0: (1.5, None)}}))
        {'step': 3, 'moments': {0: (1.5, None)}}
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _pack(tree, tensors)
    # A file of safetensors holds at least nothing; tensors that share memory are refused by it, hence the clones.
    return safetensors.torch.save(tensors, metadata={"tree": json.dumps(skeleton)})


def from_bytes(blob: bytes) -> Any:
    """The tree that `to_bytes` wrote.

    Raises:
        ValueError: the blob is truncated or is not of this format.
    """
    try:
        tensors = safetensors.torch.load(blob)
        size = int.from_bytes(blob[:8], "little")
        skeleton = json.loads(json.loads(blob[8 : 8 + size])["__metadata__"]["tree"])
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"not a whole record ({error}): the file is truncated or of another format") from error
    return _unpack(skeleton, tensors)


def _columns_by_name(record: Trajectories) -> list[tuple[str, Column]]:
    """Every column of a record, by its full name."""
    named: list[tuple[str, Column]] = [(name, getattr(record, name)) for name in ("length", "group", "version", "key")]
    if record.log_reward is not None:
        named.append(("log_reward", record.log_reward))
    named += [(f"path.{name}", value) for name, value in record.path.items()]
    for name, kept in record.fixed.items():
        named += [(f"fixed.{name}", kept.value), (f"fixed.{name}.version", kept.version)]
    return named + _leaves("objects", record.objects) + _leaves("context", record.context)


def _leaves(name: str, columns: Columns) -> list[tuple[str, Column]]:
    if columns is None:
        return []
    if isinstance(columns, Mapping):
        return [leaf for key, inner in columns.items() for leaf in _leaves(f"{name}.{key}", inner)]
    return [(name, columns)]


def _map(columns: Columns, change: Callable[[Column], Column]) -> Any:
    if columns is None:
        return None
    if isinstance(columns, Mapping):
        return {name: _map(inner, change) for name, inner in columns.items()}
    return change(columns)


def _map_rows(record: Trajectories, change: Callable[[Column], Column]) -> Trajectories:
    """`change` applied to every column of a record."""
    return Trajectories(
        path=_map(record.path, change),
        length=_map(record.length, change),
        objects=_map(record.objects, change),
        context=_map(record.context, change),
        group=_map(record.group, change),
        log_reward=_map(record.log_reward, change),
        version=_map(record.version, change),
        key=_map(record.key, change),
        fixed={
            name: Fixed(_map(kept.value, change), _map(kept.version, change)) for name, kept in record.fixed.items()
        },
        steps=record.steps,
    )


def _take(column: Column, rows: Tensor) -> Column:
    if isinstance(column, Tensor):
        return column[rows]
    chosen = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
    return tuple(column[row] for row in chosen.tolist())


def _cat_tensors(parts: Sequence[Tensor | None]) -> Tensor:
    """Concatenated rows, every other dimension padded to the widest."""
    tensors = [part for part in parts if part is not None]
    shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    return torch.cat([_pad(tensor, shape) for tensor in tensors])


def _pad(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    if list(tensor.shape[1:]) == list(shape):
        return tensor
    widths = [width for size, have in zip(shape, tensor.shape[1:], strict=True) for width in (size - have, 0)]
    return torch.nn.functional.pad(tensor, widths[::-1])


def _cat_steps(parts: Sequence[tuple[Tensor, int]], steps: int) -> Tensor:
    """Concatenation of tensors whose dimension 1 is steps, or steps + 1, of their own record."""
    extra = parts[0][0].shape[1] - parts[0][1]
    joined = _cat_tensors([value for value, _ in parts])
    return joined if joined.shape[1] == steps + extra else _pad(joined, [steps + extra, *joined.shape[2:]])


def _cat(parts: Sequence[Columns]) -> Any:
    first = parts[0]
    if any(type(part) is not type(first) for part in parts):
        raise ValueError(f"columns of different kinds cannot be joined: {[type(part).__name__ for part in parts]}")
    if first is None:
        return None
    if isinstance(first, Mapping):
        return {name: _cat([part[name] for part in parts if isinstance(part, Mapping)]) for name in first}
    if isinstance(first, Tensor):
        return _cat_tensors([part for part in parts if isinstance(part, Tensor)])
    return tuple(entry for part in parts if isinstance(part, tuple) for entry in part)


def _cat_fixed(parts: Sequence[Trajectories], steps: int) -> dict[str, Fixed]:
    """Fixed values by name; rows of a part that lacks a name are marked absent (version -1)."""
    joined = {}
    for name in dict.fromkeys(name for part in parts for name in part.fixed):
        model = next(part for part in parts if name in part.fixed)
        shape = model.fixed[name].value.shape[1:]
        extra = shape[0] - model.steps if shape else 0
        held = [part.fixed.get(name) or _absent(part, model.fixed[name].value, extra) for part in parts]
        values = [(kept.value, part.steps) for kept, part in zip(held, parts, strict=True)]
        value = _cat_steps(values, steps) if shape else torch.cat([kept.value for kept in held])
        joined[name] = Fixed(value, torch.cat([kept.version for kept in held]))
    return joined


def _absent(part: Trajectories, like: Tensor, extra: int) -> Fixed:
    shape = (len(part), part.steps + extra, *like.shape[2:]) if like.dim() > 1 else (len(part),)
    return Fixed(like.new_zeros(shape), torch.full((len(part),), -1, dtype=torch.int64))


def _pack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, Tensor):
        name = str(len(tensors))
        tensors[name] = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(tree, Trajectories):
        return {"trajectories": {entry.name: _pack(getattr(tree, entry.name), tensors) for entry in fields(tree)}}
    if isinstance(tree, Fixed):
        return {"fixed": [_pack(tree.value, tensors), _pack(tree.version, tensors)]}
    if isinstance(tree, Mapping):
        return {"dict": [[key, _pack(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return {type(tree).__name__: [_pack(value, tensors) for value in tree]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"json": tree}
    raise TypeError(f"a leaf of type {type(tree).__name__} cannot be saved: use tensors, JSON values or Trajectories")


def _unpack(node: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, value),) = node.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "json":
        return value
    if kind == "dict":
        return {key: _unpack(inner, tensors) for key, inner in value}
    if kind == "fixed":
        return Fixed(*(_unpack(inner, tensors) for inner in value))
    if kind == "trajectories":
        return Trajectories(**{name: _unpack(inner, tensors) for name, inner in value.items()})
    entries = [_unpack(inner, tensors) for inner in value]
    return tuple(entries) if kind == "tuple" else entries
