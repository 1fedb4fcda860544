"""A bucket whose server fails, breaks off, stalls or lies: it is delivered, or refused clearly and in bounded time."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.runtime.models import BadManifestError
from pilotlight.runtime.stores import (
    BadAddressError,
    ObjectCorruptError,
    StoreDeniedError,
    StoreUnavailableError,
    open_store,
)
from pilotlight.runtime.stores.s3 import S3Options, S3Store

MIB = 1 << 20
DATA = bytes(range(256)) * (6 * MIB // 256)
REF = ModelRef.parse("s3://models/tiny:v1")


@pytest.fixture
def chaos(s3_server: Any, chaos_proxy: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    for key, value in s3_server.environment.items():
        monkeypatch.setenv(key, value)
    return chaos_proxy(s3_server.endpoint)


@pytest.fixture
def options(chaos: Any) -> S3Options:
    quick = S3Options.from_environment()
    return replace(quick, endpoint=chaos.url, connect_seconds=2.0, read_seconds=2.0, attempts=3)


@pytest.fixture
def store(options: S3Options) -> S3Store:
    made = S3Store(f"chaos-{uuid.uuid4().hex[:12]}", options)
    made.ensure_bucket()
    made.put("data", DATA)
    return made


def test_a_few_errors_of_the_server_pass_unseen(store: S3Store, chaos: Any) -> None:
    for ask in (
        lambda: store.stat("data"),
        lambda: store.put("other", b"x"),
        lambda: list(store.list()),
        lambda: store.put_part(store.begin_upload("big"), 1, b"x"),
        lambda: store.move("other", "another"),
        lambda: store.delete("another"),
    ):
        chaos.errors = 2
        ask()
        assert chaos.errors == 0
    chaos.errors = 2
    assert b"".join(store.read("data", 0, len(DATA))) == DATA


def test_a_server_that_always_fails_is_given_up_soon(store: S3Store, chaos: Any) -> None:
    chaos.errors = 10**6
    before = len(chaos.requests)
    with pytest.raises(StoreUnavailableError, match="data"):
        store.stat("data")
    assert len(chaos.requests) - before == 3
    with pytest.raises(StoreUnavailableError):
        list(store.read("data", 0, 10))


def test_a_body_that_breaks_off_is_resumed_where_it_broke(store: S3Store, chaos: Any) -> None:
    chaos.truncations = 3
    before = len(chaos.requests)
    assert b"".join(store.read("data", 0, len(DATA))) == DATA
    assert len(chaos.requests) - before == 4


def test_a_body_that_never_gets_further_is_given_up(store: S3Store, chaos: Any) -> None:
    chaos.truncations = 10**6
    with pytest.raises(StoreUnavailableError):
        list(store.read("data", 0, 1))  # half of one byte is none


def test_a_stall_is_tried_again(store: S3Store, chaos: Any) -> None:
    chaos.stalls = 1
    assert b"".join(store.read("data", 0, len(DATA))) == DATA


def test_a_server_that_always_stalls_is_given_up_in_bounded_time(
    store: S3Store, chaos: Any, options: S3Options
) -> None:
    chaos.stalls = 10**6
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        store.stat("data")
    assert time.monotonic() - started < options.attempts * (options.read_seconds + 20)  # 20 s: botocore's longest pause


def test_a_server_that_is_too_slow_is_given_up(options: S3Options, store: S3Store) -> None:
    ticks = iter(range(0, 10**9, 10**6))
    slow = S3Store(store.address.removeprefix("s3://"), options, monotonic=lambda: float(next(ticks)))
    with pytest.raises(StoreUnavailableError, match="too slowly"):
        list(slow.read("data", 0, len(DATA)))


@pytest.mark.parametrize("lying", ["blobs/", "/manifests/", "/tags/"])
def test_a_byte_turned_on_the_way_is_refused_by_the_digest(
    store: S3Store, chaos: Any, make_model: Callable[..., Path], tmp_path: Path, lying: str
) -> None:
    registry = Registry(store, "models")
    registry.push(make_model(), REF)
    chaos.only, chaos.corruptions = lying, 10**6
    with pytest.raises((ObjectCorruptError, BadManifestError)):
        registry.pull(REF, tmp_path / "out")
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_model_is_pushed_and_pulled_whole_through_trouble(
    store: S3Store, chaos: Any, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    registry = Registry(store, "models")
    chaos.errors = 2
    registry.push(make_model(), REF)
    chaos.errors, chaos.truncations, chaos.stalls = 1, 1, 1
    registry.pull(REF, tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "model/model.safetensors").read_bytes()


def test_a_closed_port_is_told_as_unavailable(options: S3Options) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(StoreUnavailableError, match="could not be reached"):
            S3Store("models", replace(options, endpoint=endpoint)).stat("x")


def test_wrong_credentials_are_told_as_denied(
    store: S3Store, options: S3Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-it")
    denied = S3Store(store.address.removeprefix("s3://"), options)
    with pytest.raises(StoreDeniedError):
        denied.put("x", b"")
    assert "not-it" not in repr(denied) + denied.address


def test_no_credentials_are_told_with_what_to_set(
    options: S3Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreDeniedError, match="AWS_ACCESS_KEY_ID"):
        S3Store("models", options).stat("x")


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_both_styles_of_address_reach_the_bucket(
    s3_server: Any, store: S3Store, chaos: Any, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    bucket = store.address.removeprefix("s3://")
    port = s3_server.endpoint.rpartition(":")[2]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://localhost:{port}")
    plain = socket.getaddrinfo
    asked: list[str] = []

    def local(host: Any, *rest: Any, **more: Any) -> Any:
        asked.append(str(host))
        return plain("127.0.0.1" if str(host).endswith("localhost") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", local)
    opened = open_store(f"s3://{bucket}?style={style}")
    assert opened.stat("data").size == len(DATA)
    assert opened.address == f"s3://{bucket}?style={style}"
    assert (f"{bucket}.localhost" in asked) is (style == "virtual")
    assert chaos.requests


def test_the_style_follows_the_endpoint_unless_it_is_said() -> None:
    assert S3Options(endpoint="http://127.0.0.1:1").addressing == "path"
    assert S3Options().addressing == "virtual"
    assert S3Options.from_environment({"PILOTLIGHT_S3_STYLE": "path"}).addressing == "path"
    with pytest.raises(BadAddressError):
        S3Options.from_environment({"PILOTLIGHT_S3_STYLE": "other"})


@pytest.mark.parametrize(
    "address",
    [
        "",
        "models",
        "s3://",
        "s3://models/prefix",
        "s3://user:secret@models",
        "s3://Models",
        "s3://models?x=1",
        "s3://models?style=x",
        "file://host/x",
        "file:x",
        "http://x",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(BadAddressError, match="not valid") as caught:
        open_store(address)
    assert "secret" not in str(caught.value)
