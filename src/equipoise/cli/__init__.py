"""The command line: `equipoise COMMAND ...`. Errors are one line and exit code 1; `--debug` shows the traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("equipoise.cli.demo:demo", "train on small built-in targets and write a report, in minutes"),
    "train": ("equipoise.cli.train:train", "train a sampler on a task, in a new run folder"),
    "resume": ("equipoise.cli.train:resume", "take a run up at its last checkpoint"),
    "evaluate": ("equipoise.cli.evaluate:evaluate", "judge a run's sampler against its target, exactly"),
    "sample": ("equipoise.cli.sample:sample", "draw objects from a run's sampler"),
    "antibody": ("equipoise.cli.antibody:antibody", "prepare a folder of antibody-antigen complexes"),
    "reproduce": ("equipoise.cli.reproduce:command", "run a paper's comparison: one table and one figure"),
    "plot": ("equipoise.cli.report:plot", "write the figures of runs as PNG files"),
    "report": ("equipoise.cli.report:report", "write one HTML page of runs and their figures"),
    "list": ("equipoise.cli.listing:listing", "what can be chosen; or the runs below a folder"),
    "cite": ("equipoise.cli.listing:cite", "BibTeX of what was used"),
}


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    words = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"equipoise {version('equipoise')}")
        return 0
    try:
        return _command(words[0])(words[1:])
    except KeyboardInterrupt:
        print("interrupted; a run is taken up by: equipoise resume RUN", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        if debug or (isinstance(error, RuntimeError) and "memory" not in str(error)):
            raise
        print(f"error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1


def _command(name: str) -> Callable[[list[str]], int]:
    from equipoise.recipes.mappings import nearest

    if name not in COMMANDS:
        raise ValueError(f"unknown command '{name}'{nearest(name, COMMANDS)}; see equipoise --help")
    module, _, function = COMMANDS[name][0].partition(":")
    return getattr(import_module(module), function)


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {about}" for name, (_, about) in COMMANDS.items())
    return (
        "usage: equipoise COMMAND ... [--debug]\n\n"
        "Trains samplers: models that draw x with probability proportional to a reward.\n\n"
        f"commands:\n{commands}\n\n"
        "Try 'equipoise COMMAND --help', or a first run that needs no data:\n"
        "  equipoise train hypergrid --out runs/first\n"
        "  equipoise evaluate runs/first"
    )
