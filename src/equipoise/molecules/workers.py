"""Processes beside this one that compute exact parents, many molecules at a time.

Each is an interpreter of its own that holds the chemistry once and imports no torch, so that nothing is forked and a
script that trains needs no guard. Requests and replies are lines of JSON through its pipes; it ends when these close.
Parents are a function of the molecule alone, so that no result depends on who computed them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TextIO

import numpy

from equipoise.molecules.chemistry import Chemistry
from equipoise.molecules.reactions import Parent, Reactions

CHUNKS = 4
"""Requests that a process is sent in turn for its share, so that none waits long for the slowest molecules."""

KEPT = 100_000
"""Entries of each table of a process; what it has told is kept by who asked."""

Asked = tuple[str, list[int]]
"""A molecule, and the numbers of reactions that could have made it."""

Told = list[tuple[str, int, list[tuple[str, int, int]]]]
"""A molecule, a number of reactions, and its parents; of its ancestors too."""


class Workers:
    """Processes that fill the table of parents of `reactions`. They begin at the first use and end with `close`.

    Args:
        reactions: whose table is filled, and whose chemistry the processes hold.
        count: of processes.

    Raises:
        ValueError: no process.

    Example:
        >>> from equipoise.molecules.chemistry import chemistry
        >>> amide = "[C:1](=[O:2])[OH].[NH2:3][C:4]>>[C:1](=[O:2])[N:3][C:4]"
        >>> reactions = Reactions(chemistry([amide], ["CC(=O)O", "CN"]), reversible=True)
        >>> workers = Workers(reactions, 1)
        >>> workers.learn([("CNC(C)=O", 1)])
        >>> reactions.known("CNC(C)=O", 1), len(reactions.parents("CNC(C)=O", 1))
        (True, 2)
        >>> workers.close()

    Use them where a batch asks for the parents of tens of molecules and there are idle cores. A process that ends is
    said once, with a warning, and what it had been asked is computed where it is needed.
    """

    def __init__(self, reactions: Reactions, count: int) -> None:
        if count < 1:
            raise ValueError(f"count is {count}: at least one process was expected")
        self.reactions, self.count = reactions, count
        self.running: list[_Process] = []
        self._ended = False
        weakref.finalize(self, _end, self.running)  # at the interpreter's exit too

    def learn(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Parents of molecules made by so many reactions, and of their ancestors, into the table; known ones are kept.

        Each molecule is asked for once. What no process could tell is left out.
        """
        asked: dict[str, list[int]] = {}
        for smiles, reactions in dict.fromkeys(wanted):
            if not self.reactions.known(smiles, reactions):
                asked.setdefault(smiles, []).append(reactions)
        if not asked or not self._begun():
            return
        size = -(-len(asked) // (CHUNKS * len(self.running)))
        each = list(asked.items())
        chunks = deque(each[first : first + size] for first in range(0, len(each), size))
        with ThreadPoolExecutor(len(self.running)) as threads:
            try:
                told = [entry for part in threads.map(lambda one: one.served(chunks), self.running) for entry in part]
            finally:
                chunks.clear()
        for smiles, reactions, ways in told:
            self.reactions.learn(smiles, reactions, tuple(Parent(*way) for way in ways))
        self._bury()

    def close(self) -> None:
        """Ends the processes; the next use begins them again."""
        _end(self.running)
        self._ended = False

    def _begun(self) -> bool:
        """Whether there are processes; once the last has ended by itself, there are none."""
        if not self.running and not self._ended:
            first = _chemistry_line(self.reactions)
            for _ in range(self.count):
                self.running.append(_Process(first))
        return bool(self.running)

    def _bury(self) -> None:
        dead = [one for one in self.running if one.code is not None]
        if not dead:
            return
        code = dead[0].code
        self.running[:] = [one for one in self.running if one.code is None]
        _end(dead)
        self._ended = not self.running
        left = f"{len(self.running)} of {self.count} are left" if self.running else "none is left"
        warnings.warn(
            f"a process that computes parents ended (exit code {code}), {left}: what they do not tell is "
            "computed by this one, with the same results",
            RuntimeWarning,
            stacklevel=3,
        )


class _Process:
    """One process, and what it has been told."""

    def __init__(self, first: str) -> None:
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self.first: str | None = first
        self.code: int | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.asks, self.tells = self.process.stdin, self.process.stdout

    def served(self, chunks: deque[list[Asked]]) -> Told:
        """Takes chunks until there are none, or the process has ended; what it told."""
        told: Told = []
        while chunks and self.code is None:
            try:
                told += self._told(chunks.popleft())
            except IndexError:  # another took the last one
                break
            except (OSError, EOFError):
                self.process.kill()
                self.code = self.process.wait()
        return told

    def _told(self, chunk: list[Asked]) -> Told:
        if self.first is not None:
            self.asks.write(self.first)
            self.first = None
        self.asks.write(json.dumps(chunk) + "\n")
        self.asks.flush()
        line = self.tells.readline()
        if not line.endswith("\n"):
            raise EOFError
        return json.loads(line)


def _end(running: list[_Process]) -> None:
    for one in running:
        one.process.kill()
    for one in running:
        one.process.wait()
        for pipe in (one.asks, one.tells):
            with contextlib.suppress(OSError):  # what was not sent is lost with the process
                pipe.close()
    running.clear()


def _chemistry_line(reactions: Reactions) -> str:
    made = reactions.chemistry
    given = {
        "templates": made.templates,
        "blocks": made.blocks,
        "patterns": made.fits.shape[1],
        "fits": numpy.packbits(made.fits).tobytes().hex(),
        "settings": {"most_atoms": reactions.most_atoms, "most_products": reactions.most_products},
    }
    return json.dumps(given) + "\n"


def _reactions_of(line: str) -> Reactions:
    given: dict[str, Any] = json.loads(line)
    shape = len(given["blocks"]), given["patterns"]
    bits = numpy.frombuffer(bytes.fromhex(given["fits"]), dtype=numpy.uint8)
    fits = numpy.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)
    made = Chemistry(tuple(given["templates"]), tuple(given["blocks"]), fits)
    return Reactions(made, reversible=True, kept=KEPT, **given["settings"])


def _lineage(reactions: Reactions, asked: Sequence[Asked]) -> Told:
    """The parents of these molecules, and of all their ancestors, each once."""
    found: dict[tuple[str, int], tuple[Parent, ...]] = {}
    left = [(smiles, count) for smiles, counts in asked for count in counts]
    while left:
        smiles, count = left.pop()
        if (smiles, count) not in found:
            found[smiles, count] = ways = reactions.parents(smiles, count)
            left += [(way.smiles, count - 1) for way in ways if count > 1]
    return [
        (smiles, count, [(way.smiles, way.slot, way.block) for way in ways]) for (smiles, count), ways in found.items()
    ]


def serve(asked: TextIO, told: TextIO) -> None:
    """What a process does: a chemistry, then molecules, line by line, until there are no more."""
    reactions = _reactions_of(asked.readline())
    for line in iter(asked.readline, ""):
        told.write(json.dumps(_lineage(reactions, json.loads(line))) + "\n")
        told.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the process that asks
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin, sys.stdout)
