"""Garbage collection takes what nobody needs, and nothing else, whatever happens beside it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotlight.platform.registry.collection import LEASE_SECONDS
from pilotlight.platform.registry.errors import CollectionRunningError, ModelNotFoundError
from pilotlight.platform.registry.layout import LEASE, Kind, manifest_key, pending_key
from pilotlight.platform.registry.push import lease_until, wait_for_lease
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.runtime.models import ModelManifest, blob_key, sha256
from pilotlight.runtime.stores import ObjectInfo, ObjectStore, open_store
from pilotlight.runtime.stores.folder import FolderStore

REF = ModelRef.parse("s3://models/team-a/tiny:v1")
DAY = 24 * 3600.0
MakeModel = Callable[..., Path]


class Clock:
    """Real time and a number of days."""

    def __init__(self) -> None:
        self._start = time.time()
        self.days = 0.0

    def __call__(self) -> float:
        return self._start + self.days * DAY


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(any_store: ObjectStore, clock: Clock) -> Registry:
    return Registry(any_store, "models", clock)


def keys(registry: Registry) -> list[str]:
    return [item.key for item in registry.store.list()]


def test_what_a_tag_reaches_stays_however_old(registry: Registry, make_model: MakeModel, clock: Clock) -> None:
    registry.push(make_model(), REF)
    before = keys(registry)
    clock.days = 400
    collected = registry.gc([])
    assert (collected.blobs, collected.manifests, collected.complete) == (0, 0, True)
    assert keys(registry) == before
    assert registry.verify(REF).problems == ()


def test_what_nothing_reaches_goes_after_its_grace(registry: Registry, make_model: MakeModel, clock: Clock) -> None:
    manifest = registry.push(make_model(), REF)
    registry.untag(REF)
    clock.days = 0.9
    assert registry.gc([]).blobs == 0
    clock.days = 1.1
    collected = registry.gc([])
    assert collected.blobs == len(manifest.files) + 1
    assert collected.blob_bytes == manifest.size + len(manifest.to_json())
    assert keys(registry) == []


def test_what_a_live_revision_names_stays_without_a_tag(
    registry: Registry, make_model: MakeModel, clock: Clock
) -> None:
    manifest = registry.push(make_model(), REF)
    registry.untag(REF)
    clock.days = 10
    assert registry.gc([manifest.digest]).blobs == 0
    by_digest = ModelRef("models", REF.repository, digest=manifest.digest)
    assert registry.verify(by_digest).problems == ()


def test_a_live_manifest_keeps_its_files_even_when_its_repository_forgot_it(
    registry: Registry, make_model: MakeModel, clock: Clock
) -> None:
    manifest = registry.push(make_model(), REF)
    registry.untag(REF)
    registry.store.delete(manifest_key(REF.repository, manifest.digest))
    clock.days = 10
    registry.gc([manifest.digest])
    assert {blob_key(file.digest) for file in manifest.files} <= set(keys(registry))


def test_files_shared_with_a_tagged_model_stay(registry: Registry, make_model: MakeModel, clock: Clock) -> None:
    registry.push(make_model(), REF)
    other = ModelRef.parse("s3://models/other:v1")
    registry.push(make_model("other", {"tokenizer.json": b"[1]"}), other)
    registry.untag(other)
    clock.days = 2
    assert registry.gc([]).blobs == 2  # its tokenizer and its manifest
    assert registry.verify(REF).problems == ()


def test_a_push_under_way_keeps_files_that_it_found(tmp_path: Path, make_model: MakeModel, clock: Clock) -> None:
    store = FolderStore(tmp_path / "store")
    registry = Registry(store, "models", clock)
    manifest = registry.push(make_model(), REF)
    registry.untag(REF)
    registry.store.delete(manifest_key(REF.repository, manifest.digest))
    clock.days = 2
    pin = pending_key(Kind.PENDING_MANIFEST, "team-b/tiny", manifest.digest)
    store.put(pin, manifest.to_json())
    os.utime(tmp_path / "store" / pin, (clock(), clock()))
    assert registry.gc([]).blobs == 0
    clock.days = 4
    assert registry.gc([]).blobs == len(manifest.files) + 1


@pytest.mark.parametrize("days", [0.5, 1.5])
def test_an_unfinished_upload_is_aborted_after_its_grace(registry: Registry, clock: Clock, days: float) -> None:
    registry.store.begin_upload(blob_key(sha256(b"x")))
    clock.days = days
    assert registry.gc([]).uploads == (1 if days > 1 else 0)
    assert len(list(registry.store.uploads())) == (0 if days > 1 else 1)


def test_a_dry_run_tells_what_would_go_and_takes_nothing(
    registry: Registry, make_model: MakeModel, clock: Clock
) -> None:
    manifest = registry.push(make_model(), REF)
    registry.untag(REF)
    registry.store.begin_upload(blob_key(sha256(b"x")))
    before = keys(registry)
    assert registry.gc([], dry_run=True).blobs == 0
    clock.days = 1.1
    told = registry.gc([], dry_run=True)
    assert (told.blobs, told.uploads, told.complete) == (len(manifest.files) + 1, 1, True)
    assert keys(registry) == before
    assert len(list(registry.store.uploads())) == 1
    assert registry.gc([]) == told


def test_a_dry_run_waits_for_nobody(registry: Registry, clock: Clock) -> None:
    registry.store.put(LEASE, json.dumps({"until": clock() + 60}).encode())
    assert registry.gc([], dry_run=True).complete


def test_two_collections_do_not_run_at_once(registry: Registry, clock: Clock) -> None:
    registry.store.put(LEASE, json.dumps({"until": clock() + 60}).encode())
    with pytest.raises(CollectionRunningError):
        registry.gc([])
    with pytest.raises(CollectionRunningError):
        wait_for_lease(registry.store, patience=0)


def test_the_lease_of_a_killed_collection_runs_out(registry: Registry, clock: Clock) -> None:
    registry.store.put(LEASE, json.dumps({"until": clock() + LEASE_SECONDS}).encode())
    clock.days = 0.1
    assert registry.gc([]).complete
    assert lease_until(registry.store) == 0


def test_a_manifest_that_cannot_be_read_stops_the_collection(
    registry: Registry, make_model: MakeModel, clock: Clock
) -> None:
    manifest = registry.push(make_model(), REF)
    registry.store.put(manifest_key(REF.repository, manifest.digest), b"{}")
    clock.days = 2
    with pytest.raises(ValueError, match="nothing was collected"):
        registry.gc([])
    assert blob_key(manifest.files[0].digest) in keys(registry)
    assert lease_until(registry.store) == 0


def test_a_push_sends_again_what_a_collection_took_meanwhile(tmp_path: Path, make_model: MakeModel) -> None:
    plain = FolderStore(tmp_path / "store")
    manifest = Registry(plain, "models").push(make_model(), REF)
    lost = blob_key(manifest.files[1].digest)

    class Collected(FolderStore):
        """Loses a file right after the push has looked for it for the first time."""

        looked = False

        def stat(self, key: str) -> ObjectInfo:
            found = super().stat(key)
            if key == lost and not self.looked:
                self.looked = True
                self.delete(lost)
            return found

    again = Registry(Collected(tmp_path / "store"), "models")
    again.push(make_model(), ModelRef.parse("s3://models/other:v1"))
    assert Registry(plain, "models").verify(REF).problems == ()


def test_an_untagged_digest_that_was_collected_is_not_found(
    registry: Registry, make_model: MakeModel, clock: Clock
) -> None:
    digest = registry.push(make_model(), REF).digest
    registry.untag(REF)
    clock.days = 2
    registry.gc([])
    with pytest.raises(ModelNotFoundError):
        registry.resolve(ModelRef("models", REF.repository, digest=digest))


def test_the_store_opens_again_after_a_collection(registry: Registry, make_model: MakeModel, clock: Clock) -> None:
    digest = registry.push(make_model(), REF).digest
    clock.days = 2
    registry.gc([])
    data = b"".join(open_store(registry.store.address).read(blob_key(digest)))
    assert ModelManifest.from_json(data).digest == digest
