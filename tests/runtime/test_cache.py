"""The node cache: whole verified models, shared, evicted by age, and none of it lost to kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilotlight.runtime.cache import NodeCache, Quiet
from pilotlight.runtime.eviction import CacheFullError
from pilotlight.runtime.fetch import DigestMismatchError, FetchCancelledError
from pilotlight.runtime.models import BadManifestError
from pilotlight.runtime.stores import ObjectCorruptError, ObjectNotFoundError

if TYPE_CHECKING:
    from tests.runtime.conftest import Registry

_FILES = {"config.json": b"{}", "model.safetensors": b"w" * 100_000, "sub/tokenizer.json": b"t" * 5}


class _Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


class _Hashing(Quiet):
    """Counts the bytes that were hashed or read."""

    def __init__(self) -> None:
        self.done = 0

    def progress(self, done: int, total: int, detail: str) -> None:  # noqa: ARG002  the protocol's signature
        self.done = done


def _cache(folder: Path, budget: int = 1_000_000) -> NodeCache:
    return NodeCache(folder / "cache", budget, _Clock())


def test_a_model_is_placed_whole_under_its_digest(tmp_path: Path, registry: Registry) -> None:
    manifest = registry.put(_FILES)
    model = _cache(tmp_path).acquire(registry.store, manifest.digest)
    assert {
        path.relative_to(model.folder).as_posix(): path.read_bytes() for path in model.folder.rglob("*.*")
    } == _FILES
    assert model.manifest == manifest
    model.release()


def test_a_second_start_reads_nothing_again(tmp_path: Path, registry: Registry) -> None:
    manifest = registry.put(_FILES)
    first, second = _Hashing(), _Hashing()
    _cache(tmp_path).acquire(registry.store, manifest.digest, first).release()
    for file in manifest.files:
        registry.blob(file.digest).unlink()
    _cache(tmp_path).acquire(registry.store, manifest.digest, second).release()
    assert (first.done, second.done) == (manifest.size, 0)


def test_a_file_that_was_changed_in_the_cache_is_fetched_again(tmp_path: Path, registry: Registry) -> None:
    manifest = registry.put(_FILES)
    model = _cache(tmp_path).acquire(registry.store, manifest.digest)
    weights = model.folder / "model.safetensors"
    weights.unlink()
    weights.write_bytes(b"x" * 100_000)
    model.release()
    again = _cache(tmp_path).acquire(registry.store, manifest.digest)
    assert (again.folder / "model.safetensors").read_bytes() == _FILES["model.safetensors"]
    again.release()


def test_a_corrupt_file_is_refused_by_digest_and_leaves_no_model(tmp_path: Path, registry: Registry) -> None:
    manifest = registry.put(_FILES)
    weights = next(file for file in manifest.files if file.path == "model.safetensors")
    registry.blob(weights.digest).write_bytes(b"w" * 99_999 + b"x")
    with pytest.raises(DigestMismatchError, match=rf"'model.safetensors' is corrupt .* expected {weights.digest}, got"):
        _cache(tmp_path).acquire(registry.store, manifest.digest)
    assert not (tmp_path / "cache" / "models").exists()


def test_a_truncated_file_is_refused(tmp_path: Path, registry: Registry) -> None:
    manifest = registry.put(_FILES)
    weights = next(file for file in manifest.files if file.path == "model.safetensors")
    registry.blob(weights.digest).write_bytes(b"w" * 500)
    with pytest.raises(ObjectCorruptError, match="early"):
        _cache(tmp_path).acquire(registry.store, manifest.digest)


def test_a_corrupt_manifest_is_refused_by_digest(tmp_path: Path, registry: Registry) -> None:
    manifest = registry.put(_FILES)
    registry.blob(manifest.digest).write_bytes(manifest.to_json().replace(b"config", b"konfig"))
    with pytest.raises(BadManifestError, match=f"{manifest.digest} is corrupt"):
        _cache(tmp_path).acquire(registry.store, manifest.digest)


def test_the_least_recently_used_model_goes_first(tmp_path: Path, registry: Registry) -> None:
    cache = _cache(tmp_path, budget=250)
    a, b, c = (registry.put({"config.json": name * 100}) for name in (b"a", b"b", b"c"))
    for manifest in (a, b, a, c):
        cache.acquire(registry.store, manifest.digest).release()
    kept = {entry.name for entry in cache.entries()}
    assert kept == {f"models/{manifest.digest.removeprefix('sha256:')}" for manifest in (a, c)}


def test_a_model_in_use_is_never_evicted(tmp_path: Path, registry: Registry) -> None:
    cache = _cache(tmp_path, budget=150)
    a, b = (registry.put({"config.json": name * 100}) for name in (b"a", b"b"))
    model = cache.acquire(registry.store, a.digest)
    with pytest.raises(CacheFullError):
        cache.acquire(registry.store, b.digest)
    assert (model.folder / "config.json").exists()
    model.release()
    cache.acquire(registry.store, b.digest).release()
    assert not model.folder.exists()


def test_of_several_that_want_a_model_one_fetches(tmp_path: Path, registry: Registry) -> None:
    manifest = registry.put(_FILES)
    observers = [_Hashing() for _ in range(4)]
    barrier = threading.Barrier(len(observers))

    def run(observer: _Hashing) -> None:
        barrier.wait()
        _cache(tmp_path).acquire(registry.store, manifest.digest, observer).release()

    threads = [threading.Thread(target=run, args=(observer,)) for observer in observers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(observer.done for observer in observers) == [0, 0, 0, manifest.size]


def test_a_fetch_that_is_told_to_stop_stops(tmp_path: Path, registry: Registry) -> None:
    class Stopped(Quiet):
        def cancelled(self) -> bool:
            return True

    manifest = registry.put(_FILES)
    with pytest.raises(FetchCancelledError):
        _cache(tmp_path).acquire(registry.store, manifest.digest, Stopped())


def test_a_model_that_is_nowhere_is_said_to_be(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(ObjectNotFoundError):
        _cache(tmp_path).acquire(registry.store, "sha256:" + "0" * 64)


def test_after_kill_9_the_lease_is_free_and_the_reservation_gives_way(tmp_path: Path, registry: Registry) -> None:
    first, second = (registry.put({"config.json": name * 100}) for name in (b"a", b"b"))
    program = (
        "import sys, time; from pathlib import Path; from pilotlight.runtime.cache import NodeCache\n"
        "from pilotlight.runtime.stores import open_store\n"
        "NodeCache(Path(sys.argv[1]), 150).acquire(open_store(sys.argv[2]), sys.argv[3]); print('held', flush=True)\n"
        "time.sleep(600)"
    )
    arguments = [str(tmp_path / "cache"), registry.store.address, first.digest]
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CacheFullError):
            _cache(tmp_path, budget=150).acquire(registry.store, second.digest)
        os.kill(holder.pid, signal.SIGKILL)
    _cache(tmp_path, budget=150).acquire(registry.store, second.digest).release()
