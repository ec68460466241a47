"""Tables of scores of all strings, from files."""

from __future__ import annotations

from pathlib import Path

import numpy
import torch
from torch import Tensor


def read_scores(path: Path | None, *, letters: int, length: int, what: str) -> Tensor:
    """(letters ** length,) float32 scores of a .npy array.

    Args:
        path: of the file.
        letters: size of the alphabet.
        length: of a string.
        what: the scores, in words, for errors.

    Raises:
        ValueError: no path, an array of another shape, or a score that is not finite (names the first).
        FileNotFoundError: no such file.
    """
    size = letters**length
    if path is None:
        raise ValueError(
            f"this task reads {what} from your own file: give --table FILE, a .npy array of {size} numbers"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no table '{path}': give a .npy array of {size} numbers, {what}")
    try:
        scores = torch.from_numpy(numpy.load(path, allow_pickle=False).astype(numpy.float32))
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise ValueError(f"'{path}' is no .npy array of numbers: {error}") from error
    if scores.shape != (size,):
        raise ValueError(f"'{path}' has shape {tuple(scores.shape)}: ({size},) was expected, {what}")
    finite = torch.isfinite(scores)
    if not bool(finite.all()):
        row = int((~finite).int().argmax())
        raise ValueError(f"'{path}', entry {row}: the score is {float(scores[row])}; a finite number was expected")
    return scores
