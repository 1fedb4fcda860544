"""What only a folder can do wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotlight.runtime import stores
from pilotlight.runtime.stores import (
    InvalidKeyError,
    ObjectNotFoundError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
    Upload,
    open_store,
)
from pilotlight.runtime.stores.folder import FolderStore

PUT_FOR_EVER = """
import sys
from pathlib import Path
from pilotlight.runtime.stores.folder import FolderStore
store = FolderStore(Path(sys.argv[1]))
while True:
    for letter in (b"a", b"b"):
        store.put("object", letter * 300_000)
"""


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_a_link_out_of_the_folder_is_not_followed(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "store/out").symlink_to(tmp_path)
    (tmp_path / "store/file").symlink_to(tmp_path / "secret")
    for key in ("out/secret", "file"):
        with pytest.raises(InvalidKeyError, match="leads out"):
            list(store.read(key))
        with pytest.raises(InvalidKeyError):
            store.put(key, b"changed")
    assert (tmp_path / "secret").read_text() == "secret"
    assert list(store.list()) == []


def test_a_killed_writer_leaves_the_old_object_or_the_new_one(
    store: FolderStore, tmp_path: Path, until: Callable[[Callable[[], bool], str], None]
) -> None:
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", PUT_FOR_EVER, str(tmp_path / "store")])
        until(lambda: (tmp_path / "store/object").exists(), "the first object")
        data = b"".join(store.read("object"))
        writer.kill()
        writer.wait()
        for seen in (data, b"".join(store.read("object"))):
            assert len(seen) == 300_000
            assert len(set(seen)) == 1


def test_what_a_killed_writer_left_goes_after_a_day(tmp_path: Path, store: FolderStore) -> None:
    left = tmp_path / "store/.temporary/left"
    left.write_bytes(b"x")
    FolderStore(tmp_path / "store")
    assert left.exists()
    os.utime(left, (time.time() - 10**6, time.time() - 10**6))
    FolderStore(tmp_path / "store")
    assert not left.exists()
    assert list(store.list()) == []


@pytest.mark.parametrize("name", ["..", "../../etc", "", "0" * 31, "g" * 32])
def test_an_upload_that_is_not_ours_is_unknown(store: FolderStore, name: str) -> None:
    with pytest.raises(ObjectNotFoundError):
        store.parts(Upload("a", name, 0.0))
    with pytest.raises(ObjectNotFoundError):
        store.put_part(Upload("a", name, 0.0), 1, b"")


def test_an_upload_is_of_its_key_alone(store: FolderStore) -> None:
    upload = store.begin_upload("mine")
    with pytest.raises(ObjectNotFoundError):
        store.put_part(Upload("other", upload.id, 0.0), 1, b"")


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_a_part_has_a_number_that_s3_takes_too(store: FolderStore, number: int) -> None:
    with pytest.raises(StoreError, match="part number"):
        store.put_part(store.begin_upload("a"), number, b"")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(errno.ENOSPC, StoreUnavailableError, id="disk full"),
        pytest.param(errno.EACCES, StoreDeniedError, id="not allowed"),
        pytest.param(errno.EIO, StoreUnavailableError, id="disk broken"),
    ],
)
def test_trouble_with_the_disk_is_told_and_leaves_nothing(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[StoreError]
) -> None:
    store.put("object", b"old")

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(expected, match="object"):
        store.put("object", b"new")
    assert b"".join(store.read("object")) == b"old"
    assert list((tmp_path / "store/.temporary").iterdir()) == []


def test_an_address_may_hold_any_folder_name(tmp_path: Path) -> None:
    folder = tmp_path / "with space & ümlaut%20"
    FolderStore(folder).put("a", b"x")
    assert open_store(FolderStore(folder).address).stat("a").size == 1


def test_what_is_exported_is_there() -> None:
    assert sorted(stores.__all__, key=str.lower) == sorted(set(stores.__all__), key=str.lower)
    assert all(hasattr(stores, name) for name in stores.__all__)
