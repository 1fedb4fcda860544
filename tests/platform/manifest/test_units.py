"""Durations, sizes and model references: what is read, what is refused, and that writing and reading agree."""

import string
from contextlib import suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pilotlight.platform.manifest import (
    ByteSize,
    Duration,
    HubReference,
    RegistryReference,
    UnitError,
    parse_reference,
)
from pilotlight.platform.manifest.units import LARGEST_SIZE, LONGEST_DURATION_MS

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        pytest.param("500ms", 500, id="milliseconds"),
        pytest.param("2s", 2000, id="seconds"),
        pytest.param("5m", 300_000, id="minutes, not milliseconds"),
        pytest.param("1h", 3_600_000, id="hours"),
        pytest.param("1h30m", 5_400_000, id="two units"),
        pytest.param("1m500ms", 60_500, id="minutes and milliseconds"),
        pytest.param("0.5s", 500, id="a fraction"),
        pytest.param("0s", 0, id="zero"),
        pytest.param("90m", 5_400_000, id="more than the next unit"),
    ],
)
def test_durations_are_read(text: str, milliseconds: int) -> None:
    assert Duration.parse(text).milliseconds == milliseconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "not a duration", id="empty"),
        pytest.param("5", "not a duration", id="no unit"),
        pytest.param(300, "has no unit", id="a bare number"),
        pytest.param("5 m", "not a duration", id="a space"),
        pytest.param("-1s", "not a duration", id="negative"),
        pytest.param("1s1h", "not a duration", id="units out of order"),
        pytest.param("1.5ms", "finer than a millisecond", id="too fine"),
        pytest.param("9000h", "too long", id="more than a year"),
        pytest.param("1" * 100 + "s", "not a duration", id="a long text"),
        pytest.param(True, "not a duration", id="a boolean"),
        pytest.param(None, "not a duration", id="nothing"),
        pytest.param("٣s", "not a duration", id="digits of another script"),
    ],
)
def test_what_is_no_duration_is_refused(text: object, said: str) -> None:
    with pytest.raises(UnitError, match=said):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param("4Gi", 4 * 2**30, id="binary"),
        pytest.param("500M", 500_000_000, id="decimal"),
        pytest.param("1k", 1000, id="small k is decimal"),
        pytest.param("1.5Gi", 3 * 2**29, id="a fraction that is whole bytes"),
        pytest.param("123", 123, id="plain digits"),
        pytest.param(123, 123, id="a whole number"),
        pytest.param(str(2**60), 2**60, id="the largest size"),
    ],
)
def test_sizes_are_read(text: object, size: int) -> None:
    assert ByteSize.parse(text).bytes == size


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        pytest.param("4GB", "4G", id="GB"),
        pytest.param("4GiB", "4Gi", id="GiB"),
        pytest.param("4gi", "4Gi", id="small letters"),
        pytest.param("4 Gi", "4Gi", id="a space"),
        pytest.param("4K", "4k", id="capital K"),
        pytest.param("much", "", id="no number"),
        pytest.param(-1, "", id="negative"),
        pytest.param("0.3", "", id="part of a byte"),
        pytest.param("99999999Ti", "", id="too large"),
        pytest.param(1.5, "", id="a float"),
        pytest.param(True, "", id="a boolean"),
        pytest.param(10**5000, "", id="a huge number"),
    ],
)
def test_what_is_no_size_is_refused_with_what_was_meant(text: object, nearest: str) -> None:
    with pytest.raises(UnitError) as refusal:
        ByteSize.parse(text)

    assert refusal.value.nearest == nearest


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        pytest.param("s3://models/smol", RegistryReference("models", "smol"), id="latest by default"),
        pytest.param("s3://models/smol:v1", RegistryReference("models", "smol", tag="v1"), id="a tag"),
        pytest.param(
            "s3://models/team-a/smol:v1", RegistryReference("models", "smol", "team-a", "v1"), id="a namespace"
        ),
        pytest.param(
            f"s3://models/smol@{DIGEST}", RegistryReference("models", "smol", tag=None, digest=DIGEST), id="a digest"
        ),
        pytest.param("s3://my.bucket/llama-3.1_8b", RegistryReference("my.bucket", "llama-3.1_8b"), id="dots"),
        pytest.param("hf://Qwen/Qwen3-0.6B", HubReference("Qwen", "Qwen3-0.6B"), id="the hub"),
        pytest.param("hf://a/b@refs/pr/1", HubReference("a", "b", "refs/pr/1"), id="a hub revision"),
    ],
)
def test_model_references_are_read(text: str, reference: object) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("smollm2", "names no store", id="no store"),
        pytest.param("http://models/x", "is not a store", id="another scheme"),
        pytest.param("s3://models", "malformed", id="no name"),
        pytest.param("s3://models/../x", "malformed", id="a path upwards"),
        pytest.param("s3://models/a/b/c", "malformed", id="too many parts"),
        pytest.param("s3://models/x:", "malformed", id="an empty tag"),
        pytest.param("s3://models/x@sha256:12", "malformed digest", id="a short digest"),
        pytest.param("s3://models/x@sha256:" + "A" * 64, "malformed digest", id="a digest in capitals"),
        pytest.param("s3://models/X", "capital letters", id="capitals"),
        pytest.param("hf://name", "malformed", id="a hub name without its owner"),
        pytest.param("hf://a/../b", "malformed", id="a hub path upwards"),
        pytest.param("hf://a/b@x..y", "malformed", id="a revision upwards"),
        pytest.param("s3://models/x\n", "malformed", id="a line break"),
        pytest.param("s3://" + "x" * 600, "longer than", id="too long"),
        pytest.param(None, "not a model reference", id="nothing"),
        pytest.param(["s3://models/x"], "not a model reference", id="a list"),
    ],
)
def test_what_is_no_model_reference_is_refused(text: object, said: str) -> None:
    with pytest.raises(UnitError, match=said):
        parse_reference(text)


@given(st.integers(0, LONGEST_DURATION_MS).map(Duration))
def test_a_duration_reads_back_as_it_was_written(duration: Duration) -> None:
    assert Duration.parse(str(duration)) == duration


@given(st.integers(0, LARGEST_SIZE).map(ByteSize) | st.integers(0, 999).map(lambda n: ByteSize(n * 2**30)))
def test_a_size_reads_back_as_it_was_written(size: ByteSize) -> None:
    assert ByteSize.parse(str(size)) == size


names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", fullmatch=True)
buckets = st.from_regex(r"[a-z0-9][a-z0-9-]{1,40}[a-z0-9]", fullmatch=True)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}", fullmatch=True)
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)


@given(buckets, names, st.none() | names, tags | digests)
def test_a_registry_reference_reads_back_as_it_was_written(
    bucket: str, name: str, namespace: str | None, version: str
) -> None:
    tag, digest = (None, version) if version.startswith("sha256:") else (version, None)
    reference = RegistryReference(bucket, name, namespace, tag, digest)

    assert parse_reference(str(reference)) == reference


@given(names, names, st.none() | tags)
def test_a_hub_reference_reads_back_as_it_was_written(org: str, name: str, revision: str | None) -> None:
    assume(not revision or (".." not in revision and revision[0] != "_"))
    reference = HubReference(org, name, revision)

    assert parse_reference(str(reference)) == reference


@given(st.text(string.printable, max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (Duration.parse, ByteSize.parse, parse_reference):
        with suppress(UnitError):
            value = read(text)
            assert read(str(value)) == value
