"""An append-only file of lines that survives kill -9, in segments, within a bound.

`append` costs one `write`: the line is the kernel's from then on, so the process may die. `sync` makes it survive a
power cut and is called twice a second from another thread. A segment's name has its writer, so that whoever finds it
after a crash knows whose lines these are.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SEGMENT_BYTES = 4 * 2**20
"""A segment that has grown to this is closed."""
SPOOL_BYTES = 256 * 2**20
"""Largest journal: about 250,000 requests that the database does not have yet."""


class JournalError(OSError):
    """A line could not be written; the request that it stands for must not go on."""


class Segment(NamedTuple):
    """One file that nothing is appended to any more."""

    path: Path
    writer: str
    size: int


class Journal:
    """The segments in one folder. Not locked: the ledger calls `append`, `turn` and `remove` under its own lock."""

    def __init__(
        self, folder: Path, writer: str = "", limit: int = SPOOL_BYTES, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._writer = writer
        self._limit = limit
        self._segment_bytes = segment_bytes
        known = sorted(folder.glob("journal-*.jsonl"))
        self._number = 1 + (_number(known[-1]) if known else 0)
        self.closed = deque(Segment(path, _writer(path), path.stat().st_size) for path in known)
        """Oldest first, those of earlier lives too."""
        self.size = sum(segment.size for segment in self.closed)
        """Of all segments, bytes."""
        self._unsynced: deque[int] = deque()
        self._synced = True
        self._torn = False
        self._open()

    def append(self, lines: bytes, reserved: bool = False) -> None:
        """Whole lines in one write; raises JournalError when the disk, or the bound, does not take all of them.

        `reserved`: they end requests that were let in, and may go beyond the bound.
        """
        if not reserved and self.size + len(lines) > self._limit:
            raise JournalError(errno.ENOSPC, f"the ledger's journal is full: {self.size} bytes wait for the database")
        data = b"\n" + lines if self._torn else lines
        try:
            if self._size >= self._segment_bytes:
                self.turn()
            written = os.write(self._descriptor, data)
        except OSError as error:
            raise JournalError(error.errno, f"the ledger's journal cannot be written: {error}") from error
        self._size += written
        self.size += written
        self._synced = False
        # The next line must not continue a torn one.
        self._torn = written < len(data)
        if self._torn:
            raise JournalError(errno.ENOSPC, "the ledger's journal took only a part of a line: is the disk full?")

    def turn(self) -> None:
        """Close the present segment and go on in a new one; an empty one goes on."""
        if self._size:
            left = self._descriptor, Segment(self._path, self._writer, self._size)
            self._open()
            self._unsynced.append(left[0])
            self.closed.append(left[1])

    def sync(self) -> None:
        """Nothing written since: nothing to do. One thread at a time."""
        if self._synced and not self._unsynced:
            return
        self._synced = True
        present = self._descriptor
        while self._unsynced:
            descriptor = self._unsynced.popleft()
            os.fsync(descriptor)
            os.close(descriptor)
            if descriptor == present:
                return
        os.fsync(present)

    def remove(self) -> None:
        """The oldest closed segment, when its lines are kept elsewhere."""
        segment = self.closed.popleft()
        segment.path.unlink(missing_ok=True)
        self.size -= segment.size

    def close(self) -> None:
        """What the database has is not left on disk; the rest is."""
        self.sync()
        os.close(self._descriptor)
        if not self._size:
            self._path.unlink(missing_ok=True)

    def _open(self) -> None:
        suffix = f"-{self._writer}" if self._writer else ""
        path = self._folder / f"journal-{self._number:08d}{suffix}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._path = path
        self._number += 1
        self._size = 0
        self._torn = False


def read(segment: Segment) -> Iterator[bytes]:
    """Its lines; a torn one comes without its line feed."""
    with segment.path.open("rb") as file:
        yield from file


def _number(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _writer(path: Path) -> str:
    return "-".join(path.stem.split("-")[2:])
