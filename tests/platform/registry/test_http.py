"""The platform as a store: pushes over HTTP keep to every right, and nothing unsound gets in."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import urllib3

from pilotlight.platform.registry.errors import (
    CollectionRunningError,
    IncompleteModelError,
    ModelNotFoundError,
    ModelRefusedError,
    NotAllowedError,
)
from pilotlight.platform.registry.http import PART_LIMIT
from pilotlight.platform.registry.inspection import inspect_folder
from pilotlight.platform.registry.layout import LEASE, Kind, manifest_key, pending_key, tag_key
from pilotlight.platform.registry.push import PART_BYTES, hash_files, manifest_of
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.registry.remote import RemoteStore
from pilotlight.runtime.models import ModelFile, ModelManifest, blob_key, sha256
from pilotlight.runtime.stores import (
    ObjectCorruptError,
    ObjectNotFoundError,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
)

EMPTY = blob_key(sha256(b""))
REF = ModelRef.parse("s3://models/team-a/tiny:v1")
ONE_STORE = pytest.mark.parametrize("any_store", ["folder"], indirect=True)
"""For what is decided before any store is asked."""
MakeModel = Callable[..., Path]
Open = Callable[..., RemoteStore]


def remote(open_remote: Open, key: str = "a", repository: str = "team-a/tiny") -> Registry:
    return Registry(open_remote(key, repository), "models")


def test_a_model_is_pushed_and_pulled_through_the_platform(
    open_remote: Open, make_model: MakeModel, snapshot: Callable[[Path], object], tmp_path: Path, registry: Registry
) -> None:
    folder = make_model()
    manifest = remote(open_remote).push(folder, REF)
    assert registry.resolve(REF).manifest == manifest
    remote(open_remote).pull(REF, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert remote(open_remote).verify(REF).problems == ()


def test_a_large_file_goes_in_parts_and_resumes(
    open_remote: Open, make_model: MakeModel, weights: Callable[[dict[str, bytes]], bytes], registry: Registry
) -> None:
    folder = make_model(files={"model.safetensors": weights({"w": b"w" * (2 * PART_BYTES)})})
    found = inspect_folder(folder)
    file = next(file for file in hash_files(found, None) if file.source.path == "model.safetensors")
    store = open_remote("a")
    part = store.put_part(store.begin_upload(file.key), 1, (folder / "model.safetensors").read_bytes()[:PART_BYTES])
    assert part.size == PART_BYTES
    (upload,) = store.uploads(file.key)
    assert len(store.parts(upload)) == 1
    manifest = remote(open_remote).push(folder, REF)
    assert registry.verify(REF).problems == ()
    assert list(store.uploads(file.key)) == []
    assert b"".join(store.read(file.key, 3, 5)) == (folder / "model.safetensors").read_bytes()[3:8]
    assert manifest.size > 2 * PART_BYTES


def test_what_is_seen_is_recorded(open_remote: Open, make_model: MakeModel, recorded: list[tuple[str, str]]) -> None:
    remote(open_remote).push(make_model(), REF)
    remote(open_remote).untag(REF)
    subject = "s3://models/repositories/team-a/tiny/tags/v1"
    assert recorded == [("push", subject), ("untag", subject)]


@ONE_STORE
def test_a_file_is_deleted_only_when_it_is_corrupt_and_only_by_its_owner(
    open_remote: Open, make_model: MakeModel, registry: Registry, recorded: list[tuple[str, str]]
) -> None:
    manifest = remote(open_remote).push(make_model(), REF)
    key = blob_key(manifest.files[2].digest)
    with pytest.raises(NotAllowedError, match="cannot be deleted"):
        open_remote("a").delete(key)
    registry.store.put(key, b"[]")
    with pytest.raises(NotAllowedError):
        open_remote("b").delete(key)
    with pytest.raises(ObjectNotFoundError):
        open_remote("b", "team-b/tiny").delete(key)
    (problem,) = remote(open_remote).verify(REF, repair=True).problems
    assert problem.startswith("tokenizer.json is corrupt")
    assert recorded[-1] == ("repair", f"s3://models/{key}")
    remote(open_remote).push(make_model(), REF)
    assert remote(open_remote).verify(REF).problems == ()


@ONE_STORE
@pytest.mark.parametrize("url", [0.1], indirect=True)
def test_a_body_that_never_ends_is_not_waited_for(url: str) -> None:
    key = blob_key(sha256(b"endless"))
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    path = f"/api/v1alpha1/registry/models/objects/{key}?repository=team-a/tiny"
    connection.putrequest("PUT", path)
    connection.putheader("Authorization", "Bearer a")
    connection.putheader("Content-Length", "7")
    connection.endheaders(b"end")
    with connection.getresponse() as answer:
        assert answer.status == 408
        assert b"the body did not come within" in answer.read()
        assert answer.getheader("Connection") == "close"
    connection.close()


def test_a_foreign_namespace_is_neither_read_nor_pushed(open_remote: Open, make_model: MakeModel) -> None:
    manifest = remote(open_remote).push(make_model(), REF)
    stranger = remote(open_remote, "b")
    with pytest.raises(ModelNotFoundError):
        stranger.resolve(REF)
    assert stranger.list() == []
    with pytest.raises(NotAllowedError, match="team-a/tiny"):
        stranger.push(make_model("other"), REF)
    with pytest.raises(NotAllowedError):
        open_remote("b").delete(tag_key(REF.repository, REF.tag))
    for repository in ("team-a/tiny", "team-b/tiny", "tiny", ""):
        with pytest.raises(ObjectNotFoundError):
            open_remote("b", repository).stat(blob_key(manifest.files[0].digest))


def test_a_shared_model_is_read_by_all_and_pushed_by_admins(open_remote: Open, make_model: MakeModel) -> None:
    shared = ModelRef.parse("s3://models/shared:v1")
    with pytest.raises(NotAllowedError):
        remote(open_remote, "a", "shared").push(make_model(), shared)
    remote(open_remote, "root", "shared").push(make_model(), shared)
    assert remote(open_remote, "b", "shared").verify(shared).problems == ()
    assert [str(entry.ref) for entry in remote(open_remote, "b").list()] == ["s3://models/shared:v1"]


def test_whoever_knows_a_digest_does_not_get_the_file_by_it(open_remote: Open, make_model: MakeModel) -> None:
    manifest = remote(open_remote).push(make_model(files={"secret.txt": b"secret"}), REF)
    thief = open_remote("b", "team-b/stolen")
    data = manifest.to_json()
    thief.put(pending_key(Kind.PENDING_MANIFEST, "team-b/stolen", manifest.digest), data)
    with pytest.raises(ObjectNotFoundError):
        thief.stat(blob_key(manifest.files[0].digest))
    with pytest.raises(IncompleteModelError):
        thief.put(manifest_key("team-b/stolen", manifest.digest), data)
    with pytest.raises(StoreError):
        thief.put(tag_key("team-b/stolen", "v1"), manifest.digest.encode())


def test_who_has_the_files_may_push_the_same_model_elsewhere(
    open_remote: Open, make_model: MakeModel, registry: Registry
) -> None:
    first = remote(open_remote).push(make_model(), REF)
    other = ModelRef.parse("s3://models/team-b/tiny:v1")
    second = remote(open_remote, "b", "team-b/tiny").push(make_model(), other)
    assert first == second
    assert len(list(registry.store.list("blobs/"))) == len(first.files) + 1


def test_bytes_of_another_digest_are_kept_nowhere(open_remote: Open, registry: Registry) -> None:
    store, key = open_remote("a"), blob_key(sha256(b"right"))
    with pytest.raises(ObjectCorruptError):
        store.put(key, b"wrong")
    upload = store.begin_upload(key)
    part = store.put_part(upload, 1, b"wrong")
    with pytest.raises(ObjectCorruptError):
        store.complete_upload(upload, [part])
    assert list(registry.store.list()) == []


def push_by_hand(store: RemoteStore, manifest: ModelManifest, files: dict[str, bytes]) -> None:
    """What a client that does not inspect would do."""
    for data in files.values():
        store.put(blob_key(sha256(data)), data)
    store.put(manifest_key("team-a/tiny", manifest.digest), manifest.to_json())
    store.put(tag_key("team-a/tiny", "v1"), manifest.digest.encode())


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        pytest.param({"x.bin": b"x"}, {}, "pickled", id="pickle"),
        pytest.param({"model.safetensors": b"\xff" * 20}, {}, "safetensors", id="lying header"),
        pytest.param({"a.py": b""}, {}, "code of its own", id="remote code not told"),
        pytest.param({}, {"config": {"hidden_size": 5}}, "manifest's config", id="config not of the files"),
        pytest.param({}, {"tensors": {}}, "manifest's tensors", id="tensors not of the files"),
        pytest.param({}, {"kind": "adapter"}, "manifest's kind", id="kind not of the files"),
        pytest.param({}, {"remote_code": True}, "manifest's remoteCode", id="remote code told and not there"),
    ],
)
@ONE_STORE
def test_what_a_push_would_refuse_the_platform_refuses_too(
    open_remote: Open,
    make_model: MakeModel,
    registry: Registry,
    files: dict[str, bytes],
    changes: dict[str, object],
    message: str,
) -> None:
    folder = make_model()
    sound = manifest_of(found := inspect_folder(folder), hash_files(found, None))
    content = {file.path: (folder / file.path).read_bytes() for file in sound.files} | files
    fields = {"kind": "model", "tensors": sound.tensors, "config": sound.config} | changes
    entries = tuple(ModelFile(path, len(data), sha256(data)) for path, data in sorted(content.items()))
    if "model.safetensors" in files:
        fields["tensors"] = {}
    manifest = ModelManifest(files=entries, **fields)  # type: ignore[arg-type]  # named by each case
    with pytest.raises(ModelRefusedError, match=message):
        push_by_hand(open_remote("a"), manifest, content)
    assert registry.list() == []


def test_a_tag_needs_its_manifest_and_its_files(open_remote: Open, make_model: MakeModel, registry: Registry) -> None:
    store = open_remote("a")
    with pytest.raises(ObjectNotFoundError):
        store.put(tag_key("team-a/tiny", "v1"), sha256(b"x").encode())
    manifest = remote(open_remote).push(make_model(), REF)
    registry.store.delete(blob_key(manifest.files[0].digest))
    with pytest.raises(IncompleteModelError, match=r"config\.json"):
        store.put(tag_key("team-a/tiny", "v2"), manifest.digest.encode())


def test_no_tag_is_written_while_a_collection_runs(
    open_remote: Open, make_model: MakeModel, registry: Registry
) -> None:
    manifest = remote(open_remote).push(make_model(), REF)
    registry.store.put(LEASE, json.dumps({"until": 10**10}).encode())
    with pytest.raises(CollectionRunningError):
        open_remote("a").put(tag_key("team-a/tiny", "v2"), manifest.digest.encode())


@pytest.mark.parametrize(
    "key",
    ["x", "collection/lease", "pending/team-a/tiny/blobs/sha256/" + "0" * 64, "repositories/team-a/x/y/tags/z"],
)
@ONE_STORE
def test_other_keys_cannot_be_written(open_remote: Open, key: str) -> None:
    for secret in ("a", "root"):
        with pytest.raises(NotAllowedError):
            open_remote(secret).put(key, b"x")


@ONE_STORE
def test_a_folder_signs_nothing_and_says_so(url: str, open_remote: Open, make_model: MakeModel) -> None:
    manifest = remote(open_remote).push(make_model(), REF)
    path = f"/api/v1alpha1/registry/models/objects/{blob_key(manifest.files[0].digest)}?repository=team-a/tiny"
    answer = urllib3.request("POST", f"{url}{path}", headers={"Authorization": "Bearer a"})
    assert (answer.status, answer.json()["error"]["code"]) == (501, "NotPresignedError")


@ONE_STORE
def test_a_dry_run_is_no_change_to_be_recorded(
    open_remote: Open, make_model: MakeModel, recorded: list[tuple[str, str]], registry: Registry
) -> None:
    manifest = remote(open_remote).push(make_model(), REF)
    registry.untag(REF)
    told = open_remote("root").collect(0, dry_run=True)
    assert told.blobs == len(manifest.files) + 1
    assert [action for action, _ in recorded] == ["push"]
    assert open_remote("root").collect(0).blobs == told.blobs
    assert [action for action, _ in recorded] == ["push", "collect"]


def test_only_admins_collect(open_remote: Open, make_model: MakeModel) -> None:
    remote(open_remote).push(make_model(), REF)
    with pytest.raises(NotAllowedError):
        open_remote("a").collect(0)
    remote(open_remote).untag(REF)
    assert open_remote("root").collect(3600).blobs == 0


@pytest.mark.parametrize("secret", ["", "nobody"])
@ONE_STORE
def test_an_unknown_key_is_denied(open_remote: Open, secret: str) -> None:
    with pytest.raises(StoreDeniedError):
        open_remote(secret).stat(blob_key(sha256(b"")))


@ONE_STORE
def test_another_bucket_is_not_found(open_remote: Open) -> None:
    with pytest.raises(ObjectNotFoundError, match="no bucket"):
        open_remote("root", "x", "elsewhere").put(blob_key(sha256(b"")), b"")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("GET", "objects/..%2f..%2fetc/passwd?repository=x", b"", 404, id="path trick"),
        pytest.param("PUT", "objects/blobs/sha256/x?repository=x", b"", 403, id="no key of ours"),
        pytest.param("GET", "objects?prefix=../", b"", 403, id="prefix trick"),
        pytest.param("GET", "objects?prefix=repositories/../", b"", 400, id="prefix trick within"),
        pytest.param("GET", "objects/x?repository=..", b"", 400, id="repository trick"),
        pytest.param("POST", "collection", b"[]", 422, id="collection without grace"),
        pytest.param("POST", "collection", b'{"grace":-1}', 422, id="negative grace"),
        pytest.param("POST", "collection", b'{"dryRun":1}', 422, id="dry run neither true nor false"),
        pytest.param("POST", "collection", b'{"dry_run":true}', 422, id="collection with another name"),
        pytest.param("POST", "collection", b"x" * 2000, 413, id="collection too long"),
        pytest.param("PUT", f"uploads/{EMPTY}?repository=x&upload=y&part=z", b"", 400, id="part no number"),
        pytest.param("PUT", f"uploads/{EMPTY}?repository=x&upload=..&part=1", b"", 404, id="upload trick"),
        pytest.param("POST", f"uploads/{EMPTY}?repository=x&upload=y", b'{"parts":[1]}', 422, id="parts"),
    ],
)
@ONE_STORE
def test_a_request_that_makes_no_sense_is_refused(url: str, method: str, path: str, body: bytes, status: int) -> None:
    headers = {"Authorization": "Bearer root"}
    answer = urllib3.request(method, f"{url}/api/v1alpha1/registry/models/{path}", body=body, headers=headers)
    assert answer.status == status
    assert set(answer.json()["error"]) >= {"code", "message"}


@ONE_STORE
def test_a_body_without_end_is_cut_off_at_the_limit(url: str) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 4 * PART_LIMIT:
            sent += 1 << 20
            yield b"x" * (1 << 20)

    try:
        status = urllib3.request(
            "PUT",
            f"{url}/api/v1alpha1/registry/models/objects/{EMPTY}?repository=x",
            body=endless(),
            headers={"Authorization": "Bearer root"},
            retries=False,
        ).status
    except (urllib3.exceptions.HTTPError, OSError):
        status = 413  # the platform answered and hung up while we were still sending
    assert status == 413
    assert sent < 2 * PART_LIMIT


def test_a_platform_that_is_not_there_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = RemoteStore(f"http://127.0.0.1:{free.getsockname()[1]}", "secret", "models", "x", attempts=2)
        with pytest.raises(StoreUnavailableError, match="cannot be reached") as caught:
            gone.stat(blob_key(sha256(b"")))
    assert "secret" not in str(caught.value)


def test_a_read_that_breaks_off_goes_on(
    url: str, chaos_proxy: Callable[[str], Any], open_remote: Open, make_model: MakeModel
) -> None:
    manifest = remote(open_remote).push(make_model(files={"notes.txt": b"n" * 300_000}), REF)
    (notes,) = [file for file in manifest.files if file.path == "notes.txt"]
    chaos = chaos_proxy(url)
    store = RemoteStore(chaos.url, "a", "models", "team-a/tiny")
    chaos.truncations = 2
    data = b"".join(store.read(blob_key(notes.digest), 0, notes.size))
    assert hashlib.sha256(data).hexdigest() == notes.digest.removeprefix("sha256:")
