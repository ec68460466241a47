"""What a run's folder says of the run, without building its sampler: what can be read, and why the rest cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from equipoise.training.folder import RunFolder

Value = TypeVar("Value")


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells it.

    Attributes:
        name: short, printable, and no other run's of the same set.
        path: of the folder.
        config: complete; empty where there is no run.
        environment: what it ran on.
        metrics: its records, in the order of steps.
        done: what DONE holds; None before the run has ended.
        problems: what cannot be read, and why.
    """

    name: str
    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    done: dict[str, Any] | None = None
    problems: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether there is a run."""
        return bool(self.config)

    @property
    def last(self) -> dict[str, Any]:
        """The last record; empty where there is none."""
        return self.metrics[-1] if self.metrics else {}


def read_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """The runs of these folders, in the order given, each once.

    Raises:
        ValueError: no folder is given, or none holds a run.
    """
    if not paths:
        raise ValueError("no run is given: one run folder or more were expected, for example runs/first")
    folders = list({_resolved(path): path for path in paths}.values())
    records = [read_run(path, name) for path, name in zip(folders, names(folders), strict=True)]
    if not any(record.readable for record in records):
        others = len(records) - 1
        more = f" (nor is there one in the {others} other{'s' if others > 1 else ''})" if others else ""
        raise ValueError(f"{records[0].problems[0]}{more}")
    return records


def read_run(path: Path, name: str) -> RunRecord:
    """One run, called `name`."""
    folder = RunFolder(path)
    problems: list[str] = []
    config = _attempt(lambda: RunFolder.open(path).config(), {}, "", problems)
    if problems:
        return RunRecord(name, path, problems=tuple(problems))
    environment = _attempt(
        lambda: _mapping(path / "environment.json"), {}, "environment.json cannot be read: ", problems
    )
    metrics = _attempt(folder.metrics, [], "metrics.jsonl cannot be read: ", problems)
    done = _attempt(lambda: _mapping(path / "DONE") if folder.done else None, None, "DONE cannot be read: ", problems)
    kept = [record for record in metrics if isinstance(record, dict) and isinstance(record.get("step"), int)]
    return RunRecord(name, path, config, environment, kept, done, tuple(problems))


def names(paths: Sequence[Path]) -> list[str]:
    """A name for each folder: its own where no other has it, else its path, printable on one line."""
    own = [_resolved(path).name or str(path) for path in paths]
    told = [name if own.count(name) == 1 else str(path) for name, path in zip(own, paths, strict=True)]
    shown = ["".join(letter if letter.isprintable() else "?" for letter in name) for name in told]
    before = [shown[:place].count(name) for place, name in enumerate(shown)]
    return [f"{name} ({count + 1})" if count else name for name, count in zip(shown, before, strict=True)]


def reason(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _resolved(path: Path) -> Path:
    return path.resolve()


def _mapping(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}: an object was expected")
    return found


def _attempt(read: Callable[[], Value], otherwise: Value, prefix: str, problems: list[str]) -> Value:
    try:
        return read()
    except (OSError, ValueError) as error:
        problems.append(prefix + reason(error))
        return otherwise
