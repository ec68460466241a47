"""A journal in segments: what was acknowledged, in order, until no checkpoint needs it any more."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from equipoise.sampling.journal import Journal

SEGMENT = 64 * 2**20
"""Bytes after which a new segment begins."""


class Log:
    """Numbered records in the files of one folder, each file named by the number of its first record.

    A segment whose end a crash cut short is cut to its last whole record when the log is opened; segments after it, and
    after a gap, were never acknowledged in this order and are removed.

    Args:
        folder: of the segments; it is made at the first record.
        segment: bytes after which a new segment begins.

    Example:
        >>> import tempfile
        >>> log = Log(Path(tempfile.mkdtemp()), segment=1)
        >>> [log.append(b) for b in (b"first", b"second", b"third")]
        [0, 1, 2]
        >>> log.release(1)
        >>> log.first, log.count, [blob for _, blob in Log(log.folder).records(1)]
        (1, 3, [b'second', b'third'])
    """

    def __init__(self, folder: Path, segment: int = SEGMENT) -> None:
        self.folder, self.segment = folder, segment
        self.first, self.count = 0, 0
        paths = self._paths()
        if paths:
            self.first = self.count = int(paths[0].name)
        for path in paths:
            if int(path.name) != self.count:
                path.unlink()
                continue
            journal = Journal(path)
            ends = [end for _, end in journal.blobs()]
            self.count += len(ends)
            journal.cut(ends[-1] if ends else 0)

    def append(self, blob: bytes) -> int:
        """Writes a record and waits for the disk; its number.

        Raises:
            OSError: the disk is full or not writable; the log is as it was before.
        """
        paths = self._paths()
        last = paths[-1] if paths and paths[-1].stat().st_size < self.segment else self._path(self.count)
        Journal(last).append_bytes(blob)
        self.count += 1
        return self.count - 1

    def records(self, first: int = 0) -> Iterator[tuple[int, bytes]]:
        """Every record from number `first` on, with its number."""
        paths = self._paths()
        ends = [*(int(path.name) for path in paths[1:]), self.count]
        for path, end in zip(paths, ends, strict=False):  # no file, no record
            if end > first:
                for number, (blob, _) in enumerate(Journal(path).blobs(), int(path.name)):
                    if number >= first:
                        yield number, blob

    def release(self, first: int) -> None:
        """Removes the segments all of whose records have numbers below `first`."""
        paths = self._paths()
        for path, after in pairwise(paths):
            if int(after.name) > first:
                break
            path.unlink()
            self.first = int(after.name)

    def cut(self, count: int) -> None:
        """Drops the records from number `count` on: for an engine that will draw the same again."""
        for path in self._paths():
            begin, journal = int(path.name), Journal(path)
            if begin >= count:
                path.unlink()
            else:
                ends = [end for _, end in journal.blobs()]
                journal.cut(ends[min(count - begin, len(ends)) - 1])
        self.count = min(self.count, max(count, self.first))

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("[0-9]*") if path.name.isdigit())

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012d}"
