"""Trajectories as columns of a store and back, and digests that tell equal objects of a condition."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from equipoise.sampling.store import Name, leaves
from equipoise.trajectories import Columns, Fixed, Trajectories


def columns_of(rows: Trajectories, whole: bool) -> dict[str, Any]:
    """A record as nested columns: end points alone, or all there is."""
    columns = {"objects": rows.objects, "context": rows.context, "group": rows.group, "log_reward": rows.log_reward}
    if not whole:
        return columns
    fixed = {name: fixed_columns(kept) for name, kept in rows.fixed.items()}
    return columns | {"path": rows.path, "length": rows.length, "version": rows.version, "fixed": fixed}


def fixed_columns(kept: Fixed) -> dict[str, Tensor]:
    """A fixed value as two columns."""
    # A slot without a value reads as 0, which in the store stands for version -1, absent.
    return {"value": kept.value, "version": kept.version + 1}


def record_of(columns: Mapping[str, Any], key: Tensor, steps: int) -> Trajectories:
    """The record that `columns_of` took apart, with these keys."""
    zeros = torch.zeros_like(key)
    fixed = columns.get("fixed", {})
    return Trajectories(
        path=columns.get("path", {}),
        length=columns.get("length", zeros),
        objects=columns["objects"],
        context=columns["context"],
        group=columns["group"],
        log_reward=columns["log_reward"],
        version=columns.get("version", zeros.clone()),
        key=key,
        fixed={name: Fixed(kept["value"], kept["version"] - 1) for name, kept in fixed.items()},
        steps=steps,
    )


def steps_more(rows: Trajectories, columns: Mapping[str, Any]) -> dict[Name, int]:
    """By how much dimension 1 exceeds the steps, 0 or 1, for each column that has one."""
    named = leaves({room: columns[room] for room in ("path", "fixed") if room in columns})
    return {name: value.shape[1] - rows.steps for name, value in named if value.dim() > 1}


def last_places(ids: Tensor) -> Tensor:
    """The place at which each distinct id stands last."""
    distinct, inverse = ids.unique(return_inverse=True)
    return torch.zeros_like(distinct).scatter_reduce_(0, inverse, torch.arange(len(ids)), "amax")


def digests_of(objects: Columns, group: Tensor) -> Tensor:
    """(n, 16) bytes that tell each row's object and group; zeros at the end, which padding adds, do not count."""
    columns = [_row_bytes(column) for _, column in leaves({"objects": objects, "group": group}) if column is not None]
    rows = (b"".join(len(part).to_bytes(8, "little") + part for part in row) for row in zip(*columns, strict=True))
    joined = b"".join(hashlib.blake2b(row, digest_size=16).digest() for row in rows)
    return torch.frombuffer(bytearray(joined), dtype=torch.uint8).view(-1, 16)


def split_digests(digest: Tensor) -> list[bytes]:
    """Each row's digest as bytes."""
    blob = digest.numpy().tobytes()
    return [blob[start : start + 16] for start in range(0, len(blob), 16)]


def _row_bytes(column: Any) -> list[bytes]:
    if isinstance(column, tuple):
        return [entry.encode("utf-8", "surrogatepass") for entry in column]
    flat = column.reshape(len(column), math.prod(column.shape[1:])).contiguous().view(torch.uint8)
    blob, width = flat.cpu().numpy().tobytes(), flat.shape[1]
    return [blob[start : start + width].rstrip(b"\0") for start in range(0, len(blob), width)]


def check_names(columns: Mapping[str, Any], held: Mapping[Name, Any]) -> None:
    """Rows hold the same columns at every insert; only fixed values may come later, or be absent."""
    new = {name for name, _ in leaves(columns) if name[0] != "fixed"}
    old = {name for name in held if name[0] != "fixed"}
    if old and new != old:
        shown = sorted(".".join(name) for name in new ^ old)
        raise ValueError(f"the inner source's rows have other columns than the rows before: {', '.join(shown)}")
