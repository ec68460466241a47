"""Rewards that are slow or fail at times: what they said is kept on disk, and they are asked again."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from equipoise.contracts import Reward
from equipoise.sampling.rollouts import rewarded
from equipoise.sampling.rows import digests_of, split_digests
from equipoise.trajectories import Columns, Trajectories, ends

Answer = TypeVar("Answer")

_ENTRY = struct.Struct("<16sdI")


class Remembered:
    """A reward that is asked once for each object and context, in this run and the next ones of the folder.

    Entries are 28 bytes in a file (a digest of object and context, the log-reward, a checksum), appended after each
    call; what a crash cut short is dropped when the file is opened.

    Args:
        reward: is asked for what is not known yet, in one call.
        path: of the file, written by this process alone; other files beside it with the same ending are read too.
            None: remembered in memory.

    Raises:
        ValueError: in a call, a log-reward that is not finite or of the wrong shape.

    Example:
        >>> asked = []
        >>> def reward(objects, context):
        ...     asked.append(len(objects))
        ...     return objects[:, 0].float()
        >>> remembered = Remembered(reward)
        >>> remembered(torch.tensor([[1], [2], [1]]), None).tolist()
        [1.0, 2.0, 1.0]
        >>> remembered(torch.tensor([[2], [3]]), None).tolist()
        [2.0, 3.0]
        >>> asked
        [2, 1]

    Use it where a call is dear and always says the same. A judge that answers at random is frozen at its first answer.
    """

    def __init__(self, reward: Reward, path: Path | None = None) -> None:
        self.reward, self.path = reward, path
        self.known: dict[bytes, float] = {}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            for other in sorted(path.parent.glob(f"*{path.suffix}")):
                self._read(other, own=other == path)
            self._read(path, own=True)

    def __call__(self, objects: Columns, context: Columns = None) -> Tensor:
        """(n,) log-rewards."""
        rows = ends(objects, context=context)
        digests = row_digests(rows)
        unknown = {digest: place for place, digest in enumerate(digests) if digest not in self.known}
        if unknown:
            asked = rows[torch.tensor(list(unknown.values()))]
            found = rewarded(self.reward, asked.objects, asked.context, len(asked)).double().tolist()
            self._keep(dict(zip(unknown, found, strict=True)))
        return torch.tensor([self.known[digest] for digest in digests], dtype=torch.float64).float()

    def _keep(self, found: dict[bytes, float]) -> None:
        if self.path is not None:
            with self.path.open("ab") as file:
                file.write(b"".join(_entry(digest, value) for digest, value in found.items()))
        self.known |= found

    def _read(self, path: Path, *, own: bool) -> None:
        blob = path.read_bytes() if path.exists() else b""
        whole = 0
        for start in range(0, len(blob) - _ENTRY.size + 1, _ENTRY.size):
            digest, value, check = _ENTRY.unpack_from(blob, start)
            if check != zlib.crc32(blob[start : start + 24]):
                break
            self.known[digest] = value
            whole = start + _ENTRY.size
        if own and whole < len(blob):
            with path.open("r+b") as file:
                file.truncate(whole)


def row_digests(rows: Trajectories) -> list[bytes]:
    """A digest of each row's object and context."""
    columns: Columns = {"objects": rows.objects}
    if rows.context is not None:
        columns = {"objects": rows.objects, "context": rows.context}
    return split_digests(digests_of(columns, torch.zeros_like(rows.group)))


def patiently(
    call: Callable[[], Answer],
    *,
    attempts: int,
    first: float = 1.0,
    most: float = 60.0,
    sleep: Callable[[float], None] = time.sleep,
    before: Callable[[Exception], None] = lambda error: None,
) -> Answer:
    """The answer of a call that may fail: asked up to `attempts` times, after pauses that double.

    Args:
        call: is asked.
        attempts: calls, at least 1.
        first: seconds before the second call.
        most: seconds of the longest pause.
        sleep: waits that many seconds.
        before: is told of each failure before the pause.

    Raises:
        ValueError: every call failed; it says how the last one did.

    Example:
        >>> answers = iter([TimeoutError("slow"), 7.0])
        >>> def call():
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> pauses = []
        >>> patiently(call, attempts=3, sleep=pauses.append), pauses
        (7.0, [1.0])
    """
    pause = first
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except Exception as error:
            before(error)
            if attempt == attempts:
                said = " ".join(str(error).split()) or type(error).__name__
                raise ValueError(f"the reward failed {attempts} times in a row, the last time so: {said}") from error
        sleep(pause)
        pause = min(most, 2 * pause)
    raise ValueError(f"attempts is {attempts}: at least one call was expected")


def _entry(digest: bytes, value: float) -> bytes:
    head = struct.pack("<16sd", digest, value)
    return head + struct.pack("<I", zlib.crc32(head))
