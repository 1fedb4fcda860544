"""Bytes go to and come from the store itself by requests that the platform signed, or through the platform."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import urllib3

from pilotlight.platform.registry.http import PART_LIMIT
from pilotlight.platform.registry.layout import Kind, pending_key
from pilotlight.platform.registry.push import PART_BYTES, Progress
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.registry.remote import RemoteStore
from pilotlight.platform.registry.straight import StraightWay, objection
from pilotlight.runtime.models import blob_key, sha256
from pilotlight.runtime.stores import (
    ObjectCorruptError,
    ObjectNotFoundError,
    Presigner,
    SignedRequest,
    StoreError,
    Upload,
    s3,
)
from pilotlight.runtime.stores.folder import FolderStore
from pilotlight.runtime.stores.s3 import S3Options, S3Store

REF = ModelRef.parse("s3://models/team-a/tiny:v1")
PARTS = 4
MakeModel = Callable[..., Path]
Open = Callable[..., RemoteStore]
Until = Callable[[Callable[[], bool], str], None]

SMALL = b"a file of one part, sent as one all the same"
KEY = blob_key(sha256(SMALL))


@pytest.fixture(params=["s3_server", "minio_server"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def chaos(server: Any, chaos_proxy: Callable[[str], Any]) -> Any:
    """What clients are told to be the store; the platform itself goes past it."""
    return chaos_proxy(server.endpoint)


@pytest.fixture
def public(request: pytest.FixtureRequest, chaos: Any) -> str:
    """The address that requests are signed for: the proxy's, or the parameter."""
    return str(getattr(request, "param", chaos.url))


@pytest.fixture
def any_store(server: Any, public: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A bucket whose requests are signed for `public`."""
    for key, value in {**server.environment, "PILOTLIGHT_S3_PUBLIC_ENDPOINT": public}.items():
        monkeypatch.setenv(key, value)
    store = S3Store(f"straight-{uuid.uuid4().hex[:12]}", S3Options.from_environment())
    store.ensure_bucket()
    return store


@pytest.fixture
def large(make_model: MakeModel, weights: Callable[[dict[str, bytes]], bytes]) -> Path:
    """A model with a file of four parts, each of other bytes."""
    data = b"".join(bytes([number]) * PART_BYTES for number in range(PARTS - 1)) + b"end"
    return make_model(files={"model.safetensors": weights({"w": data})})


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def open_told(url: str, notices: list[str]) -> Callable[..., RemoteStore]:
    """`open_told(url=...)`: the platform as key a has it, with what the user is told in `notices`."""
    return lambda url=url: RemoteStore(url, "a", "models", "team-a/tiny", notice=notices.append)


def sent(proxy: Any, method: str = "PUT", text: str = "") -> list[str]:
    return [path for verb, path in list(proxy.requests) if verb == method and text in path]


def signed(
    url: str, upload: Upload, number: object = 1, key: str = "a", facts: Mapping[str, object] = MappingProxyType({})
) -> Any:
    """Ask for the request of a part; the answer as it is."""
    path = f"/api/v1alpha1/registry/models/uploads/{upload.key}"
    return urllib3.request(
        "POST",
        f"{url}{path}?repository=team-a/tiny&upload={upload.id}&part={number}",
        body=json.dumps({"size": len(SMALL), "sha256": hashlib.sha256(SMALL).hexdigest(), **facts}).encode(),
        headers={"Authorization": f"Bearer {key}"},
    )


def test_files_go_to_the_store_and_come_from_it_past_the_platform(
    open_told: Callable[..., RemoteStore],
    url: str,
    chaos: Any,
    chaos_proxy: Callable[[str], Any],
    large: Path,
    snapshot: Callable[[Path], object],
    tmp_path: Path,
    notices: list[str],
) -> None:
    platform = chaos_proxy(url)
    remote = Registry(open_told(platform.url), "models")
    steps: list[Progress] = []

    manifest = remote.push(large, REF, steps.append)
    remote.pull(REF, tmp_path / "out")

    assert len(sent(chaos)) == PARTS
    assert sent(platform, "PUT", "/uploads/") == []
    assert len(sent(chaos, "GET")) == len(manifest.files)
    assert sent(platform, "GET", "/objects/blobs/") == []
    assert snapshot(tmp_path / "out") == snapshot(large)
    done = [step.done for step in steps if step.stage == "upload"]
    assert done == sorted(done)
    assert done[-1] == manifest.size
    assert notices == []


def test_a_part_that_fails_in_the_middle_is_sent_again(
    open_told: Callable[..., RemoteStore], registry: Registry, chaos: Any, large: Path, notices: list[str]
) -> None:
    chaos.only, chaos.errors = "partNumber=2", 2

    Registry(open_told(), "models").push(large, REF)

    assert len(sent(chaos, "PUT", "partNumber=2")) == 3
    assert registry.verify(REF).problems == ()
    assert notices == []


PUSH = """
import sys
from pathlib import Path
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.registry.remote import RemoteStore
store = RemoteStore(sys.argv[1], "a", "models", "team-a/tiny")
Registry(store, "models").push(Path(sys.argv[2]), ModelRef.parse("s3://models/team-a/tiny:v1"))
"""


def test_a_killed_push_is_not_seen_and_goes_on_where_it_was(
    url: str,
    open_told: Callable[..., RemoteStore],
    registry: Registry,
    any_store: S3Store,
    chaos: Any,
    large: Path,
    until: Until,
) -> None:
    chaos.only, chaos.stalls = "partNumber=4", 10**6
    with subprocess.Popen([sys.executable, "-c", PUSH, url, str(large)]) as push:
        until(lambda: len(arrived(any_store)) == PARTS - 1, "all parts but the stalled one")
        os.kill(push.pid, signal.SIGKILL)
    chaos.stalls = 0
    assert registry.list() == []
    before = len(sent(chaos))

    Registry(open_told(), "models").push(large, REF)

    assert len(sent(chaos)) - before == 1
    assert registry.verify(REF).problems == ()


def arrived(store: S3Store) -> set[int]:
    return {part.number for upload in store.uploads() for part in store.parts(upload)}


def test_two_pushes_of_the_same_file_at_once_both_succeed(open_remote: Open, registry: Registry, large: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(Registry(open_remote("a"), "models").push, large, REF) for _ in range(2)]
        first, second = [push.result() for push in both]

    assert first == second
    assert registry.verify(REF).problems == ()
    assert len(list(registry.store.list("blobs/"))) == len(first.files) + 1
    assert list(registry.store.list("pending/team-a/tiny/uploads/")) == []


@pytest.mark.parametrize("public", ["http://127.0.0.1:1"], indirect=True)
def test_a_store_that_cannot_be_reached_is_told_once_and_the_platform_takes_the_files(
    open_told: Callable[..., RemoteStore], registry: Registry, large: Path, notices: list[str]
) -> None:
    Registry(open_told(), "models").push(large, REF)

    assert registry.verify(REF).problems == ()
    [notice] = notices
    assert notice.startswith("the model store at http://127.0.0.1:1 cannot be reached")
    assert "files go through the platform" in notice
    assert "Signature" not in notice


def test_a_store_that_refuses_what_was_signed_is_told_and_the_platform_takes_the_files(
    open_told: Callable[..., RemoteStore],
    registry: Registry,
    chaos: Any,
    monkeypatch: pytest.MonkeyPatch,
    large: Path,
    notices: list[str],
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")  # the platform signs with it from now on

    Registry(open_told(), "models").push(large, REF)

    assert registry.verify(REF).problems == ()
    [notice] = notices
    assert notice.startswith(f"the model store at {chaos.url} answers 403 SignatureDoesNotMatch; files go through")


class Late(RemoteStore):
    """Lists an upload that another push completes right after."""

    shared: Upload

    def uploads(self, key: str = "") -> Iterator[Upload]:
        yield from [self.shared] if key == self.shared.key else super().uploads(key)


def test_a_push_whose_upload_another_one_completed_waits_until_it_is_verified(
    url: str,
    open_told: Callable[..., RemoteStore],
    registry: Registry,
    chaos_proxy: Callable[[str], Any],
    large: Path,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verifying, go_on = threading.Event(), threading.Event()
    read = S3Store.read

    def held(self: S3Store, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if "/uploads/" in key:
            verifying.set()
            assert go_on.wait(60)
        return read(self, key, start, length)

    monkeypatch.setattr(S3Store, "read", held)
    platform = chaos_proxy(url)
    late = Late(platform.url, "a", "models", "team-a/tiny")
    first = open_told()
    data = (large / "model.safetensors").read_bytes()
    late.shared = upload = first.begin_upload(blob_key(sha256(data)))
    pieces = [data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)]
    parts = [first.put_part(upload, number, piece) for number, piece in enumerate(pieces, 1)]

    with ThreadPoolExecutor(2) as pool:
        completion = pool.submit(first.complete_upload, upload, parts)
        until(verifying.is_set, "the verification")
        push = pool.submit(Registry(late, "models").push, large, REF)
        until(lambda: push.done() or bool(sent(platform, "POST", "upload=")), "the second completion")
        go_on.set()
        completion.result()
        push.result()

    assert sent(platform, "POST", "part=") == []
    assert registry.verify(REF).problems == ()


# What a signed request allows


def test_another_content_than_the_digest_says_is_refused_and_gone(open_remote: Open, registry: Registry) -> None:
    store, key = open_remote("a"), blob_key(sha256(b"right"))
    upload = store.begin_upload(key)
    part = store.put_part(upload, 1, b"wrong")

    with pytest.raises(ObjectCorruptError, match="expected sha256:"):
        store.complete_upload(upload, [part])

    assert list(registry.store.list()) == []
    assert list(registry.store.uploads()) == []


@pytest.mark.parametrize("body", [b"x" * len(SMALL), SMALL + b"x", SMALL[:-1]], ids=["other", "longer", "shorter"])
def test_other_bytes_than_those_that_were_signed_are_refused_by_the_store(
    url: str, open_remote: Open, any_store: S3Store, body: bytes
) -> None:
    upload = open_remote("a").begin_upload(KEY)
    request = signed(url, upload).json()

    answer = urllib3.request("PUT", request["url"], body=body, headers=request["headers"], retries=False)

    assert answer.status in (400, 403)
    assert arrived(any_store) == set()


def test_after_completion_a_signed_request_changes_nothing(url: str, open_remote: Open, registry: Registry) -> None:
    store = open_remote("a")
    upload = store.begin_upload(KEY)
    request = signed(url, upload).json()
    store.complete_upload(upload, [store.put_part(upload, 1, SMALL)])

    answer = urllib3.request("PUT", request["url"], body=SMALL, headers=request["headers"], retries=False)

    assert answer.status == 404
    assert b"".join(registry.store.read(KEY)) == SMALL


def test_an_expired_request_is_signed_anew(
    any_store: S3Store, monkeypatch: pytest.MonkeyPatch, until: Until, notices: list[str], chaos: Any
) -> None:
    any_store.put("known", SMALL)
    digest = hashlib.sha256(SMALL).hexdigest()
    upload = any_store.begin_upload(KEY)
    with monkeypatch.context() as soon:
        soon.setattr(s3, "SIGNED_SECONDS", 1)
        expired, short = any_store.sign_part(upload, 1, len(SMALL), digest), any_store.sign_read("known")
    until(lambda: urllib3.request("GET", short.url, retries=False).status == 403, "the end of what was signed")
    requests = iter([expired, any_store.sign_part(upload, 1, len(SMALL), digest)])
    way = StraightWay(chaos.url, notices.append, connect_seconds=5, read_seconds=60, attempts=2)

    part = way.put_part(lambda: next(requests), KEY, 1, SMALL, digest)

    assert part is not None
    any_store.complete_upload(upload, [part])
    assert b"".join(any_store.read(KEY)) == SMALL
    assert notices == []


def test_a_signature_is_not_shown() -> None:
    assert "permission" not in repr(SignedRequest("http://store/key?permission", {}))


# Rights


def test_only_who_may_push_gets_a_part_signed(url: str, open_remote: Open) -> None:
    upload = open_remote("a").begin_upload(KEY)

    answer = signed(url, upload, key="b")

    assert answer.status == 403
    assert answer.json()["error"]["code"] == "NotAllowedError"


def test_only_who_may_read_a_file_gets_its_reading_signed(url: str, open_remote: Open, make_model: MakeModel) -> None:
    manifest = Registry(open_remote("a"), "models").push(make_model(), REF)
    path = f"/api/v1alpha1/registry/models/objects/{blob_key(manifest.files[0].digest)}"
    statuses = {
        (key, repository): urllib3.request(
            "POST", f"{url}{path}?repository={repository}", headers={"Authorization": f"Bearer {key}"}
        ).status
        for key in ("a", "b")
        for repository in ("team-a/tiny", "team-b/tiny")
    }

    assert statuses == {
        ("a", "team-a/tiny"): 200,
        ("a", "team-b/tiny"): 404,
        ("b", "team-a/tiny"): 404,
        ("b", "team-b/tiny"): 404,
    }


def test_a_completion_is_repeated_but_gives_nobody_else_the_file(open_remote: Open, registry: Registry) -> None:
    store = open_remote("a")
    upload = store.begin_upload(KEY)
    part = store.put_part(upload, 1, SMALL)

    store.complete_upload(upload, [part])
    store.complete_upload(upload, [part])

    thief = open_remote("b", "team-b/tiny")
    with pytest.raises(StoreError):
        thief.complete_upload(upload, [part])
    with pytest.raises(ObjectNotFoundError):
        thief.stat(KEY)
    mark = pending_key(Kind.PENDING_BLOB, "team-b/tiny", sha256(SMALL))
    assert mark not in [item.key for item in registry.store.list("pending/")]


def test_what_was_completed_and_not_verified_is_verified_by_the_next_completion(
    open_remote: Open, registry: Registry
) -> None:
    store = open_remote("a")
    upload = store.begin_upload(KEY)
    part = store.put_part(upload, 1, SMALL)
    staged = pending_key(Kind.PENDING_UPLOAD, "team-a/tiny", sha256(SMALL))
    registry.store.complete_upload(Upload(staged, upload.id, 0.0), [part])  # and then the platform was killed

    store.complete_upload(upload, [part])

    assert b"".join(store.read(KEY, 0, len(SMALL))) == SMALL


@pytest.mark.parametrize(
    ("key", "number", "facts", "status"),
    [
        pytest.param("x", 1, {}, 403, id="no key of ours"),
        pytest.param("repositories/team-a/tiny/tags/v1", 1, {}, 403, id="a tag"),
        pytest.param(pending_key(Kind.PENDING_UPLOAD, "team-a/tiny", sha256(b"x")), 1, {}, 403, id="what waits"),
        pytest.param("blobs/sha256/" + "0" * 63, 1, {}, 403, id="a short digest"),
        pytest.param("blobs/sha256/" + "G" * 64, 1, {}, 403, id="not hexadecimal"),
        pytest.param(KEY, 0, {}, 400, id="part 0"),
        pytest.param(KEY, 10_001, {}, 400, id="a part too many"),
        pytest.param(KEY, "x", {}, 400, id="no number"),
        pytest.param(KEY, 1, {"size": 0}, 422, id="empty"),
        pytest.param(KEY, 1, {"size": PART_LIMIT + 1}, 422, id="too large"),
        pytest.param(KEY, 1, {"size": True}, 422, id="size no number"),
        pytest.param(KEY, 1, {"sha256": "0" * 63}, 422, id="no sha256"),
        pytest.param(KEY, 1, {"sha256": None}, 422, id="sha256 left out"),
    ],
)
def test_what_is_no_part_of_a_file_is_not_signed(
    url: str, key: str, number: object, facts: dict[str, object], status: int
) -> None:
    answer = signed(url, Upload(key, "some-upload", 0.0), number, facts=facts)

    assert answer.status == status
    assert set(answer.json()["error"]) >= {"code", "message"}


@pytest.mark.parametrize(
    ("platform", "store", "said"),
    [
        pytest.param("http://127.0.0.1:1", "http://127.0.0.1:9000/b", "", id="one machine"),
        pytest.param("http://127.0.0.1:1", "https://s3.example/b", "", id="forwarded platform"),
        pytest.param("https://p.example", "https://s3.example/b", "", id="both by TLS"),
        pytest.param("http://p.example", "http://s3.example/b", "", id="both without"),
        pytest.param("https://p.example", "http://s3.example/b", "has no TLS", id="store without TLS"),
        pytest.param("https://p.example", "http://localhost:9000/b", "not this one", id="its loopback"),
        pytest.param("http://p.example", "http://[::1]:9000/b", "not this one", id="its loopback of IPv6"),
        pytest.param("http://p.example", "file:///etc/passwd", "no usable address", id="a file"),
        pytest.param("http://p.example", "http:///b", "no usable address", id="no host"),
    ],
)
def test_files_are_not_sent_where_they_do_not_belong(platform: str, store: str, said: str) -> None:
    told = objection(platform, store)

    assert told == "" if not said else said in told


def test_a_bucket_signs_and_a_folder_does_not(any_store: S3Store, tmp_path: Path) -> None:
    assert isinstance(any_store, Presigner)
    assert not isinstance(FolderStore(tmp_path / "folder"), Presigner)
