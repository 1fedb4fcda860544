"""The registry of one bucket: what `pilotlight models` and the platform do with it."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pilotlight.platform.registry.collection import GRACE_SECONDS, Collected, Collector
from pilotlight.platform.registry.errors import BadReferenceError, ModelNotFoundError
from pilotlight.platform.registry.inspection import Inspected, inspect_folder
from pilotlight.platform.registry.layout import Kind, blob_key, manifest_key, parse_key, tag_key
from pilotlight.platform.registry.push import WORKERS, Counter, Report, commit, push_files, wait_for_lease
from pilotlight.platform.registry.refs import ModelRef, check_tag
from pilotlight.runtime.models import (
    MANIFEST_LIMIT,
    BadManifestError,
    ModelFile,
    ModelManifest,
    check_digest,
)
from pilotlight.runtime.stores import ObjectCorruptError, ObjectNotFoundError, ObjectStore, StoreError, read_small


@dataclass(frozen=True)
class ModelEntry:
    """One tag."""

    ref: ModelRef
    digest: str
    modified: float  # Unix time of the tag


@dataclass(frozen=True)
class Resolved:
    """A reference as it stood at one moment; `digest` is what to keep."""

    ref: ModelRef
    manifest: ModelManifest

    @property
    def digest(self) -> str:
        return self.manifest.digest


@dataclass(frozen=True)
class Verified:
    """All bytes of a model read again; `problems` is empty when they are right."""

    digest: str
    files: int
    bytes: int
    problems: tuple[str, ...]


class Registry:
    """Models in one bucket. The store's errors pass through; the registry's own are in `registry.errors`."""

    def __init__(self, store: ObjectStore, bucket: str, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._bucket = bucket
        self._clock = clock

    @property
    def store(self) -> ObjectStore:
        return self._store

    def push(
        self, folder: Path, ref: ModelRef, report: Report | None = None, *, trust_remote_code: bool = False
    ) -> ModelManifest:
        """Raises ModelRefusedError before anything is uploaded; can be repeated after any failure, and resumes."""
        self._pushable(ref)
        return self.push_inspected(inspect_folder(folder, trust_remote_code=trust_remote_code), ref, report)

    def push_inspected(self, found: Inspected, ref: ModelRef, report: Report | None = None) -> ModelManifest:
        self._pushable(ref)
        return push_files(self._store, ref.repository, ref.tag, found, report)

    def resolve(self, ref: ModelRef) -> Resolved:
        """Raises ModelNotFoundError."""
        self._check(ref)
        digest = ref.digest or self._tagged(ref)
        try:
            data = read_small(self._store, manifest_key(ref.repository, digest), MANIFEST_LIMIT)
        except ObjectNotFoundError:
            raise ModelNotFoundError(f"model {ref} is not in the registry") from None
        manifest = ModelManifest.from_json(data)
        if manifest.digest != digest:
            raise ObjectCorruptError(
                f"manifest of {ref} is corrupt", key=ref.repository, expected=digest, actual=manifest.digest
            )
        return Resolved(ref, manifest)

    def list(self) -> list[ModelEntry]:
        """Every tag that can be seen, by name."""
        found = []
        for item in self._store.list("repositories/"):
            place = parse_key(item.key)
            if place and place.kind is Kind.TAG:
                ref = ModelRef(self._bucket, place.repository, tag=place.tag)
                with suppress(ModelNotFoundError):  # removed since it was listed
                    found.append(ModelEntry(ref, self._tagged(ref), item.modified))
        return found

    def tag(self, ref: ModelRef, tag: str) -> Resolved:
        """Let another tag of the same repository point at what `ref` points at."""
        check_tag(tag)
        found = self.resolve(ref)
        wait_for_lease(self._store)
        commit(self._store, ref.repository, tag, found.manifest)
        return found

    def untag(self, ref: ModelRef) -> None:
        """Remove a tag; the files go with the next collection. Raises ModelNotFoundError."""
        self._pushable(ref)
        self._tagged(ref)
        self._store.delete(tag_key(ref.repository, ref.tag))

    def pull(self, ref: ModelRef, folder: Path, report: Report | None = None) -> Resolved:
        """Write the model's files below the folder; those that are there and right are kept."""
        found = self.resolve(ref)
        counter = Counter("download", found.manifest.size, report)
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="pull") as pool:
            list(pool.map(lambda file: self._pull(file, folder, counter), found.manifest.files))
        return found

    def verify(self, ref: ModelRef, report: Report | None = None, *, repair: bool = False) -> Verified:
        """Read every byte of the model again; `repair` removes what is corrupt, so that a push brings it anew."""
        manifest = self.resolve(ref).manifest
        itself = ModelFile("the model's manifest", len(manifest.encoded), manifest.digest)  # what replicas fetch first
        look = partial(self._problem, counter=Counter("verify", manifest.size + itself.size, report), repair=repair)
        with ThreadPoolExecutor(WORKERS, thread_name_prefix="verify") as pool:
            problems = [text for text in pool.map(look, (*manifest.files, itself)) if text]
        return Verified(manifest.digest, len(manifest.files), manifest.size, tuple(problems))

    def gc(self, live: Iterable[str], grace: float = GRACE_SECONDS, *, dry_run: bool = False) -> Collected:
        """Sweep what neither a tag nor a digest in `live` reaches and is older than `grace` seconds.

        `dry_run`: tell what that would be, and change nothing.
        """
        collector = Collector(self._store, live, grace, self._clock)
        return collector.look() if dry_run else collector.run()

    def _check(self, ref: ModelRef) -> None:
        if ref.bucket != self._bucket:
            raise BadReferenceError(f"{ref} is not in bucket {self._bucket!r}")

    def _pushable(self, ref: ModelRef) -> None:
        self._check(ref)
        if not ref.tag:
            raise BadReferenceError(f"{ref} names a digest; name a tag, as in s3://{ref.bucket}/{ref.repository}:v1")

    def _tagged(self, ref: ModelRef) -> str:
        try:
            return check_digest(read_small(self._store, tag_key(ref.repository, ref.tag), 100).decode())
        except ObjectNotFoundError:
            raise ModelNotFoundError(f"model {ref} is not in the registry") from None
        except (BadManifestError, UnicodeDecodeError):
            raise ObjectCorruptError(
                f"the tag of {ref} holds no digest", key=tag_key(ref.repository, ref.tag)
            ) from None

    def _pull(self, file: ModelFile, folder: Path, counter: Counter) -> None:
        target = folder.joinpath(*file.path.split("/"))
        if target.is_file() and target.stat().st_size == file.size and _digest_of(target) == file.digest:
            counter.add(file.size, file.path)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{uuid.uuid4().hex}.partial")
        try:
            self._download(file, temporary, counter)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _download(self, file: ModelFile, target: Path, counter: Counter) -> None:
        digest = hashlib.sha256()
        with target.open("xb") as out:
            for chunk in self._store.read(blob_key(file.digest), 0, file.size):
                digest.update(chunk)
                out.write(chunk)
                counter.add(len(chunk), file.path)
            out.flush()
            os.fsync(out.fileno())
        _compare(file, f"sha256:{digest.hexdigest()}")

    def _problem(self, file: ModelFile, counter: Counter, *, repair: bool) -> str:
        try:
            self._check_bytes(file, counter)
        except ObjectCorruptError as error:
            if not repair:
                return str(error)
            self._store.delete(blob_key(file.digest))
            return f"{error}; it was removed"
        except StoreError as error:
            return f"{file.path}: {error}"
        return ""

    def _check_bytes(self, file: ModelFile, counter: Counter) -> None:
        key, digest = blob_key(file.digest), hashlib.sha256()
        if (size := self._store.stat(key).size) != file.size:
            raise ObjectCorruptError(f"{file.path} has {size} bytes in the registry, expected {file.size}", key=key)
        for chunk in self._store.read(key, 0, file.size):
            digest.update(chunk)
            counter.add(len(chunk), file.path)
        _compare(file, f"sha256:{digest.hexdigest()}")


def _compare(file: ModelFile, actual: str) -> None:
    if actual != file.digest:
        raise ObjectCorruptError(
            f"{file.path} is corrupt in the registry: its bytes have digest {actual}, expected {file.digest}",
            key=blob_key(file.digest),
            expected=file.digest,
            actual=actual,
        )


def _digest_of(path: Path) -> str:
    with path.open("rb") as data:
        return f"sha256:{hashlib.file_digest(data, 'sha256').hexdigest()}"
