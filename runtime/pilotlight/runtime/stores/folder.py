"""A folder as a store: for one machine, and for tests. What is seen is whole and survives a power cut."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pilotlight.runtime.stores.errors import (
    InvalidKeyError,
    ObjectCorruptError,
    ObjectNotFoundError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
)
from pilotlight.runtime.stores.keys import check_key, check_prefix
from pilotlight.runtime.stores.protocol import CHUNK_BYTES, ObjectInfo, Part, Upload

_TEMPORARY = ".temporary"  # no key begins with a dot, so these two folders cannot be named from outside
_UPLOADS = ".uploads"
_LEFTOVER_SECONDS = 24 * 3600  # nobody writes one file for so long


class FolderStore:
    """Objects are files under `root`; an upload is a folder of part files until it is complete."""

    def __init__(self, root: Path) -> None:
        self._root = root
        with _translated(""):
            (root / _TEMPORARY).mkdir(parents=True, exist_ok=True)
            (root / _UPLOADS).mkdir(exist_ok=True)
            self._real_root = root.resolve(strict=True)
            self._forget_leftovers()

    @property
    def address(self) -> str:
        return self._root.absolute().as_uri()

    def stat(self, key: str) -> ObjectInfo:
        path = self._path(key)
        with _translated(key):
            status = path.stat()
            if not path.is_file():
                raise ObjectNotFoundError(f"object {key!r} is not in {self.address}", key=key)
        return ObjectInfo(key, status.st_size, status.st_mtime)

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        path = self._path(key)
        with _translated(key):
            if path.is_dir():
                raise ObjectNotFoundError(f"object {key!r} is not in {self.address}", key=key)
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                left = max(size - start, 0) if length is None else length
                file.seek(start)
                while left > 0:
                    chunk = file.read(min(left, CHUNK_BYTES))
                    if not chunk:
                        raise ObjectCorruptError(f"object {key!r} ends {left} bytes early", key=key)
                    left -= len(chunk)
                    yield chunk

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _translated(key):
            temporary = self._root / _TEMPORARY / uuid.uuid4().hex
            _write(temporary, data)
            _place(temporary, path)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        top = self._root.joinpath(*prefix.split("/")[:-1])
        found = []
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [(Path(folder) / name).relative_to(self._root).as_posix() for name in names]
        for key in sorted(key for key in found if key.startswith(prefix)):
            try:
                yield self.stat(key)
            except (ObjectNotFoundError, InvalidKeyError):
                continue  # deleted since it was seen, or not ours

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated(key):
            path.unlink(missing_ok=True)

    def move(self, source: str, target: str) -> None:
        with _translated(source):
            _place(self._path(source), self._path(target))

    def begin_upload(self, key: str) -> Upload:
        check_key(key)
        folder = self._root / _UPLOADS / uuid.uuid4().hex
        with _translated(key):
            folder.mkdir()
            _write(folder / "key.json", json.dumps({"key": key}).encode())
            return self._upload(folder)

    def uploads(self, key: str = "") -> Iterator[Upload]:
        for folder in sorted((self._root / _UPLOADS).iterdir()):
            try:
                upload = self._upload(folder)
            except (OSError, ValueError):
                continue  # begun or aborted at this moment
            if key in ("", upload.key):
                yield upload

    def parts(self, upload: Upload) -> tuple[Part, ...]:
        folder = self._upload_folder(upload)
        with _translated(upload.key):
            return tuple(sorted((_part(path) for path in folder.glob("*.part")), key=lambda part: part.number))

    def put_part(self, upload: Upload, number: int, data: bytes) -> Part:
        folder = self._upload_folder(upload)
        if not 1 <= number <= 10_000:
            raise StoreError(f"part number {number} is not in 1..10000", key=upload.key)
        digest = hashlib.sha256(data).hexdigest()
        with _translated(upload.key):
            temporary = folder / f"{uuid.uuid4().hex}.temporary"
            _write(temporary, data)
            for older in folder.glob(f"{number:05}-*.part"):
                older.unlink()
            temporary.rename(folder / f"{number:05}-{digest}.part")
        return Part(number, len(data), digest, digest)

    def complete_upload(self, upload: Upload, parts: Sequence[Part]) -> None:
        folder, target = self._upload_folder(upload), self._path(upload.key)
        with _translated(upload.key):
            files = [folder / f"{part.number:05}-{part.etag}.part" for part in parts]
            whole = self._root / _TEMPORARY / uuid.uuid4().hex
            with _written(whole) as out:
                for file in files:
                    with file.open("rb") as data:
                        shutil.copyfileobj(data, out, CHUNK_BYTES)
            _place(whole, target)
            shutil.rmtree(folder, ignore_errors=True)

    def abort_upload(self, upload: Upload) -> None:
        shutil.rmtree(self._root / _UPLOADS / _upload_name(upload), ignore_errors=True)

    def _forget_leftovers(self) -> None:
        """Files that a killed process was writing."""
        for path in (self._root / _TEMPORARY).iterdir():
            with suppress(FileNotFoundError):  # placed or removed since it was listed
                if path.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
                    path.unlink()

    def _path(self, key: str) -> Path:
        path = self._root.joinpath(*check_key(key).split("/"))
        # A symbolic link planted in the folder must not lead out of it.
        if not path.resolve().is_relative_to(self._real_root):
            raise InvalidKeyError(f"object {key!r} leads out of the store", key=key)
        return path

    def _upload_folder(self, upload: Upload) -> Path:
        folder = self._root / _UPLOADS / _upload_name(upload)
        try:
            if self._upload(folder).key == upload.key:
                return folder
        except (OSError, ValueError):
            pass
        raise ObjectNotFoundError(f"the upload of {upload.key!r} is gone", key=upload.key)

    def _upload(self, folder: Path) -> Upload:
        key = json.loads((folder / "key.json").read_bytes())["key"]
        return Upload(check_key(str(key)), folder.name, (folder / "key.json").stat().st_mtime)


def _upload_name(upload: Upload) -> str:
    if len(upload.id) != 32 or set(upload.id) - set("0123456789abcdef"):
        raise ObjectNotFoundError(f"the upload of {upload.key!r} is unknown", key=upload.key)
    return upload.id


def _part(path: Path) -> Part:
    number, digest = path.stem.split("-")
    return Part(int(number), path.stat().st_size, digest, digest)


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk afterwards, or not there at all when writing failed."""
    try:
        with path.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(path: Path, data: bytes) -> None:
    with _written(path) as file:
        file.write(data)


def _place(source: Path, target: Path) -> None:
    """Rename, and make the rename itself durable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    handle = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ObjectNotFoundError(f"object {key!r} does not exist", key=key) from None
    except PermissionError as error:
        raise StoreDeniedError(f"object {key!r}: {error.strerror} ({error.filename})", key=key) from error
    except OSError as error:
        raise StoreUnavailableError(f"object {key!r}: {error.strerror}", key=key) from error
