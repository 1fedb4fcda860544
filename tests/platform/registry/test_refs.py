from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.platform.registry.errors import BadReferenceError
from pilotlight.platform.registry.layout import Kind, Place, blob_key, manifest_key, parse_key, pending_key, tag_key
from pilotlight.platform.registry.refs import ModelRef

DIGEST = "sha256:" + "0a" * 32
NAMES = st.from_regex(r"[a-z0-9](?:[a-z0-9._-]{0,10}[a-z0-9])?", fullmatch=True).filter(
    lambda name: name not in ("blobs", "manifests", "tags", "uploads")
)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
DIGESTS = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
REPOSITORIES = NAMES | st.tuples(NAMES, NAMES).map("/".join)


@given(REPOSITORIES, TAGS, DIGESTS)
def test_a_reference_is_read_as_it_was_written(repository: str, tag: str, digest: str) -> None:
    for ref in (ModelRef("models", repository, tag=tag), ModelRef("models", repository, digest=digest)):
        assert ModelRef.parse(str(ref)) == ref


@given(REPOSITORIES, TAGS, DIGESTS)
def test_a_key_is_understood_as_it_was_made(repository: str, tag: str, digest: str) -> None:
    assert parse_key(blob_key(digest)) == Place(Kind.BLOB, digest=digest)
    assert parse_key(tag_key(repository, tag)) == Place(Kind.TAG, repository, tag=tag)
    assert parse_key(manifest_key(repository, digest)) == Place(Kind.MANIFEST, repository, digest)
    for kind in (Kind.PENDING_BLOB, Kind.PENDING_MANIFEST, Kind.PENDING_UPLOAD):
        assert parse_key(pending_key(kind, repository, digest)) == Place(kind, repository, digest)


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    for candidate in (text, f"s3://models/{text}", f"s3://{text}"):
        with suppress(BadReferenceError):
            assert ModelRef.parse(str(ModelRef.parse(candidate))) == ModelRef.parse(candidate)


def test_the_tag_defaults_to_latest() -> None:
    ref = ModelRef.parse("s3://models/team-a/chat")
    assert (ref.bucket, ref.repository, ref.tag, ref.namespace) == ("models", "team-a/chat", "latest", "team-a")
    assert ModelRef.parse("s3://models/chat").namespace is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models/chat",
        "hf://org/name",
        "s3://models",
        "s3://models/",
        "s3:///chat",
        "s3://Models/chat",
        "s3://models/a/b/c",
        "s3://models/../chat",
        "s3://models/chat:",
        "s3://models/chat:a/b",
        "s3://models/chat:-x",
        "s3://models/chat@md5:1",
        "s3://models/chat@",
        f"s3://models/chat:v1@{DIGEST}",
        f"s3://models/chat@{DIGEST.upper()}",
        "s3://models/tags",
        "s3://models/team/manifests:v1",
        "s3://models/chat?x=1",
        "s3://models/" + "a" * 600,
    ],
)
def test_what_is_no_reference_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(BadReferenceError, match=r"not valid|not both"):
        ModelRef.parse(text)


@pytest.mark.parametrize(
    "key", ["", "x", "blobs/sha256/zz", "repositories/a/b/c/tags/x", f"repositories/a/uploads/{DIGEST[7:]}"]
)
def test_other_keys_mean_nothing(key: str) -> None:
    assert parse_key(key) is None
