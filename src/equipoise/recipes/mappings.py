"""From plain values to configurations and back, each value held to its field's type. Imports no torch."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
"""A task's configuration."""


def to_mapping(config: DataclassInstance) -> dict[str, Any]:
    """The configuration as plain values, for YAML."""
    return {name: _plain(value) for name, value in dataclasses.asdict(config).items()}


def from_mapping(kind: type[Config], values: Mapping[str, Any], *, whole: bool = True) -> Config:
    """A configuration of plain values; lists become tuples, strings paths, whole numbers floats where one is due.

    Args:
        kind: of configuration.
        values: by the names of its fields; the others have their defaults.
        whole: False: more settings follow, so that those which do not fit together yet are no error.

    Raises:
        ValueError: an unknown name (the nearest is named), or a value of the wrong type.

    Example:
        >>> from equipoise.recipes import Hypergrid
        >>> from_mapping(Hypergrid, {"side": 16, "beta": 2}).beta
        2.0
    """
    hints = typing.get_type_hints(kind)
    names = [entry.name for entry in dataclasses.fields(kind)]
    for name in values:
        if name not in names:
            raise ValueError(f"unknown setting '{name}'{nearest(str(name), names)}")
    given = {name: _coerced(value, hints[name]) for name, value in values.items()}
    if whole:
        return kind(**given)
    config = object.__new__(kind)
    for entry in dataclasses.fields(kind):
        object.__setattr__(config, entry.name, given.get(entry.name, entry.default))
    check(config)
    return config


def check(config: DataclassInstance) -> None:
    """Holds every value to its field's type; paths may be given as text, tuples as lists, floats as whole numbers.

    Raises:
        ValueError: names the setting, what was given and what was expected.
    """
    hints = typing.get_type_hints(type(config))
    for name in (entry.name for entry in dataclasses.fields(config)):
        hint = hints[name]
        value = _coerced(getattr(config, name), hint)
        object.__setattr__(config, name, value)
        if not _fits(value, hint):
            choices = [choice for part in _parts(hint) for choice in typing.get_args(part)]
            if isinstance(value, str) and choices:
                known = ", ".join(map(str, choices))
                raise ValueError(f"{name} is '{value}'{nearest(value, choices)}; known: {known}")
            raise ValueError(f"{name} is {value!r}: {_describe(hint)} was expected")


def nearest(word: str, known: typing.Iterable[object]) -> str:
    """' (did you mean ...?)' where something is near, else nothing."""
    close = difflib.get_close_matches(word, [str(entry) for entry in known], n=1, cutoff=0.4)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _coerced(value: Any, hint: Any) -> Any:
    for part in _parts(hint):
        if part is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if part is Path and isinstance(value, str):
            return Path(value)
        if typing.get_origin(part) is tuple and isinstance(value, list):
            inner = typing.get_args(part)[0]
            return tuple(_coerced(entry, inner) for entry in value)
    return value


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) or _is_union(hint) else (hint,)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Union


def _fits(value: Any, hint: Any) -> bool:
    return any(_fits_one(value, part) for part in _parts(hint))


def _fits_one(value: Any, part: Any) -> bool:
    if typing.get_origin(part) is typing.Literal:
        return isinstance(value, str) and value in typing.get_args(part)
    if typing.get_origin(part) is tuple:
        return isinstance(value, tuple) and all(_fits_one(entry, typing.get_args(part)[0]) for entry in value)
    if part is float:
        return isinstance(value, float | int) and not isinstance(value, bool) and value == value
    if part is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, part)


def _describe(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", Path: "a path", type(None): "nothing"}
    return " or ".join(names.get(part, str(part).replace("tuple", "a list")) for part in _parts(hint))
