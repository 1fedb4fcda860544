"""What a replica holds while it lives: its models in the node cache, and for its start the devices."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from pilotlight.runtime.board import Board
from pilotlight.runtime.cache import CachedModel, DiskFullError, NodeCache
from pilotlight.runtime.engines.protocol import BadEngineSpecError
from pilotlight.runtime.eviction import CacheFullError
from pilotlight.runtime.fetch import DigestMismatchError, FetchCancelledError, FetchStalledError
from pilotlight.runtime.locks import FileLock, LockTimeoutError
from pilotlight.runtime.models import BadManifestError
from pilotlight.runtime.spec import Phase, ReplicaSpec
from pilotlight.runtime.stores import ObjectNotFoundError, StoreDeniedError, StoreError, open_store

_ERRORS = (
    BadManifestError,
    CacheFullError,
    DigestMismatchError,
    DiskFullError,
    FetchStalledError,
    LockTimeoutError,
    StoreError,
)
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_POLL_SECONDS = 0.1

T = TypeVar("T")


class FetchFailedError(BadEngineSpecError):
    """A model could not be brought here; the message is for the user."""


class Holdings:
    """Blocking work is done in threads, which look at `cancelled`."""

    def __init__(self, spec: ReplicaSpec, board: Board) -> None:
        self._spec, self._board = spec, board
        self._models: list[CachedModel] = []
        self.adapters: dict[str, Path] = {}
        self.cancelled = False

    async def acquire(self, *, needed: bool) -> Path | None:
        """Fetch the model and the adapters; the model's folder. Raises FetchFailedError."""
        if not needed:
            return None
        return await asyncio.to_thread(self._acquire)

    def _acquire(self) -> Path:
        spec = self._spec
        observer = _Observer(self._board, lambda: self.cancelled)
        try:
            if not Path(spec.cache_folder).is_absolute():
                raise FetchFailedError(f"cache_folder {spec.cache_folder!r} is not an absolute path")
            store = open_store(spec.store)
            cache = NodeCache(Path(spec.cache_folder), spec.cache_bytes)
            self._models.append(cache.acquire(store, spec.model, observer, spec.start_seconds))
            for adapter in spec.adapters:
                self._models.append(cache.acquire(store, adapter.digest, observer, spec.start_seconds))
                self.adapters[adapter.name] = self._models[-1].folder
        except FetchCancelledError:
            raise FetchFailedError("stopped while the model was fetched") from None
        except _ERRORS as error:
            raise FetchFailedError(f"the model could not be fetched: {error}{self._advice(error)}") from error
        except OSError as error:
            raise FetchFailedError(f"the model could not be fetched: {error.strerror} ({error.filename})") from error
        return self._models[0].folder

    def _advice(self, error: Exception) -> str:
        """What to do about it, where that is known."""
        store = self._spec.store
        if isinstance(error, StoreDeniedError):
            return f"; check that the credentials are right and may read {store}"
        if isinstance(error, ObjectNotFoundError):
            named = ", ".join([self._spec.model, *(adapter.digest for adapter in self._spec.adapters)])
            return f"; check that {store} is the right store and has all of {named}"
        return ""

    @asynccontextmanager
    async def devices(self) -> AsyncIterator[None]:
        """Hold the locks of the replica's devices: engines that start side by side misjudge the free memory.

        Raises BadEngineSpecError. Taken in one order; a deadlock is impossible.
        """
        locks: list[FileLock] = []
        try:
            for device in sorted(set(self._spec.devices)):
                if not _DEVICE.fullmatch(device):
                    raise BadEngineSpecError(f"device {device[:100]!r} is not a device's UUID")
                locks.append(FileLock(Path(self._spec.cache_folder) / "devices" / f"{device}.lock"))
                while not locks[-1].try_acquire():  # noqa: ASYNC110  the holder is another process
                    await asyncio.sleep(_POLL_SECONDS)
            yield
        finally:
            for lock in locks:
                lock.close()

    def release(self) -> None:
        for model in self._models:
            model.release()


class _Observer:
    """Carries a fetch's progress from its thread to the board; the board is only assigned to, which is safe."""

    def __init__(self, board: Board, cancelled: Callable[[], bool]) -> None:
        self._board, self.cancelled = board, cancelled

    def progress(self, done: int, total: int, detail: str) -> None:
        if self._board.phases.current is Phase.FETCH:
            self._board.phases.progress(done / total if total else 0.0, detail)
