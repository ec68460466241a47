"""A journal of trajectories: appended, synced to the disk, read back whole up to a torn end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from equipoise.trajectories import Trajectories, from_bytes, to_bytes

_MARK = b"EQPJ"
_HEAD = len(_MARK) + 8 + 16


class Journal:
    """Records in a file, each with its length and digest, so that a crash loses nothing that was acknowledged.

    `append` returns after the record is on the disk. A record that a crash cut short, or that the disk changed, ends
    the journal: it and what follows were never acknowledged.

    Args:
        path: of the file; it is made at the first record.

    Example:
        >>> import tempfile, torch
        >>> from equipoise.trajectories import ends
        >>> journal = Journal(Path(tempfile.mkdtemp()) / "journal")
        >>> first = journal.append(ends(torch.zeros(2, 1)))
        >>> last = journal.append(ends(torch.ones(3, 1)))
        >>> [len(rows) for rows, _ in journal.records()], [len(rows) for rows, _ in journal.records(first)]
        ([2, 3], [3])
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def append(self, rows: Trajectories) -> int:
        """Writes a record and waits for the disk; the offset after it.

        Raises:
            OSError: the disk is full or not writable; the journal is as it was before.
        """
        return self.append_bytes(to_bytes(rows))

    def append_bytes(self, blob: bytes) -> int:
        """The same for a record that is bytes already."""
        head = _MARK + len(blob).to_bytes(8, "little") + hashlib.blake2b(blob, digest_size=16).digest()
        before = self.path.stat().st_size if self.path.exists() else None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("ab") as file:
                file.write(head + blob)
                file.flush()
                os.fsync(file.fileno())
                offset = file.tell()
        except OSError:
            if self.path.exists():  # half a record would hide all that is written after it
                os.truncate(self.path, before or 0)
            raise
        if before is None:
            _sync_folder(self.path.parent)
        return offset

    def records(self, offset: int = 0) -> Iterator[tuple[Trajectories, int]]:
        """Every whole record from `offset` on, each with the offset after it."""
        for blob, after in self.blobs(offset):
            yield from_bytes(blob), after

    def blobs(self, offset: int = 0) -> Iterator[tuple[bytes, int]]:
        """The same records as the bytes that they are."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            while len(head := file.read(_HEAD)) == _HEAD and head.startswith(_MARK):
                size = int.from_bytes(head[len(_MARK) : len(_MARK) + 8], "little")
                blob = file.read(size)
                if len(blob) < size or hashlib.blake2b(blob, digest_size=16).digest() != head[-16:]:
                    return
                yield blob, file.tell()

    def cut(self, offset: int) -> None:
        """Drops what lies beyond `offset`: for an engine that will draw it again."""
        if self.path.exists() and self.path.stat().st_size > offset:
            with self.path.open("r+b") as file:
                file.truncate(offset)
                os.fsync(file.fileno())

    @property
    def end(self) -> int:
        """The offset after the last whole record."""
        return max((offset for _, offset in self.blobs()), default=0)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
