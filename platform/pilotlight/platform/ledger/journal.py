"""An append-only file of lines that survives kill -9, in segments so that it can be cut.

`append` costs one `write`: the line is the kernel's from then on, so the process may die. `sync` makes it survive a
power cut and is called about once a second from another thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

SEGMENT_BYTES = 4 * 2**20
"""A segment that has grown to this is left, and removed once the database has its lines."""


class JournalError(OSError):
    """A line could not be written; the request that it stands for must not go on."""


class Journal:
    """The segments in one folder. Not locked: the ledger calls `append` and `turn` under its own lock."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._limit = segment_bytes
        self._left: list[tuple[Path, int]] = []
        known = sorted(folder.glob("journal-*.jsonl"))
        self._number = 1 + (int(known[-1].stem.split("-")[1]) if known else 0)
        self._torn = False
        self._synced = True
        self._open()

    def append(self, lines: bytes) -> None:
        """Whole lines in one write; raises JournalError when the disk does not take all of them."""
        data = b"\n" + lines if self._torn else lines
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            raise JournalError(error.errno, f"the ledger's journal cannot be written: {error}") from error
        self._size += written
        self._synced = False
        # The next line must not continue a torn one.
        self._torn = written < len(data)
        if self._torn:
            raise JournalError(errno.ENOSPC, "the ledger's journal took only a part of a line: is the disk full?")

    def turn(self) -> None:
        """Go on in a new segment when the present one is large enough."""
        if self._size >= self._limit:
            self._left.append((self._path, self._descriptor))
            self._open()

    def sync(self) -> None:
        """Nothing written since: nothing to do."""
        if self._synced:
            return
        self._synced = True
        for descriptor in (*(descriptor for _, descriptor in self._left), self._descriptor):
            os.fsync(descriptor)

    def cut(self) -> None:
        """Remove the segments left by the last `turn`; call it when their lines are kept elsewhere."""
        for path, descriptor in self._left:
            os.close(descriptor)
            path.unlink(missing_ok=True)
        self._left = []

    def close(self, everything_kept: bool) -> None:
        """With `everything_kept`, nothing remains on disk."""
        self._left.append((self._path, self._descriptor))
        if everything_kept:
            self.cut()
            return
        for _, descriptor in self._left:
            os.fsync(descriptor)
            os.close(descriptor)

    def _open(self) -> None:
        self._path = self._folder / f"journal-{self._number:08d}.jsonl"
        self._number += 1
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = 0


def read_segments(folder: Path) -> Iterator[bytes]:
    """Every line of every segment, oldest first; a torn one comes without its line feed."""
    for path in sorted(folder.glob("journal-*.jsonl")):
        with path.open("rb") as file:
            yield from file
