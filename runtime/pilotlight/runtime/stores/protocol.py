"""The one seam to where models are kept.

Synchronous and safe to call from several threads: parallel ranged reads are several threads each reading a range.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from pilotlight.runtime.stores.errors import (
    ObjectCorruptError,
    ObjectTooLargeError,
    StoreTooSlowError,
    StoreUnavailableError,
)

CHUNK_BYTES = 1 << 20
"""Most bytes in one chunk of a streamed read: enough for throughput, small beside any process."""


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    size: int  # bytes
    modified: float  # Unix time, the store's clock


@dataclass(frozen=True)
class Upload:
    """An unfinished multipart upload; `id` is the store's."""

    key: str
    id: str
    started: float  # Unix time, the store's clock


@dataclass(frozen=True)
class Part:
    """One part that the store has. `etag` is what the store needs back at completion."""

    number: int  # from 1
    size: int  # bytes
    etag: str
    sha256: str = ""  # hex; empty where the store does not tell

    def confirmed(self, data: bytes) -> Part | None:
        """The part with its SHA-256 if the store certainly has these bytes, else None.

        Certain is a SHA-256 that the store tells, else an ETag that is the MD5. Completion may need the SHA-256 of
        each part (SeaweedFS does, and does not list it), so parts of an earlier try go through here.
        """
        digest = hashlib.sha256(data).hexdigest()
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        same = self.sha256 == digest if self.sha256 else self.etag.strip('"') == md5
        return replace(self, sha256=digest) if same and self.size == len(data) else None


@dataclass(frozen=True)
class SignedRequest:
    """One request that its holder may make of the store without credentials, for a while."""

    url: str = field(repr=False)  # whoever reads it may do it
    headers: Mapping[str, str]
    """To be sent as they are: they are signed too."""


class ObjectStore(Protocol):
    """Objects under keys. Every method raises the errors of `stores.errors` and nothing else of its client's."""

    @property
    def address(self) -> str:
        """What `open_store` was given."""

    def stat(self, key: str) -> ObjectInfo:
        """Raises ObjectNotFoundError."""

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Bytes `[start, start + length)` in chunks of at most CHUNK_BYTES; without length up to the end.

        A connection that breaks is resumed where it broke. Raises ObjectCorruptError when the object ends early.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write a small object whole or not at all; an older one is replaced."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key begins with the prefix, in the order of the keys."""

    def delete(self, key: str) -> None:
        """No error when it is not there."""

    def move(self, source: str, target: str) -> None:
        """The target appears whole, then the source is gone. Raises ObjectNotFoundError."""

    def begin_upload(self, key: str) -> Upload:
        """Start a multipart upload; the object appears at `complete_upload`."""

    def uploads(self, key: str = "") -> Iterator[Upload]:
        """Unfinished uploads of one key, or of all. (MinIO lists them by whole keys only, so there is no prefix.)"""

    def parts(self, upload: Upload) -> tuple[Part, ...]:
        """Parts that have arrived, by number; one sent twice may stand twice (SeaweedFS).

        Raises ObjectNotFoundError when the upload is gone.
        """

    def put_part(self, upload: Upload, number: int, data: bytes) -> Part:
        """Send part `number` (1 to 10,000); all but the last are at least 5 MiB on S3."""

    def complete_upload(self, upload: Upload, parts: Sequence[Part]) -> None:
        """The object becomes visible: the parts in order."""

    def abort_upload(self, upload: Upload) -> None:
        """Forget the upload and its parts; no error when it is gone."""


@runtime_checkable
class Presigner(Protocol):
    """A store that lets others send and fetch bytes without credentials of theirs, one request at a time.

    Signing asks nobody: whether the upload or the object is there shows when the request is made.
    """

    def sign_part(self, upload: Upload, number: int, size: int, sha256: str) -> SignedRequest:
        """For a PUT of exactly the part that has this size in bytes and this SHA-256 (hex)."""

    def sign_read(self, key: str) -> SignedRequest:
        """For a GET; a range may be asked for."""


def read_small(store: ObjectStore, key: str, limit: int) -> bytes:
    """A whole small object. Raises ObjectTooLargeError beyond `limit` bytes."""
    data = bytearray()
    for chunk in store.read(key):
        data += chunk
        if len(data) > limit:
            raise ObjectTooLargeError(f"object {key!r} is larger than {limit} bytes", key=key)
    return bytes(data)


def read_into(store: ObjectStore, key: str, start: int, buffer: memoryview) -> None:
    """Fill the buffer from the object's byte `start` on. Raises ObjectCorruptError when the object ends before."""
    filled = 0
    for chunk in store.read(key, start, len(buffer)):
        buffer[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    if filled != len(buffer):
        raise ObjectCorruptError(f"object {key!r} ends {len(buffer) - filled} bytes early", key=key)


def resumed(
    read_once: Callable[[int, int], Iterator[bytes]], key: str, start: int, length: int, attempts: int
) -> Iterator[bytes]:
    """For stores over a network: read `length` bytes from `start` on, resuming where a connection breaks.

    `read_once(start, length)` reads from a byte on until it raises StoreUnavailableError, of which `attempts` in a row
    may pass without a byte of progress.
    """
    idle, end = 0, start + length
    while start < end:
        before = start
        try:
            for chunk in read_once(start, end - start):
                start += len(chunk)
                yield chunk
            if start < end:
                raise ObjectCorruptError(f"object {key!r} ends {end - start} bytes early", key=key)
        except StoreTooSlowError:
            raise
        except StoreUnavailableError:
            idle = idle + 1 if start == before else 1
            if idle >= attempts:
                raise
