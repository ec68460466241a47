"""`equipoise train` and `equipoise resume`."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from equipoise.cli.flags import UsageError, hidden, parse, parse_config, take
from equipoise.cli.messages import warn
from equipoise.recipes.configuration import Training
from equipoise.recipes.tasks import TASKS, task

ENGINE = ("engine", "searchers", "address")
"""Flags of every task."""


@dataclass(frozen=True)
class Resume:
    """Takes a run up at its last whole checkpoint; it ends bit for bit where it would have."""

    run: Annotated[Path, tyro.conf.Positional]
    """run folder"""


def train(words: list[str]) -> int:
    """`equipoise train TASK [flags] [--config FILE]`."""
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, rest = words[0], words[1:]
    chosen = task(name)
    path, rest = take(rest, "--config")
    engine, rest = _engine(chosen.config, rest)
    file = None if path is None else Path(path)
    config = parse_config(chosen.config, rest, prog=f"equipoise train {name}", config=file, given=engine)
    config = dataclasses.replace(config, out=config.out or _next_free(name))
    from equipoise.recipes.runs import train as run

    _conclude(run(config).run.evaluate(), config.out or Path())
    return 0


def _engine(kind: type[Training], words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The flags of the engine that a task's help, which is full, leaves to the help of all tasks; and other words."""
    found: dict[str, Any] = {}
    for name in ENGINE:
        if name in hidden(kind):
            value, words = take(words, f"--{name}")
            if value is not None:
                found[name] = value
    if not found.get("searchers", "1").isdigit():
        raise UsageError(f"--searchers is '{found['searchers']}': a whole number was expected")
    return {name: int(value) if name == "searchers" else value for name, value in found.items()}, words


def resume(words: list[str]) -> int:
    """`equipoise resume RUN`."""
    chosen = parse(Resume, words, prog="equipoise resume")
    from equipoise.recipes.runs import continue_run, open_run

    run = open_run(chosen.run)
    if run.folder.done and run.loop.step >= run.config.steps:
        raise UsageError(f"'{chosen.run}' has ended; judge it with: equipoise evaluate {chosen.run}")
    warn(run.warnings)
    print(f"taking up '{chosen.run}' at step {run.loop.step}", file=sys.stderr)
    continue_run(run)
    _conclude(run.built.run.evaluate(), chosen.run)
    return 0


def _conclude(figures: dict[str, Any], out: Path) -> None:
    shown = "  ".join(f"{name} {value:.6g}" for name, value in figures.items() if isinstance(value, float))
    print(f"{out}: {shown}")


def _next_free(name: str) -> Path:
    number = 1
    while (path := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return path


def _help() -> str:
    width = max(map(len, TASKS))
    lines = [f"  {name:<{width}}  {(entry.config.__doc__ or '').splitlines()[0]}" for name, entry in TASKS.items()]
    return (
        "usage: equipoise train TASK [flags] [--config FILE]\n\ntasks:\n" + "\n".join(lines) + "\n\n"
        "--config FILE starts from a run's config.yaml; flags override it.\n"
        "--engine ray --searchers N runs N processes that draw beside the one that trains, on this machine\n"
        "or, with --address ADDR, on a Ray cluster; what else it can be told is set in a file for --config.\n"
        "The flags of a task: equipoise train TASK --help"
    )
