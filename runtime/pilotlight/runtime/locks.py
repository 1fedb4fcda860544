"""Locks between processes that the kernel releases when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

_POLL_SECONDS = 0.05


class LockTimeoutError(Exception):
    """Another process held the lock for too long."""


class FileLock:
    """An advisory lock on a file that is never deleted; shared or exclusive."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_acquire(self, *, shared: bool = False) -> bool:
        try:
            fcntl.flock(self._handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def acquire(self, timeout: float, *, shared: bool = False, waiting: Callable[[], None] = lambda: None) -> None:
        """Wait up to `timeout` seconds, calling `waiting` now and then. Raises LockTimeoutError."""
        deadline = time.monotonic() + timeout
        while not self.try_acquire(shared=shared):
            if time.monotonic() >= deadline:
                raise LockTimeoutError(f"{self._path.name} was held by another process for {timeout:.0f} s")
            waiting()
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Release it."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


@contextmanager
def holding(path: Path, timeout: float, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Exclusive for the block. Raises LockTimeoutError."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout, waiting=waiting)
        yield
    finally:
        lock.close()


@contextmanager
def holding_all(paths: Sequence[Path], timeout: float, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """All of them, taken in one order, so that two who want the same ones cannot wait for each other."""
    with ExitStack() as stack:
        for path in sorted(set(paths)):
            stack.enter_context(holding(path, timeout, waiting))
        yield
