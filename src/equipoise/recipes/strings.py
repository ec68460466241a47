"""Strings of one length over a user's own table or function."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.discrete.environments.strings import GROWTH
from equipoise.recipes import configuration
from equipoise.recipes.discrete import DiscreteRun, build
from equipoise.recipes.rewards import own_reward, wrapped
from equipoise.trajectories import Columns

LARGEST = 2_000_000
"""Strings beyond which a table is refused: they could not be listed for evaluation."""


@dataclass(frozen=True)
class Table:
    """log R of every string, in the order of the number that its letters write, first letter most significant."""

    alphabet: str
    length: int
    log_reward: Tensor


def strings(config: configuration.Strings, reward: Callable[..., Tensor] | None = None) -> DiscreteRun:
    """A run on strings.

    Raises:
        ValueError: a table off its format (names the line), or neither a table nor a reward of one's own.
    """
    own = reward is not None or config.reward != "table"
    if own == (config.table is not None):
        raise ValueError("give either --table FILE, or --reward module:function with --alphabet and --length")
    if config.table is not None:
        table = read_table(config.table, alphabet=config.alphabet, missing=config.missing)
        alphabet, length = table.alphabet, table.length
        chosen = table_reward(table.log_reward, letters=len(alphabet))
    else:
        if not config.alphabet or not config.length:
            raise ValueError("a reward of your own on strings needs --alphabet and --length: for example ACGT and 6")
        alphabet, length = _letters(config.alphabet), config.length
        _require_listable(len(alphabet), length)
        chosen = own_reward(config.reward) if reward is None else wrapped(reward)
    environment = GROWTH[config.growth](letters=len(alphabet), length=length)
    return build(config, environment, chosen, show=lettered(alphabet))


def table_reward(log_reward: Tensor, *, letters: int) -> Reward:
    """Looks a string's log-reward up in a table whose index is the base-`letters` number that its letters write."""

    def reward(objects: Columns, context: Columns = None) -> Tensor:
        if not isinstance(objects, Tensor):
            raise ValueError("strings are given as a tensor (n, length) of letters' numbers")
        places = letters ** torch.arange(objects.shape[1] - 1, -1, -1)
        return log_reward[(objects * places).sum(1)]

    return reward


def lettered(alphabet: str) -> Callable[[Columns], list[str]]:
    """Shows strings by their letters."""

    def show(objects: Columns) -> list[str]:
        assert isinstance(objects, Tensor)
        return ["".join(alphabet[letter] for letter in word) for word in objects.tolist()]

    return show


def read_table(path: Path, *, alphabet: str | None = None, missing: float | None = None) -> Table:
    """A table of rewards.

    Text: one string and its reward a line, separated by a tab, a comma or spaces; blank lines, lines that begin with
    `#`, and a first line whose second word is no number are passed over; every string of the alphabet once, unless
    `missing` says what reward the others have. `.npy`: a one-dimensional array of rewards, with an alphabet.

    Args:
        path: of the table.
        alphabet: the letters, in order; by default those of a text table, sorted.
        missing: reward of strings that a text table leaves out.

    Raises:
        ValueError: what is wrong, with the line: a reward that is not positive, a string of another length, twice, or
            with a letter that is not in the alphabet; strings that are missing.
        FileNotFoundError: no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no table '{path}': give a file of strings and rewards")
    if missing is not None and not 0 < missing < float("inf"):
        raise ValueError(f"missing is {missing}: a positive reward was expected")
    return _array(path, alphabet) if path.suffix == ".npy" else _text(path, alphabet, missing)


def _array(path: Path, alphabet: str | None) -> Table:
    if alphabet is None:
        raise ValueError(f"'{path}' holds rewards without strings: name the letters with --alphabet")
    letters = _letters(alphabet)
    try:
        rewards = torch.from_numpy(numpy.load(path, allow_pickle=False)).double()
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise ValueError(f"'{path}' is no .npy array of numbers: {error}") from error
    length = _power(len(letters), rewards.numel()) if rewards.dim() == 1 else None
    if length is None:
        raise ValueError(
            f"'{path}' has shape {tuple(rewards.shape)}: one dimension of {len(letters)}^length rewards was expected"
        )
    wrong = (~(torch.isfinite(rewards) & (rewards > 0))).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"'{path}', entry {row}: the reward is {float(rewards[row])}; a positive number was expected")
    return Table(letters, length, rewards.log())


def _text(path: Path, alphabet: str | None, missing: float | None) -> Table:
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not text: {error}") from error
    rows = _rows(path, lines)
    if not rows:
        raise ValueError(f"'{path}' holds no string: one string and its reward a line was expected")
    letters = _letters(alphabet or "".join(sorted({letter for word in rows for letter in word})))
    length = len(next(iter(rows)))
    _require_listable(len(letters), length)
    size = len(letters) ** length
    number = {letter: place for place, letter in enumerate(letters)}
    rewards = torch.full((size,), 0.0 if missing is None else missing, dtype=torch.float64)
    for word, (line, value) in rows.items():
        unknown = [letter for letter in word if letter not in number]
        if unknown:
            raise ValueError(f"'{path}', line {line}: '{unknown[0]}' is not one of the letters '{letters}'")
        index = 0
        for letter in word:
            index = index * len(letters) + number[letter]
        rewards[index] = value
    if missing is None and len(rows) < size:
        absent = lettered(letters)(_word(int((rewards == 0).int().argmax()), len(letters), length))[0]
        raise ValueError(
            f"'{path}' lacks {size - len(rows)} of {size} strings, the first '{absent}': list them, or give --missing"
        )
    return Table(letters, length, rewards.log())


def _rows(path: Path, lines: list[str]) -> dict[str, tuple[int, float]]:
    """Each string with its line and reward."""
    rows: dict[str, tuple[int, float]] = {}
    content = [(line, text.strip()) for line, text in enumerate(lines, 1) if text.strip() and not text.startswith("#")]
    length = None
    for place, (line, text) in enumerate(content):
        words = re.split(r"[\s,;]+", text)
        value = _number(words[1]) if len(words) == 2 else None
        if value is None and place == 0:
            continue
        if value is None:
            raise ValueError(f"'{path}', line {line}: '{text[:60]}': a string and a number were expected")
        if not 0 < value < float("inf"):
            raise ValueError(f"'{path}', line {line}: the reward is {words[1]}; a positive number was expected")
        length = length or len(words[0])
        if len(words[0]) != length:
            raise ValueError(f"'{path}', line {line}: '{words[0]}' has {len(words[0])} letters; {length} were expected")
        if words[0] in rows:
            raise ValueError(f"'{path}', line {line}: '{words[0]}' is there already, in line {rows[words[0]][0]}")
        rows[words[0]] = (line, value)
    return rows


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _letters(alphabet: str) -> str:
    if len(alphabet) < 2 or len(set(alphabet)) < len(alphabet):
        raise ValueError(f"alphabet '{alphabet}': at least two letters, each once, were expected")
    return alphabet


def _require_listable(letters: int, length: int) -> None:
    if length < 1 or length * math.log(letters) > math.log(LARGEST):
        raise ValueError(
            f"{letters} letters, length {length}: at least one and at most {LARGEST} strings were expected"
        )


def _power(base: int, size: int) -> int | None:
    length = 0
    while base**length < size:
        length += 1
    return length if base**length == size and length else None


def _word(index: int, letters: int, length: int) -> Tensor:
    return index // letters ** torch.arange(length - 1, -1, -1)[None] % letters
