"""The runnable steps of a Markdown file: its blocks of Python, and its lines that call the command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)$")
MISNAMED = {"py", "python2", "python3", "pycon", "ipython"}
EXEMPT = re.compile(r"\s#\s*not run:(?P<reason>.*)$")


class BlockError(ValueError):
    """A fenced block that cannot be read as intended."""


@dataclass(frozen=True)
class Step:
    """One thing to run: a block of Python, or one line for the shell; `line` is its first line in the file."""

    kind: Literal["python", "command"]
    line: int
    source: str


def steps(text: str) -> list[Step]:
    """The steps of a Markdown text, in order.

    Raises:
        BlockError: a block of Python is empty or goes by another name than python, a fence is never closed, or a line
            is exempt without a reason.
    """
    found: list[Step] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = FENCE.match(lines[at])
        if opening is None:
            at += 1
            continue
        end = _closing(lines, at, opening["fence"])
        body = [line.removeprefix(opening["indent"]) for line in lines[at + 1 : end]]
        found += _block(opening["info"], body, at + 2)
        at = end + 1
    return found


def _closing(lines: list[str], at: int, fence: str) -> int:
    for i in range(at + 1, len(lines)):
        closing = lines[i].strip()
        if len(closing) >= len(fence) and set(closing) == {fence[0]}:
            return i
    raise BlockError(f"line {at + 1}: the block that opens here is never closed by {fence}")


def _block(info: str, body: list[str], line: int) -> list[Step]:
    language = re.split(r"[\s{,]", info.strip().removeprefix("{").removeprefix("."))[0].rstrip("}")
    if language.lower() in MISNAMED or (language != "python" and language.lower() == "python"):
        raise BlockError(f"line {line - 1}: a block is called {language!r}; write python, so that it is run")
    if language == "python":
        if not "".join(body).strip():
            raise BlockError(f"line {line - 1}: this block of Python is empty")
        return [Step("python", line, "\n".join(body) + "\n")]
    if language in {"bash", "console", "sh", "shell"}:
        return [step for step in _commands(body, line) if re.match(r"equipoise(\s|$)", step.source)]
    return []


def _commands(body: list[str], line: int) -> list[Step]:
    """The lines of a shell block, without the prompt, continued lines joined, exempt ones left out."""
    found: list[Step] = []
    at = 0
    while at < len(body):
        start, words = at, body[at].removeprefix("$ ").strip()
        while words.endswith("\\") and at + 1 < len(body):
            at += 1
            words = words[:-1].rstrip() + " " + body[at].removeprefix("> ").strip()
        at += 1
        exempt = EXEMPT.search(words)
        if exempt is None:
            found.append(Step("command", line + start, words))
        elif not exempt["reason"].strip():
            raise BlockError(f"line {line + start}: say why the line is not run, after '# not run:'")
    return found
