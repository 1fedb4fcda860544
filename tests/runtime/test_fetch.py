"""Streaming a file out of a store that misbehaves: in order, verified, resumed, bounded in time."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilotlight.runtime import fetch
from pilotlight.runtime.fetch import (
    PART_BYTES,
    DigestMismatchError,
    FetchCancelledError,
    FetchStalledError,
    fetch_file,
)
from pilotlight.runtime.models import ModelFile, blob_key
from pilotlight.runtime.stores import CHUNK_BYTES, ObjectCorruptError, ObjectStore, StoreUnavailableError
from pilotlight.runtime.stores.folder import FolderStore
from pilotlight.runtime.stores.s3 import S3Options, S3Store

if TYPE_CHECKING:
    from tests.conftest import ChaosProxy, S3Server

_DATA = os.urandom(1 << 20) * 20 + b"tail"
_FILE = ModelFile("model.safetensors", len(_DATA), f"sha256:{hashlib.sha256(_DATA).hexdigest()}")


class _FarStore(FolderStore):
    """A folder that says it is none, so that it is read as a bucket is; remembers where it was read."""

    def __init__(self, root: Path, data: bytes = _DATA) -> None:
        super().__init__(root)
        self.put(blob_key(_FILE.digest), data)
        self.reads: list[int] = []
        self.failures = 0
        self.silent = threading.Event()

    @property
    def address(self) -> str:
        return "s3://far"

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.reads.append(start)
        if self.silent.is_set():
            threading.Event().wait(30)
        if self.failures > 0:
            self.failures -= 1
            raise StoreUnavailableError("the store is overloaded", key=key)
        yield from super().read(key, start, length)


def test_a_file_of_many_parts_arrives_in_order(tmp_path: Path) -> None:
    store = _FarStore(tmp_path / "store")
    seen: list[int] = []
    fetch_file(store, _FILE, tmp_path / "out" / "file", seen.append)
    assert (tmp_path / "out" / "file").read_bytes() == _DATA
    assert sum(seen) == len(_DATA)
    assert sorted(store.reads) == [0, PART_BYTES, 2 * PART_BYTES]


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    store = _FarStore(tmp_path / "store")
    empty = ModelFile("empty", 0, f"sha256:{hashlib.sha256(b'').hexdigest()}")
    fetch_file(store, empty, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b""


def test_a_killed_fetch_goes_on_where_it_was(tmp_path: Path) -> None:
    store = _FarStore(tmp_path / "store")
    (tmp_path / "file").write_bytes(_DATA[: PART_BYTES + 5])
    fetch_file(store, _FILE, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == _DATA
    assert min(store.reads) == PART_BYTES + 5


@pytest.mark.parametrize("left", [b"garbage", _DATA + b"more"], ids=["wrong bytes", "too many bytes"])
def test_what_a_killed_fetch_left_is_not_trusted(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "file").write_bytes(left)
    fetch_file(_FarStore(tmp_path / "store"), _FILE, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == _DATA


def test_a_corrupt_object_is_refused_and_not_kept(tmp_path: Path) -> None:
    store = _FarStore(tmp_path / "store", b"x" + _DATA[1:])
    with pytest.raises(DigestMismatchError, match=f"expected {_FILE.digest}"):
        fetch_file(store, _FILE, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_truncated_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ObjectCorruptError):
        fetch_file(_FarStore(tmp_path / "store", _DATA[:-1]), _FILE, tmp_path / "file")


def test_an_overloaded_store_is_asked_again(tmp_path: Path) -> None:
    store = _FarStore(tmp_path / "store")
    store.failures = 2
    fetch_file(store, _FILE, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == _DATA


def test_a_store_that_stays_away_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    store = _FarStore(tmp_path / "store")
    store.failures = 1000
    with pytest.raises(StoreUnavailableError):
        fetch_file(store, _FILE, tmp_path / "file")


def test_a_fetch_that_is_cancelled_leaves_off_however_fast_the_store_is(tmp_path: Path) -> None:
    store = _FarStore(tmp_path / "store")
    seen: list[int] = []
    with pytest.raises(FetchCancelledError):
        fetch_file(store, _FILE, tmp_path / "file", seen.append, lambda: bool(seen))
    assert (tmp_path / "file").read_bytes() == _DATA[:PART_BYTES]  # and the next try goes on from there


def test_a_silent_store_is_given_up_in_bounded_time(tmp_path: Path) -> None:
    store = _FarStore(tmp_path / "store")
    store.silent.set()
    with pytest.raises(FetchStalledError, match="sent nothing for 0 s"):
        fetch_file(store, _FILE, tmp_path / "file", stall_seconds=0.3)


def test_a_folder_on_the_same_file_system_is_shared_not_copied_and_still_verified(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.put(blob_key(_FILE.digest), _DATA)
    seen: list[int] = []
    fetch_file(store, _FILE, tmp_path / "file", seen.append)
    source = tmp_path / "store" / blob_key(_FILE.digest)
    shared = (tmp_path / "file").stat().st_ino == source.stat().st_ino
    reflinked = (tmp_path / "file").stat().st_nlink == 1  # on a file system that can
    assert shared or reflinked
    assert sum(seen) == len(_DATA)


def test_the_whole_way_through_a_bucket_that_fails_truncates_and_breaks_off(
    tmp_path: Path,
    s3_server: S3Server,
    chaos_proxy: Callable[[str], ChaosProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chaos = chaos_proxy(s3_server.endpoint)
    for name, value in (s3_server.environment | {"AWS_ENDPOINT_URL_S3": chaos.url}).items():
        monkeypatch.setenv(name, value)
    bucket = S3Store("runtime-fetch", S3Options.from_environment())
    bucket.ensure_bucket()
    store: ObjectStore = bucket
    upload = store.begin_upload(blob_key(_FILE.digest))
    parts = [
        store.put_part(upload, number, _DATA[start : start + 8 * CHUNK_BYTES])
        for number, start in enumerate(range(0, len(_DATA), 8 * CHUNK_BYTES), start=1)
    ]
    store.complete_upload(upload, parts)
    chaos.errors, chaos.truncations = 2, 2
    fetch_file(store, _FILE, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == _DATA
    assert (chaos.errors, chaos.truncations) == (0, 0)
