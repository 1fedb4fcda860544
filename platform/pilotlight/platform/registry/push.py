"""Pushing: hash, pin, upload what is missing, and only then let it be seen.

A push can be killed at any moment. Everything already uploaded is found again by digest (whole files) or in the
store's unfinished upload (parts), and nothing of it is visible before the tag, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from pilotlight.platform.registry.errors import CollectionRunningError, IncompleteModelError, ModelRefusedError
from pilotlight.platform.registry.inspection import Inspected, SourceFile
from pilotlight.platform.registry.layout import LEASE, Kind, blob_key, manifest_key, pending_key, tag_key
from pilotlight.runtime.models import ModelFile, ModelManifest
from pilotlight.runtime.stores import ObjectNotFoundError, ObjectStore, Part, Upload, read_small

PART_BYTES = 16 * 2**20
"""Size of a part: what a broken connection costs at most; grows for files of more than 10,000 parts."""
WORKERS = 4
"""Parts in flight; with the part's size this bounds a push's memory to 64 MiB and a little."""
LEASE_PATIENCE = 60.0
"""Seconds to wait for a garbage collection to end."""


@dataclass(frozen=True)
class Progress:
    """Bytes of all files; `stage` is "hash" or "upload"."""

    stage: str
    done: int
    total: int
    file: str


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class HashedFile:
    source: SourceFile
    digest: str
    part_bytes: int
    part_digests: tuple[str, ...]  # hex

    @property
    def key(self) -> str:
        return blob_key(self.digest)


class Counter:
    """Adds up bytes over threads and reports each step."""

    def __init__(self, stage: str, total: int, report: Report | None) -> None:
        self._stage, self._total, self._report = stage, total, report
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int, file: str) -> None:
        with self._lock:
            self._done += count
            if self._report:
                self._report(Progress(self._stage, self._done, self._total, file))


def part_bytes(size: int) -> int:
    """The same for the same size, so that a later push finds the parts of an earlier one."""
    needed = -(-size // 10_000)
    return max(PART_BYTES, -(-needed // 2**20) * 2**20)


def hash_files(found: Inspected, report: Report | None) -> tuple[HashedFile, ...]:
    """Raises ModelRefusedError when a file changed since it was inspected."""
    counter = Counter("hash", sum(file.size for file in found.files), report)
    return tuple(_hashed(file, counter) for file in found.files)


def manifest_of(found: Inspected, files: Iterable[HashedFile]) -> ModelManifest:
    entries = tuple(ModelFile(file.source.path, file.source.size, file.digest) for file in files)
    judged = found.judged
    return ModelManifest(judged.kind, entries, judged.tensors, judged.config, judged.remote_code)


def _hashed(file: SourceFile, counter: Counter) -> HashedFile:
    whole, parts, size = hashlib.sha256(), [], part_bytes(file.size)
    for data in _pieces(file, size):
        whole.update(data)
        parts.append(hashlib.sha256(data).hexdigest())
        counter.add(len(data), file.path)
    now = file.source.stat()
    if (now.st_size, now.st_mtime_ns) != (file.size, file.modified_ns):
        raise _changed(file)
    return HashedFile(file, f"sha256:{whole.hexdigest()}", size, tuple(parts))


def _pieces(file: SourceFile, size: int) -> Iterator[bytes]:
    with file.open() as data:
        while piece := data.read(size):
            yield piece


def _changed(file: SourceFile) -> ModelRefusedError:
    return ModelRefusedError(file.path, ["the file changed while it was read; push again when nothing writes to it"])


class Uploader:
    """Brings hashed files into a store, as little of them as needed."""

    def __init__(self, store: ObjectStore, report: Report | None, total: int) -> None:
        self._store = store
        self._counter = Counter("upload", total, report)

    def upload(self, files: Iterable[HashedFile]) -> None:
        distinct = {file.digest: file for file in files}.values()
        pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="push")
        try:
            small = [file for file in distinct if len(file.part_digests) <= 1]
            list(pool.map(self._put, small))
            for file in distinct:
                if len(file.part_digests) > 1:
                    self._upload(file, pool)
        finally:
            pool.shutdown(cancel_futures=True)

    def _put(self, file: HashedFile) -> None:
        if not present(self._store, file.key, file.source.size):
            data = b"".join(_pieces(file.source, file.part_bytes))
            if f"sha256:{hashlib.sha256(data).hexdigest()}" != file.digest:
                raise _changed(file.source)
            self._store.put(file.key, data)
        self._counter.add(file.source.size, file.source.path)

    def _upload(self, file: HashedFile, pool: ThreadPoolExecutor) -> None:
        if present(self._store, file.key, file.source.size):
            self._counter.add(file.source.size, file.source.path)
            return
        upload = self._resume(file.key)
        try:
            known = self._store.parts(upload)
            send = [pool.submit(self._part, file, upload, n, known) for n in range(1, len(file.part_digests) + 1)]
            self._store.complete_upload(upload, [future.result() for future in send])
        except ObjectNotFoundError:
            # Another push of the same file, sharing this upload, completed it. A platform that still verifies it
            # answers a repeated completion when it has.
            if not present(self._store, file.key, file.source.size):
                self._store.complete_upload(upload, _named_parts(file))

    def _resume(self, key: str) -> Upload:
        newest = max(self._store.uploads(key), key=lambda upload: upload.started, default=None)
        return newest or self._store.begin_upload(key)

    def _part(self, file: HashedFile, upload: Upload, number: int, known: Iterable[Part]) -> Part:
        data = _read_part(file, number)
        same = (part.confirmed(data) for part in known if part.number == number)
        part = next(filter(None, same), None) or self._store.put_part(upload, number, data)
        self._counter.add(len(data), file.source.path)
        return replace(part, sha256=file.part_digests[number - 1])


def _named_parts(file: HashedFile) -> list[Part]:
    """The parts by their digests: what is there of them, the store need not tell any more."""
    last = len(file.part_digests)
    rest = file.source.size - (last - 1) * file.part_bytes
    sizes = [file.part_bytes] * (last - 1) + [rest]
    return [
        Part(number, size, "", digest)
        for number, (size, digest) in enumerate(zip(sizes, file.part_digests, strict=True), 1)
    ]


def _read_part(file: HashedFile, number: int) -> bytes:
    with file.source.open() as source:
        source.seek((number - 1) * file.part_bytes)
        data = source.read(file.part_bytes)
    if hashlib.sha256(data).hexdigest() != file.part_digests[number - 1]:
        raise _changed(file.source)
    return data


def present(store: ObjectStore, key: str, size: int) -> bool:
    """Whether the blob is there; one of another size is not it."""
    try:
        return store.stat(key).size == size
    except ObjectNotFoundError:
        return False


def missing(store: ObjectStore, manifest: ModelManifest) -> list[ModelFile]:
    """Files of the manifest that the store does not have."""
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="stat") as pool:
        there = pool.map(lambda file: present(store, blob_key(file.digest), file.size), manifest.files)
        return [file for file, is_there in zip(manifest.files, there, strict=True) if not is_there]


def push_files(store: ObjectStore, repository: str, tag: str, found: Inspected, report: Report | None) -> ModelManifest:
    """The whole push; the tag is written last."""
    files = hash_files(found, report)
    manifest = manifest_of(found, files)
    pin = pending_key(Kind.PENDING_MANIFEST, repository, manifest.digest)
    store.put(pin, manifest.to_json())  # from here on no garbage collection takes the files away
    Uploader(store, report, manifest.size).upload(files)
    wait_for_lease(store)
    if lost := {file.digest for file in missing(store, manifest)}:
        again = [file for file in files if file.digest in lost]
        Uploader(store, None, sum(file.source.size for file in again)).upload(again)
    commit(store, repository, tag, manifest)
    store.delete(pin)
    return manifest


def commit(store: ObjectStore, repository: str, tag: str, manifest: ModelManifest) -> None:
    """Make the model visible. Raises IncompleteModelError when a file is not there."""
    if lost := missing(store, manifest):
        raise IncompleteModelError(
            f"{len(lost)} files are not in the registry, {lost[0].path!r} among them; push again"
        )
    store.put(blob_key(manifest.digest), manifest.to_json())
    store.put(manifest_key(repository, manifest.digest), manifest.to_json())
    store.put(tag_key(repository, tag), manifest.digest.encode())


def wait_for_lease(store: ObjectStore, patience: float = LEASE_PATIENCE) -> None:
    """Wait for a running garbage collection. Raises CollectionRunningError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while lease_until(store) > time.time():
        if time.monotonic() > deadline:
            raise CollectionRunningError("a garbage collection is running; push again when it has ended")
        time.sleep(0.5)


def lease_until(store: ObjectStore) -> float:
    """Unix time until which a garbage collection holds the registry; 0: none does."""
    try:
        return float(json.loads(read_small(store, LEASE, 1000))["until"])
    except ObjectNotFoundError:
        return 0.0
