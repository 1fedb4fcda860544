"""Files of a model as they lie in a store, opened like files on disk."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pilotlight.platform.registry.layout import blob_key
from pilotlight.runtime.models import ModelFile
from pilotlight.runtime.stores import ObjectStore, read_into

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER = 1 << 16  # one ranged read at least this long, so that small reads are few requests


@dataclass(frozen=True)
class StoredFile:
    """One file of a manifest; satisfies `content.Content`."""

    store: ObjectStore
    file: ModelFile

    @property
    def path(self) -> str:
        return self.file.path

    @property
    def size(self) -> int:
        return self.file.size

    def open(self) -> BinaryIO:
        return io.BufferedReader(_Ranged(self.store, blob_key(self.file.digest), self.size), _BUFFER)


class _Ranged(io.RawIOBase):
    """Seekable; every read is one ranged read of the store."""

    def __init__(self, store: ObjectStore, key: str, size: int) -> None:
        super().__init__()
        self._store, self._key, self._size = store, key, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("negative position")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(self._size - self._position, 0))
        if count:
            read_into(self._store, self._key, self._position, view[:count])
        self._position += count
        return count
