"""What one caller may do with one bucket through the API: every rule of rights, possession and soundness.

Whoever knows a file's digest must not get the file by it. So a file is read through a repository that the caller may
read and whose manifest names it; and a manifest may name only files that the caller could read already, or pushed to
that very repository, in which case an empty mark says so. Pushed bytes wait under `pending/` until their digest is
verified; a manifest is judged again, from what lies in the store, before it can be seen.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from weakref import WeakValueDictionary

from pilotlight.platform.registry.errors import (
    CollectionRunningError,
    IncompleteModelError,
    ModelRefusedError,
    NotAllowedError,
    NotPresignedError,
)
from pilotlight.platform.registry.judgement import judge
from pilotlight.platform.registry.layout import Kind, Place, blob_key, manifest_key, parse_key, pending_key
from pilotlight.platform.registry.push import lease_until, missing, present
from pilotlight.platform.registry.rights import Caller, Uploader, may_fetch, may_push, may_read
from pilotlight.platform.registry.stored import StoredFile
from pilotlight.runtime.models import MANIFEST_LIMIT, ModelFile, ModelManifest, check_digest, sha256
from pilotlight.runtime.stores import (
    ObjectCorruptError,
    ObjectInfo,
    ObjectNotFoundError,
    ObjectStore,
    Part,
    Presigner,
    SignedRequest,
    Upload,
    read_small,
)


class References:
    """Which files a manifest names; manifests never change, so what was read once is kept."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._files = lru_cache(maxsize=4096)(self._read)

    def named(self, caller: Caller, digest: str, repository: str) -> bool:
        """Whether a manifest that the caller may read names the file; its own repository is asked first."""
        return self._in(f"repositories/{repository}/", caller, digest) or self._in("repositories/", caller, digest)

    def _in(self, prefix: str, caller: Caller, digest: str) -> bool:
        places = ((item.key, parse_key(item.key)) for item in self._store.list(prefix))
        return any(
            digest == place.digest or digest in self._files(key)
            for key, place in places
            if place and place.kind is Kind.MANIFEST and may_read(caller, place.repository)
        )

    def _read(self, key: str) -> frozenset[str]:
        manifest = ModelManifest.from_json(read_small(self._store, key, MANIFEST_LIMIT))
        return frozenset(file.digest for file in manifest.files)


class Guard:
    """An ObjectStore for one caller and one repository, in front of the real one."""

    def __init__(
        self,
        store: ObjectStore,
        references: References,
        caller: Caller,
        repository: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._references = references
        self._caller = caller
        self._repository = repository
        self._clock = clock

    def stat(self, key: str) -> ObjectInfo:
        self._check_readable(key)
        return self._store.stat(key)

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._check_fetchable(key)
        return self._store.read(key, start, length)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Manifests and tags of the repositories that the caller may read."""
        if not prefix.startswith("repositories/"):
            raise NotAllowedError("only repositories/ can be listed")
        for item in self._store.list(prefix):
            place = parse_key(item.key)
            if place and may_read(self._caller, place.repository):
                yield item

    def put(self, key: str, data: bytes) -> None:
        place = self._pushable(key)
        writers = {
            Kind.BLOB: self._put_blob,
            Kind.PENDING_MANIFEST: self._put_pin,
            Kind.MANIFEST: self._put_manifest,
            Kind.TAG: self._put_tag,
        }
        if place.kind not in writers:
            raise NotAllowedError(f"{key} cannot be written")
        writers[place.kind](key, place, data)

    def delete(self, key: str) -> None:
        """A tag or a pin; a file only when it is corrupt, which is looked at again: then it is of no use to anyone."""
        place = self._pushable(key)
        if isinstance(self._caller, Uploader) and place.kind is not Kind.PENDING_MANIFEST:
            raise NotAllowedError("an upload token removes nothing")
        if place.kind is Kind.BLOB:
            self._check_readable(key)
        sound = place.kind is Kind.BLOB and self._digest_of(key) == place.digest
        if sound or place.kind not in (Kind.TAG, Kind.PENDING_MANIFEST, Kind.BLOB):
            raise NotAllowedError(f"{key} cannot be deleted; files go with a garbage collection")
        self._store.delete(key)

    def begin_upload(self, key: str) -> Upload:
        return replace(self._store.begin_upload(self._staging(key)), key=key)

    def uploads(self, key: str) -> Iterator[Upload]:
        return (replace(upload, key=key) for upload in self._store.uploads(self._staging(key)))

    def parts(self, upload: Upload) -> tuple[Part, ...]:
        return self._store.parts(self._staged(upload))

    def put_part(self, upload: Upload, number: int, data: bytes) -> Part:
        return self._store.put_part(self._staged(upload), number, data)

    def sign_part(self, upload: Upload, number: int, size: int, sha256: str) -> SignedRequest:
        """Lets the caller send one part to the store itself. Raises NotPresignedError.

        A part goes into what waits to be verified, and only while its upload is not complete: no signed request
        changes what was verified.
        """
        return self._presigner().sign_part(self._staged(upload), number, size, sha256)

    def sign_read(self, key: str) -> SignedRequest:
        """Lets the caller read a file from the store itself. Raises NotPresignedError."""
        self._check_fetchable(key)
        return self._presigner().sign_read(key)

    def complete_upload(self, upload: Upload, parts: Sequence[Part]) -> None:
        """Raises ObjectCorruptError, and keeps nothing, when the bytes have another digest than the key says.

        Can be repeated: to verify takes long, so a connection that breaks meanwhile is to be expected.
        """
        staged, digest = self._staged(upload), self._pushable(upload.key).digest
        with _turn(self._store, staged.key):
            try:
                self._store.complete_upload(staged, parts)
            except ObjectNotFoundError:
                if self._admitted(upload.key, digest):
                    return
                self._store.stat(staged.key)  # complete, but whoever completed it did not get to admitting it
            self._admit(staged.key, upload.key, digest)
            self._mark(digest)

    def abort_upload(self, upload: Upload) -> None:
        self._store.abort_upload(self._staged(upload))

    def _presigner(self) -> Presigner:
        if not isinstance(self._store, Presigner):
            raise NotPresignedError("this platform's models are in a folder: files go through the platform")
        return self._store

    def _admitted(self, key: str, digest: str) -> bool:
        """The mark is asked for first: that somebody has the file gives the caller no right to it."""
        mark = pending_key(Kind.PENDING_BLOB, self._repository, digest)
        return present(self._store, mark, 0) and self._exists(key)

    def _exists(self, key: str) -> bool:
        try:
            self._store.stat(key)
        except ObjectNotFoundError:
            return False
        return True

    def _admit(self, staged: str, key: str, digest: str) -> None:
        actual = self._digest_of(staged)
        if actual != digest:
            self._store.delete(staged)
            raise ObjectCorruptError(
                f"what was uploaded has digest {actual}, expected {digest}", key=key, expected=digest, actual=actual
            )
        if present(self._store, key, self._store.stat(staged).size):
            self._store.delete(staged)
        else:
            self._store.move(staged, key)

    def _check_readable(self, key: str) -> None:
        """Raises ObjectNotFoundError for what the caller may not see, as for what is not there."""
        place = parse_key(key)
        if place is None or not self._readable(place):
            raise ObjectNotFoundError(f"object {key!r} does not exist", key=key)

    def _check_fetchable(self, key: str) -> None:
        self._check_readable(key)
        if key.startswith("blobs/") and not may_fetch(self._caller):
            raise NotAllowedError("an upload token reads no files")

    def _readable(self, place: Place) -> bool:
        if place.kind is Kind.BLOB:
            if not self._repository or not may_read(self._caller, self._repository):
                return False
            return self._possessed(self._repository, place.digest)
        if place.kind in (Kind.MANIFEST, Kind.TAG, Kind.PENDING_MANIFEST):
            return may_read(self._caller, place.repository)
        return place.kind is Kind.LEASE

    def _possessed(self, repository: str, digest: str) -> bool:
        mark = pending_key(Kind.PENDING_BLOB, repository, digest)
        pushed = may_push(self._caller, repository) and present(self._store, mark, 0)
        return pushed or self._references.named(self._caller, digest, repository)

    def _pushable(self, key: str) -> Place:
        """Raises NotAllowedError."""
        place = parse_key(key)
        repository = self._repository if place is None or place.kind is Kind.BLOB else place.repository
        known = place is not None and place.kind is not Kind.LEASE and repository
        if place is None or not known or not may_push(self._caller, repository):
            raise NotAllowedError(f"this key may not push to {repository!r}")
        return place

    def _staging(self, key: str) -> str:
        place = self._pushable(key)
        if place.kind is not Kind.BLOB:
            raise NotAllowedError(f"{key} is no file; only files are uploaded in parts")
        return pending_key(Kind.PENDING_UPLOAD, self._repository, place.digest)

    def _staged(self, upload: Upload) -> Upload:
        return replace(upload, key=self._staging(upload.key))

    def _mark(self, digest: str) -> None:
        self._store.put(pending_key(Kind.PENDING_BLOB, self._repository, digest), b"")

    def _digest_of(self, key: str) -> str:
        digest = hashlib.sha256()
        for chunk in self._store.read(key):
            digest.update(chunk)
        return f"sha256:{digest.hexdigest()}"

    def _put_blob(self, key: str, place: Place, data: bytes) -> None:
        _compare(key, place.digest, data)
        if not present(self._store, key, len(data)):
            self._store.put(key, data)
        self._mark(place.digest)

    def _put_pin(self, key: str, place: Place, data: bytes) -> None:
        _compare(key, place.digest, data)
        ModelManifest.from_json(data)
        self._store.put(key, data)

    def _put_manifest(self, key: str, place: Place, data: bytes) -> None:
        _compare(key, place.digest, data)
        manifest = ModelManifest.from_json(data)
        self._check_complete(place.repository, manifest)
        review(self._store, manifest)
        self._store.put(blob_key(place.digest), data)
        self._store.put(key, data)

    def _put_tag(self, key: str, place: Place, data: bytes) -> None:
        if lease_until(self._store) > self._clock():
            raise CollectionRunningError("a garbage collection is running; push again when it has ended")
        digest = check_digest(data.decode("ascii", "replace"))
        manifest = ModelManifest.from_json(
            read_small(self._store, manifest_key(place.repository, digest), MANIFEST_LIMIT)
        )
        self._check_complete(place.repository, manifest)
        self._store.put(key, data)

    def _check_complete(self, repository: str, manifest: ModelManifest) -> None:
        """Raises IncompleteModelError; what the caller may not have counts as not there."""
        lost = missing(self._store, manifest) or list(self._foreign(repository, manifest))
        if lost:
            raise IncompleteModelError(
                f"{len(lost)} files are not in the registry, {lost[0].path!r} among them; push again"
            )

    def _foreign(self, repository: str, manifest: ModelManifest) -> Iterable[ModelFile]:
        return (file for file in manifest.files if not self._possessed(repository, file.digest))


_TURNS: WeakValueDictionary[tuple[str, str], threading.Lock] = WeakValueDictionary()
_TURNS_CHANGE = threading.Lock()


def _turn(store: ObjectStore, staged: str) -> threading.Lock:
    """Held from completion to admission: another upload of the same file must not be put under what was verified."""
    with _TURNS_CHANGE:
        return _TURNS.setdefault((store.address, staged), threading.Lock())


def review(store: ObjectStore, manifest: ModelManifest) -> None:
    """Judge the stored files as a push judges a folder. Raises ModelRefusedError, also when the manifest lies."""
    where = f"model {manifest.digest}"
    files = {file.path: StoredFile(store, file) for file in manifest.files}
    judged = judge(where, files, [], trust_remote_code=manifest.remote_code)
    stated = {
        "kind": manifest.kind == judged.kind,
        "tensors": manifest.tensors == judged.tensors,
        "config": manifest.config == judged.config,
        "remoteCode": manifest.remote_code == judged.remote_code,
    }
    if lies := [name for name, true in stated.items() if not true]:
        raise ModelRefusedError(where, [f"the manifest's {name} is not what its files say" for name in lies])


def _compare(key: str, digest: str, data: bytes) -> None:
    if (actual := sha256(data)) != digest:
        raise ObjectCorruptError(
            f"what was sent has digest {actual}, expected {digest}", key=key, expected=digest, actual=actual
        )
