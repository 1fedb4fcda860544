"""One file out of the store: verified while it streams, or linked where the store is a folder of this file system.

Several threads read ranges ahead; one place takes them in order, hashes and appends. So the file on disk is always a
prefix whose hash is known to go on from, which is what makes a killed fetch resumable without any record of ranges.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pilotlight.runtime.models import ModelFile, blob_key
from pilotlight.runtime.stores import ObjectStore, StoreError, StoreUnavailableError, read_into

PART_BYTES = 8 << 20
READERS = 6
"""Ranges read at once; with PART_BYTES it bounds the memory of a fetch to about 100 MiB."""
ATTEMPTS = 4
"""Per range, with growing pauses, on top of what the store retries itself."""
STALL_SECONDS = 60.0
"""A fetch into which no range arrives for so long is given up."""
_HASH_BYTES = 4 << 20
_FICLONE = 0x40049409
"""Linux: share a file's blocks with another (Btrfs, XFS)."""


Progress = Callable[[int], None]
"""Called with the number of further bytes that are in place."""


def ignore(size: int) -> None:
    """Progress that nobody looks at."""


class DigestMismatchError(Exception):
    """The store's bytes are not those that the manifest names."""

    def __init__(self, file: ModelFile, actual: str) -> None:
        super().__init__(
            f"model file {file.path!r} is corrupt in the registry: expected {file.digest}, got {actual};"
            " find it with `pilotlight models verify --repair`, then push the model again"
        )
        self.file, self.actual = file, actual


class FetchStalledError(Exception):
    """The store sent nothing for too long."""


class FetchCancelledError(Exception):
    """The replica was told to stop."""


def fetch_file(
    store: ObjectStore,
    file: ModelFile,
    target: Path,
    progress: Progress = ignore,
    cancelled: Callable[[], bool] = lambda: False,
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Make `target` that file, whole and verified.

    Raises DigestMismatchError, FetchStalledError, FetchCancelledError, and the store's errors after retries. What was
    read before a failure stays for the next try, unless it was wrong.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if _link(store, file, target):
        actual = hash_file(target, progress, cancelled)
        resumed = False
    else:
        actual, resumed = _stream(store, file, target, progress, cancelled, stall_seconds)
    if actual == file.digest:
        return
    target.unlink()
    if not resumed:
        raise DigestMismatchError(file, actual)
    # The part that an earlier process left may be what is wrong: once more from the start.
    fetch_file(store, file, target, ignore, cancelled, stall_seconds)


def hash_file(path: Path, progress: Progress, cancelled: Callable[[], bool] = lambda: False) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        _hash_rest(stream.fileno(), digest, progress, cancelled)
    return f"sha256:{digest.hexdigest()}"


def _hash_rest(handle: int, digest: hashlib._Hash, progress: Progress, cancelled: Callable[[], bool]) -> None:
    buffer = memoryview(bytearray(_HASH_BYTES))
    while size := os.readv(handle, [buffer]):
        digest.update(buffer[:size])
        progress(size)
        if cancelled():
            raise FetchCancelledError


def _link(store: ObjectStore, file: ModelFile, target: Path) -> bool:
    """Share the store's file where it lies on this file system: a reflink, else a hard link; False: it must be read.

    Objects of a folder store are never written in place, and a model in the cache is only read.
    """
    parts = urlsplit(store.address)
    if parts.scheme != "file":
        return False
    source = Path(unquote(parts.path)) / blob_key(file.digest)
    if source.is_symlink() or not source.is_file() or source.stat().st_size != file.size:
        return False  # the ordinary way finds out and says what is wrong
    target.unlink(missing_ok=True)
    return _reflink(source, target) or _hard_link(source, target)


def _reflink(source: Path, target: Path) -> bool:
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            target.unlink()
            return False
    return True


def _hard_link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def _stream(
    store: ObjectStore,
    file: ModelFile,
    target: Path,
    progress: Progress,
    cancelled: Callable[[], bool],
    stall_seconds: float,
) -> tuple[str, bool]:
    """The digest of what is in `target` now, and whether some of it was there before."""
    digest = hashlib.sha256()
    handle = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_size > file.size:
            os.ftruncate(handle, 0)
        present = os.fstat(handle).st_size
        _hash_rest(handle, digest, progress, cancelled)
        readers = _Readers(store, blob_key(file.digest), present, file.size)
        try:
            for _ in range(readers.parts):
                part = readers.next(stall_seconds, cancelled)
                digest.update(part)
                _write_all(handle, part)
                progress(len(part))
        finally:
            readers.stop()
        os.fsync(handle)
    finally:
        os.close(handle)
    return f"sha256:{digest.hexdigest()}", present > 0


def _write_all(handle: int, data: bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


class _Readers:
    """Threads that read parts ahead, at most READERS of them waiting to be taken, and give them out in order.

    Daemon threads: one that a dead connection holds must not keep the process from ending.
    """

    def __init__(self, store: ObjectStore, key: str, start: int, end: int) -> None:
        self._store, self._key, self._end = store, key, end
        self._offsets = range(start, end, PART_BYTES)
        self._results: list[queue.SimpleQueue[bytearray | StoreError]] = [queue.SimpleQueue() for _ in self._offsets]
        self._ahead = threading.Semaphore(READERS * 2)
        self._claim = threading.Lock()
        self._claimed = self._taken = 0
        self._stopped = threading.Event()
        for _ in range(min(READERS, len(self._offsets))):
            threading.Thread(target=self._run, name="fetch", daemon=True).start()

    @property
    def parts(self) -> int:
        return len(self._offsets)

    def next(self, stall_seconds: float, cancelled: Callable[[], bool]) -> bytearray:
        """The next part in order."""
        deadline = time.monotonic() + stall_seconds
        while not cancelled():
            try:
                result = self._results[self._taken].get(timeout=min(stall_seconds, 0.2))
            except queue.Empty:
                if time.monotonic() >= deadline:
                    raise FetchStalledError(f"the model store sent nothing for {stall_seconds:.0f} s") from None
                continue
            if isinstance(result, StoreError):
                raise result
            self._taken += 1
            self._ahead.release()
            return result
        raise FetchCancelledError

    def stop(self) -> None:
        self._stopped.set()
        for _ in range(READERS):
            self._ahead.release()

    def _run(self) -> None:
        while True:
            self._ahead.acquire()
            with self._claim:
                index = self._claimed
                self._claimed += 1
            if index >= len(self._offsets) or self._stopped.is_set():
                return
            self._results[index].put(self._read(self._offsets[index]))

    def _read(self, offset: int) -> bytearray | StoreError:
        part = bytearray(min(PART_BYTES, self._end - offset))
        for attempt in range(ATTEMPTS):
            try:
                read_into(self._store, self._key, offset, memoryview(part))
            except StoreUnavailableError as error:
                if attempt + 1 == ATTEMPTS or self._stopped.wait(0.5 * 2**attempt):
                    return error
            except StoreError as error:
                return error
            else:
                return part
        raise AssertionError("unreachable")
