"""Garbage collection: mark from tags, live digests and young pushes, sweep what is old.

A push and a collection may run at once. The collection writes a lease before it marks; a push pins its manifest before
it looks for files, and waits for the lease to end before it looks a last time and writes its tag. So either the
collection saw the pin, or the push sees what the collection took.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pilotlight.platform.registry.errors import CollectionRunningError
from pilotlight.platform.registry.layout import LEASE, Kind, Place, blob_key, parse_key
from pilotlight.platform.registry.push import lease_until
from pilotlight.runtime.models import MANIFEST_LIMIT, BadManifestError, ModelManifest, check_digest
from pilotlight.runtime.stores import ObjectInfo, ObjectNotFoundError, ObjectStore, Upload, read_small

GRACE_SECONDS = 24 * 3600.0
LEASE_SECONDS = 600.0
"""A collection stops deleting after so long; the next one goes on."""


@dataclass(frozen=True)
class Collected:
    """What a collection took away, or would take."""

    blobs: int
    blob_bytes: int
    manifests: int
    uploads: int
    complete: bool
    """False: the lease ran out; run it again."""


@dataclass(frozen=True)
class _Doomed:
    """What nobody needs."""

    blobs: list[ObjectInfo]
    manifests: list[ObjectInfo]
    """And marks."""
    uploads: list[Upload]


class Collector:
    """One collection over one store."""

    def __init__(self, store: ObjectStore, live: Iterable[str], grace: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._live = {check_digest(digest) for digest in live}
        self._clock = clock
        self._young = clock() - grace
        self._until = clock() + LEASE_SECONDS

    def run(self) -> Collected:
        """Raises CollectionRunningError when another one runs."""
        if lease_until(self._store) > self._clock():
            raise CollectionRunningError("another garbage collection is running")
        mine = json.dumps({"until": self._until, "owner": uuid.uuid4().hex}).encode()
        self._store.put(LEASE, mine)
        if read_small(self._store, LEASE, 1000) != mine:
            raise CollectionRunningError("another garbage collection is running")
        try:
            return self._sweep()
        finally:
            self._store.delete(LEASE)

    def look(self) -> Collected:
        """What `run` would take now. Nothing is changed, so nobody is kept waiting either."""
        doomed = self._doomed()
        size = sum(item.size for item in doomed.blobs)
        return Collected(len(doomed.blobs), size, len(doomed.manifests), len(doomed.uploads), complete=True)

    def _sweep(self) -> Collected:
        doomed = self._doomed()
        taken = [item for item in doomed.blobs if self._delete(item.key)]
        manifests = sum(self._delete(item.key) for item in doomed.manifests)
        uploads = sum(self._abort(upload) for upload in doomed.uploads)
        complete = len(taken) == len(doomed.blobs) and self._clock() < self._until
        return Collected(len(taken), sum(item.size for item in taken), manifests, uploads, complete)

    def _doomed(self) -> _Doomed:
        blobs = list(self._store.list("blobs/"))
        kept, manifests = self._mark()
        old = [item for item in blobs if item.modified < self._young and item.key not in kept]
        return _Doomed(old, manifests, [upload for upload in self._store.uploads() if upload.started < self._young])

    def _mark(self) -> tuple[set[str], list[ObjectInfo]]:
        """Keys of blobs to keep, and manifests and marks that nobody needs."""
        tags, items = self._names()
        named = {self._tagged(item) for item in tags} | self._live
        kept: set[str] = {blob_key(digest) for digest in self._live}
        dropped = []
        for item, place in items:
            # One that is live in any repository, or young, keeps its files.
            if item.modified >= self._young or (place.kind is Kind.MANIFEST and place.digest in named):
                kept |= self._reached(item, place)
            else:
                dropped.append(item)
        for digest in self._live:
            kept |= self._files(blob_key(digest))
        return kept, dropped

    def _names(self) -> tuple[list[ObjectInfo], list[tuple[ObjectInfo, Place]]]:
        tags, items = [], []
        for prefix in ("repositories/", "pending/"):
            for item in self._store.list(prefix):
                place = parse_key(item.key)
                if place and place.kind is Kind.TAG:
                    tags.append(item)
                elif place:
                    items.append((item, place))
        return tags, items

    def _tagged(self, tag: ObjectInfo) -> str:
        try:
            return read_small(self._store, tag.key, 100).decode()
        except ObjectNotFoundError:
            return ""  # removed since it was listed

    def _reached(self, item: ObjectInfo, place: Place) -> set[str]:
        if place.kind in (Kind.MANIFEST, Kind.PENDING_MANIFEST):
            return {blob_key(place.digest)} | self._files(item.key)
        return {blob_key(place.digest)}

    def _files(self, key: str) -> set[str]:
        try:
            manifest = ModelManifest.from_json(read_small(self._store, key, MANIFEST_LIMIT))
        except ObjectNotFoundError:
            return set()
        except BadManifestError as error:
            # Better to keep everything than to take files of a manifest that cannot be read.
            raise BadManifestError(f"{key}: {error}; nothing was collected, verify the registry first") from None
        return {blob_key(file.digest) for file in manifest.files}

    def _abort(self, upload: Upload) -> bool:
        if self._clock() >= self._until:
            return False
        self._store.abort_upload(upload)
        return True

    def _delete(self, key: str) -> bool:
        if self._clock() >= self._until:
            return False
        self._store.delete(key)
        return True
