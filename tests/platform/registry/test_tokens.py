"""An upload token pushes to one repository for a while, and does nothing else."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import Request

from pilotlight.platform.registry.errors import ModelNotFoundError, NotAllowedError
from pilotlight.platform.registry.layout import tag_key
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.registry.remote import RemoteStore
from pilotlight.platform.registry.rights import Caller, may_push, may_read
from pilotlight.platform.registry.tokens import LONGEST_SECONDS, PREFIX, Tokens, with_tokens
from pilotlight.runtime.models import BadManifestError, blob_key
from pilotlight.runtime.stores import ObjectNotFoundError, StoreDeniedError

REF = ModelRef.parse("s3://models/team-a/tiny:v1")
ONE_STORE = pytest.mark.parametrize("any_store", ["folder"], indirect=True)
MakeModel = Callable[..., Path]
Open = Callable[..., RemoteStore]


class Clock:
    """Moves when told to."""

    def __init__(self) -> None:
        self.time = 1_790_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens(b"secret", clock)


def request(secret: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", f"Bearer {secret}".encode())]})


# The statement


def test_a_token_says_where_it_pushes_until_it_ends(tokens: Tokens, clock: Clock) -> None:
    issued = tokens.issue("key-1", "models", "team-a/tiny", 60)

    uploader = tokens.read(issued.token)
    assert uploader is not None
    assert (uploader.key, uploader.bucket, uploader.repository) == ("key-1", "models", "team-a/tiny")
    assert issued.expires == clock.time + 60
    clock.time += 60
    assert tokens.read(issued.token) is None


def test_a_token_of_another_secret_is_none_of_ours(tokens: Tokens, clock: Clock) -> None:
    assert tokens.read(Tokens(b"other", clock).issue("key-1", "models", "team-a/tiny", 60).token) is None


@given(place=st.integers(min_value=0), change=st.integers(1, 255))
def test_no_byte_of_a_token_can_be_changed(place: int, change: int) -> None:
    tokens = Tokens(b"secret", lambda: 0.0)
    said, signed = tokens.issue("key-1", "models", "team-a/tiny", 60).token.removeprefix(PREFIX).split(".")
    data = bytearray(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)))
    data[place % len(data)] ^= change
    forged = base64.urlsafe_b64encode(bytes(data)).decode().rstrip("=")

    assert tokens.read(f"{PREFIX}{forged}.{signed}") is None


@given(st.text(max_size=60))
def test_what_is_no_token_is_none(text: str) -> None:
    tokens = Tokens(b"secret")

    assert tokens.read(text) is None
    assert tokens.read(PREFIX + text) is None


def test_a_token_has_the_rights_of_its_repository_alone(tokens: Tokens) -> None:
    uploader = tokens.read(tokens.issue("key-1", "models", "team-a/tiny", 60).token)

    assert uploader is not None
    for rights in (may_read, may_push):
        assert rights(uploader, "team-a/tiny")
        assert not any(rights(uploader, other) for other in ("team-a/other", "team-b/tiny", "tiny"))


# At the door


def test_a_token_ends_with_its_key(tokens: Tokens, caller: Callable[..., Caller]) -> None:
    async def authorize(_request: Request) -> Caller:
        return caller(admin=True)

    keys = {"key-1"}
    either = with_tokens(authorize, tokens, keys.__contains__)

    async def door(request: Request) -> Caller:
        return await either(request)

    token = tokens.issue("key-1", "models", "team-a/tiny", 60).token

    assert asyncio.run(door(request(token))) == tokens.read(token)
    assert asyncio.run(door(request("pl-a-key"))).admin
    keys.clear()
    with pytest.raises(HTTPException) as refused:
        asyncio.run(door(request(token)))
    assert refused.value.status_code == 401


# Through the API


def test_a_token_pushes_what_its_maker_may_push(
    open_remote: Open, make_model: MakeModel, registry: Registry, recorded: list[tuple[str, str]]
) -> None:
    token = open_remote("a").token(3600).token

    manifest = Registry(open_remote(token), "models").push(make_model(), REF)

    assert registry.resolve(REF).manifest == manifest
    assert recorded == [
        ("token", "s3://models/team-a/tiny"),
        ("push", "s3://models/repositories/team-a/tiny/tags/v1"),
    ]
    Registry(open_remote(token), "models").push(make_model(), REF)  # again: all of it is there


@ONE_STORE
def test_a_token_reads_no_files_and_removes_nothing(
    open_remote: Open, make_model: MakeModel, registry: Registry
) -> None:
    manifest = Registry(open_remote("a"), "models").push(make_model(), REF)
    uploader = open_remote(open_remote("a").token(3600).token)

    with pytest.raises(NotAllowedError, match="reads no files"):
        list(uploader.read(blob_key(manifest.files[0].digest), 0, 1))
    with pytest.raises(NotAllowedError, match="removes nothing"):
        uploader.delete(tag_key(REF.repository, REF.tag))
    with pytest.raises(NotAllowedError, match="removes nothing"):
        uploader.delete(blob_key(manifest.files[0].digest))
    with pytest.raises(NotAllowedError):
        uploader.collect(0)
    with pytest.raises(NotAllowedError, match="makes no token"):
        uploader.token(60)
    assert registry.verify(REF).problems == ()


@ONE_STORE
def test_a_token_is_of_no_use_elsewhere(open_remote: Open, make_model: MakeModel) -> None:
    token = open_remote("a").token(3600).token
    other = ModelRef.parse("s3://models/team-a/other:v1")

    with pytest.raises(NotAllowedError, match="team-a/other"):
        Registry(open_remote(token, "team-a/other"), "models").push(make_model(), other)
    with pytest.raises(NotAllowedError, match="for bucket 'models'"):
        open_remote(token, bucket="elsewhere").put(tag_key("team-a/tiny", "v1"), b"")
    with pytest.raises(ModelNotFoundError):
        Registry(open_remote(token, "team-a/other"), "models").resolve(other)
    assert list(open_remote(token).list("repositories/team-a/other/")) == []


@ONE_STORE
def test_only_who_may_push_makes_a_token(open_remote: Open) -> None:
    with pytest.raises(NotAllowedError, match="may not push to 'team-a/tiny'"):
        open_remote("b").token(60)
    with pytest.raises(NotAllowedError, match="may not push to 'shared'"):
        open_remote("a", "shared").token(60)
    with pytest.raises(ObjectNotFoundError, match="no bucket"):
        open_remote("a", bucket="elsewhere").token(60)
    with pytest.raises(StoreDeniedError):
        open_remote(PREFIX + "x.y").token(60)


@ONE_STORE
@pytest.mark.parametrize("seconds", [0, -1, LONGEST_SECONDS + 1])
def test_a_token_holds_a_day_at_most(open_remote: Open, seconds: int) -> None:
    with pytest.raises(BadManifestError, match="seconds"):
        open_remote("a").token(seconds)
