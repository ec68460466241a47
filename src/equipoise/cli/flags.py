"""From words on the command line to a configuration, with errors of one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from equipoise.recipes.mappings import Config, from_mapping, nearest

Command = TypeVar("Command")


class UsageError(ValueError):
    """The command line's words are off: one line that says which and what was expected."""


def parse(kind: type[Command], words: Sequence[str], *, prog: str, default: Command | None = None) -> Command:
    """`words` as an instance of the dataclass `kind`.

    Raises:
        UsageError: an unknown flag or value (the nearest is named), or a value that cannot be read.
        SystemExit: with status 0, after help was printed.
    """
    words = _checked_words(kind, words)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            if default is None:
                return tyro.cli(kind, args=list(words), prog=prog)
            return tyro.cli(kind, args=list(words), prog=prog, default=default)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(f"{_one_line(said.getvalue())}; see {prog} --help") from None


def parse_config(
    kind: type[Config], words: Sequence[str], *, prog: str, config: Path | None, given: Mapping[str, Any]
) -> Config:
    """A task's configuration: its defaults, then the file's values, then those that are `given`, then the flags."""
    values: dict[str, Any] = {}
    if config is not None:
        from equipoise.training.folder import read_yaml

        values = {name: value for name, value in read_yaml(config).items() if name not in ("task", "out")}
    # The flags may bring what the file's settings go with.
    default = from_mapping(kind, {**values, **given}, whole=False) if values or given else None
    return parse(kind, words, prog=prog, default=default)


def take(words: Sequence[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of `--flag VALUE` (or `--flag=VALUE`), and the other words.

    Raises:
        UsageError: the flag without a value.
    """
    rest, value, waiting = [], None, False
    for word in words:
        if waiting:
            value, waiting = word, False
        elif word == flag:
            waiting = True
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    if waiting:
        raise UsageError(f"{flag} needs a value")
    return value, rest


def _checked_words(kind: Any, words: Sequence[str]) -> list[str]:
    """The words, with every flag known and every choice one of its flag's; a dash in a choice counts as `_`."""
    words = list(words)
    hints = typing.get_type_hints(kind)
    flags = {f"--{entry.name.replace('_', '-')}": entry.name for entry in dataclasses.fields(kind)}
    unseen = hidden(kind)
    for place, word in enumerate(words):
        if not word.startswith("--"):
            continue
        flag, _, value = word.partition("=")
        flag = flag.replace("_", "-")
        if flag == "--help":
            continue
        if flags.get(flag) in unseen:
            raise UsageError(
                f"{flag} is no flag of this task: set '{flags[flag]}' in a file for --config, or in Python"
            )
        if flag not in flags:
            raise UsageError(f"unknown flag '{word.partition('=')[0]}'{nearest(flag, flags)}")
        apart = not value and place + 1 < len(words)
        value = (words[place + 1] if apart else value).replace("-", "_")
        choices = [choice for choice in _choices(hints[flags[flag]]) if choice != "None"]
        if choices and value not in choices:
            raise UsageError(f"{flag} is '{value}'{nearest(value, choices)}; known: {', '.join(choices)}")
        if choices:
            words[place + apart] = value if apart else f"{flag}={value}"
    return words


def hidden(kind: Any) -> set[str]:
    """Settings that have no flag, so that the help stays short."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name for name, hint in hints.items() if tyro.conf.Suppress in getattr(hint, "__metadata__", ())}


def _choices(hint: Any) -> list[str]:
    if typing.get_origin(hint) is typing.Literal:
        return [str(choice) for choice in typing.get_args(hint)]
    return [choice for part in typing.get_args(hint) for choice in _choices(part)]


def _one_line(message: str) -> str:
    """The words of a boxed message, up to its first rule."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in message.splitlines()]
    body = []
    for line in lines[1:]:
        if line.startswith("──") or not line:
            break
        body.append(line)
    return re.sub(r"^Error parsing [A-Z]\w*: ", "", " ".join(body)) or "the command line cannot be read"
