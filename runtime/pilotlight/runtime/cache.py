"""The node's model cache: whole verified models under their digests, shared by all replicas of the machine.

    models/<hex>/model/...        the files, as the engine reads them
    models/<hex>/verified.json    size and stamps of the files when their digests were right
    partial/<hex>/model/...       a fetch under way, or one that was killed; resumed by the next
    partial/<hex>/reserved        bytes that it will take
    locks/<hex>.use               held shared by every replica that uses the model
    locks/<hex>.fetch             held by the one that fetches; the others wait and find the model whole
    locks/room                    held while room is made
    trash/                        evicted, being deleted

All of it survives kill -9 at any instant: a model appears by one rename, and locks die with their holders.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pilotlight.runtime.eviction import CacheEntry, choose_evictions
from pilotlight.runtime.fetch import FetchCancelledError, fetch_file
from pilotlight.runtime.locks import FileLock, holding
from pilotlight.runtime.models import MANIFEST_LIMIT, BadManifestError, ModelManifest, blob_key, check_digest, sha256
from pilotlight.runtime.stores import ObjectStore, read_small

_ROOM_SECONDS = 60.0
_SPARE_BYTES = 64 << 20
"""Disk space that a fetch leaves free."""


class DiskFullError(Exception):
    """The file system has less room than the model needs, whatever the budget says."""

    def __init__(self, folder: Path, needed: int, free: int) -> None:
        super().__init__(f"the model needs {needed} bytes of disk under {folder}, and {free} are free")
        self.folder, self.needed, self.free = folder, needed, free


class Observer(Protocol):
    """Who looks at a fetch and may end it; called from the thread that fetches."""

    def progress(self, done: int, total: int, detail: str) -> None: ...

    def cancelled(self) -> bool: ...


class Quiet:
    """An observer that does not care."""

    def progress(self, done: int, total: int, detail: str) -> None:
        pass

    def cancelled(self) -> bool:
        return False


@dataclass(frozen=True)
class CachedModel:
    """A model that stays in the cache until it is released."""

    folder: Path
    manifest: ModelManifest
    lease: FileLock

    def release(self) -> None:
        self.lease.close()


class NodeCache:
    def __init__(self, folder: Path, budget: int, clock: Callable[[], float] = time.time) -> None:
        """`budget` in bytes; linked files count in full."""
        self._folder, self._budget, self._clock = folder, budget, clock

    def acquire(
        self, store: ObjectStore, digest: str, observer: Observer | None = None, timeout: float = 3600.0
    ) -> CachedModel:
        """The model, fetched if it is not here, kept until released. Blocks; run it in a thread.

        Raises BadManifestError, CacheFullError, DiskFullError, LockTimeoutError, the errors of `fetch_file` and the
        store's.
        """
        observer = observer or Quiet()
        name = check_digest(digest).removeprefix("sha256:")
        lease = FileLock(self._lock(name, "use"))
        try:
            lease.acquire(timeout, shared=True)
            with holding(self._lock(name, "fetch"), timeout, lambda: self._wait(observer)):
                manifest = self._present(name) or self._fetch(store, digest, name, observer)
            os.utime(self._model(name) / "verified.json", (self._clock(), self._clock()))
        except BaseException:
            lease.close()
            raise
        return CachedModel(self._model(name) / "model", manifest, lease)

    def entries(self) -> Iterator[CacheEntry]:
        """What takes room now. Models that vanish meanwhile are left out."""
        for kind in ("models", "partial"):
            for folder in _folders(self._folder / kind):
                try:
                    size, used_at = _footprint(folder)
                except (OSError, ValueError):
                    size, used_at = _disk_usage(folder), 0.0
                yield CacheEntry(f"{kind}/{folder.name}", size, used_at, self._in_use(folder.name))

    def _wait(self, observer: Observer) -> None:
        observer.progress(0, 0, "waiting for another replica that fetches the same model")
        if observer.cancelled():
            raise FetchCancelledError

    def _present(self, name: str) -> ModelManifest | None:
        """The manifest when every file is what it was when it was verified; else what is there is thrown away."""
        folder = self._model(name)
        try:
            stamps = json.loads((folder / "verified.json").read_bytes())["files"]
            manifest = ModelManifest.from_json((folder / "manifest.json").read_bytes())
            whole = all(stamps.get(file.path) == _stamp(folder / "model" / file.path) for file in manifest.files)
        except (OSError, ValueError, KeyError, AttributeError):
            whole, manifest = False, None
        if whole and manifest is not None and manifest.digest == f"sha256:{name}":
            return manifest
        if folder.exists():
            self._discard(folder)
        return None

    def _fetch(self, store: ObjectStore, digest: str, name: str, observer: Observer) -> ModelManifest:
        manifest = read_manifest(store, digest)
        partial = self._folder / "partial" / name
        self._make_room(partial, manifest.size)
        done = 0

        def progress(size: int) -> None:
            nonlocal done
            done += size
            observer.progress(done, manifest.size, "")

        for file in sorted(manifest.files, key=lambda file: file.size):
            fetch_file(store, file, partial / "model" / file.path, progress, observer.cancelled)
        stamps = {file.path: _stamp(partial / "model" / file.path) for file in manifest.files}
        (partial / "manifest.json").write_bytes(manifest.to_json())
        (partial / "verified.json").write_text(json.dumps({"size": manifest.size, "files": stamps}))
        (self._folder / "models").mkdir(exist_ok=True)
        partial.rename(self._model(name))
        return manifest

    def _make_room(self, partial: Path, size: int) -> None:
        """Evict for `size` bytes and reserve them under the name of the partial folder."""
        with holding(self._folder / "locks" / "room", _ROOM_SECONDS):
            shutil.rmtree(self._folder / "trash", ignore_errors=True)
            others = [entry for entry in self.entries() if entry.name != f"partial/{partial.name}"]
            for entry in choose_evictions(others, size, self._budget):
                self._evict(entry)
            present = _disk_usage(partial)
            free = shutil.disk_usage(self._folder).free
            if size - present + _SPARE_BYTES > free:
                raise DiskFullError(self._folder, size - present, free)
            (partial / "model").mkdir(parents=True, exist_ok=True)
            (partial / "reserved").write_text(str(size))

    def _evict(self, entry: CacheEntry) -> None:
        folder = self._folder / entry.name
        lock = FileLock(self._lock(folder.name, "use"))
        try:
            if lock.try_acquire():  # else it came into use since it was chosen: then the budget is overdrawn for once
                self._discard(folder)
        finally:
            lock.close()

    def _discard(self, folder: Path) -> None:
        trash = self._folder / "trash"
        trash.mkdir(parents=True, exist_ok=True)
        doomed = trash / uuid.uuid4().hex
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _in_use(self, name: str) -> bool:
        lock = FileLock(self._lock(name, "use"))
        try:
            return not lock.try_acquire()
        finally:
            lock.close()

    def _model(self, name: str) -> Path:
        return self._folder / "models" / name

    def _lock(self, name: str, what: str) -> Path:
        return self._folder / "locks" / f"{name}.{what}"


def read_manifest(store: ObjectStore, digest: str) -> ModelManifest:
    """Raises BadManifestError when the store's bytes are not those of the digest."""
    data = read_small(store, blob_key(digest), MANIFEST_LIMIT)
    if sha256(data) != digest:
        raise BadManifestError(f"model manifest {digest} is corrupt in the registry; push the model again")
    return ModelManifest.from_json(data)


def _folders(parent: Path) -> list[Path]:
    try:
        return [folder for folder in parent.iterdir() if folder.is_dir()]
    except FileNotFoundError:
        return []


def _footprint(folder: Path) -> tuple[int, float]:
    """Bytes and time of the last use."""
    reserved = folder / "reserved"
    verified = folder / "verified.json"
    if verified.exists():
        return int(json.loads(verified.read_bytes())["size"]), verified.stat().st_mtime
    return int(reserved.read_text()), reserved.stat().st_mtime


def _disk_usage(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _stamp(path: Path) -> list[int]:
    """What changes when a file is written or replaced; a link elsewhere to the same file changes none of it."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]
