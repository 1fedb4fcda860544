"""What every store keeps to: a folder, SeaweedFS and MinIO alike."""

from __future__ import annotations

import pytest

from pilotlight.runtime.stores import (
    InvalidKeyError,
    ObjectCorruptError,
    ObjectNotFoundError,
    ObjectStore,
    ObjectTooLargeError,
    open_store,
    read_into,
    read_small,
)

PART = 5 << 20  # S3's smallest part that is not the last


def test_an_object_is_read_as_it_was_written(any_store: ObjectStore) -> None:
    any_store.put("a/b", b"first")
    any_store.put("a/b", b"second")
    assert b"".join(any_store.read("a/b")) == b"second"
    assert any_store.stat("a/b").size == 6


def test_an_empty_object_is_an_object(any_store: ObjectStore) -> None:
    any_store.put("empty", b"")
    assert list(any_store.read("empty")) == []
    assert any_store.stat("empty").size == 0


def test_a_range_is_read_alone(any_store: ObjectStore) -> None:
    any_store.put("digits", b"0123456789")
    assert b"".join(any_store.read("digits", 3, 4)) == b"3456"
    assert b"".join(any_store.read("digits", 8)) == b"89"
    buffer = bytearray(2)
    read_into(any_store, "digits", 4, memoryview(buffer))
    assert buffer == b"45"


@pytest.mark.parametrize("start", [pytest.param(5, id="across the end"), pytest.param(500, id="beyond the end")])
def test_a_range_that_is_not_there_is_told(any_store: ObjectStore, start: int) -> None:
    any_store.put("digits", b"0123456789")
    with pytest.raises(ObjectCorruptError):
        list(any_store.read("digits", start, 10))


def test_what_is_not_there_is_told_with_its_key(any_store: ObjectStore) -> None:
    for ask in (any_store.stat, lambda key: list(any_store.read(key)), lambda key: any_store.move(key, "other")):
        with pytest.raises(ObjectNotFoundError) as caught:
            ask("no/such")
        assert caught.value.key == "no/such"
    any_store.delete("no/such")


def test_keys_are_listed_by_prefix_in_order(any_store: ObjectStore) -> None:
    for key in ("b/2", "a/1", "b/1", "bc"):
        any_store.put(key, b"x")
    assert [item.key for item in any_store.list("b/")] == ["b/1", "b/2"]
    assert [item.key for item in any_store.list("b")] == ["b/1", "b/2", "bc"]
    assert len(list(any_store.list())) == 4
    assert list(any_store.list("z/")) == []


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/.b", "a\\b", "a b", "a/", "-a", "x" * 2000]
)
def test_a_key_that_is_no_safe_path_is_refused(any_store: ObjectStore, key: str) -> None:
    for ask in (any_store.stat, any_store.begin_upload, any_store.delete, lambda key: any_store.put(key, b"")):
        with pytest.raises(InvalidKeyError):
            ask(key)


def test_a_moved_object_is_at_its_new_place_alone(any_store: ObjectStore) -> None:
    any_store.put("staging/x", b"data")
    any_store.move("staging/x", "blobs/y")
    assert [item.key for item in any_store.list()] == ["blobs/y"]


def test_a_deleted_object_is_gone(any_store: ObjectStore) -> None:
    any_store.put("a/b", b"x")
    any_store.delete("a/b")
    assert list(any_store.list()) == []


def test_an_upload_is_seen_only_when_it_is_complete(any_store: ObjectStore) -> None:
    upload = any_store.begin_upload("big")
    parts = [any_store.put_part(upload, 1, b"1" * PART), any_store.put_part(upload, 2, b"2")]
    assert list(any_store.list()) == []
    any_store.complete_upload(upload, parts)
    assert any_store.stat("big").size == PART + 1
    assert b"".join(any_store.read("big", PART - 1)) == b"12"
    assert list(any_store.uploads()) == []


def test_an_upload_is_found_again_with_the_parts_that_arrived(any_store: ObjectStore) -> None:
    any_store.put_part(any_store.begin_upload("big"), 1, b"1" * PART)
    (again,) = any_store.uploads("big")
    (part,) = any_store.parts(again)
    known = part.confirmed(b"1" * PART)
    assert known is not None
    assert part.confirmed(b"3" * PART) is None
    any_store.complete_upload(again, [known, any_store.put_part(again, 2, b"2")])
    assert any_store.stat("big").size == PART + 1
    assert list(any_store.uploads("other")) == []


def test_of_a_part_sent_twice_the_one_that_completion_names_counts(any_store: ObjectStore) -> None:
    upload = any_store.begin_upload("small")
    any_store.put_part(upload, 1, b"wrong")
    part = any_store.put_part(upload, 1, b"right")
    assert any(known.confirmed(b"right") for known in any_store.parts(upload))
    any_store.complete_upload(upload, [part])
    assert b"".join(any_store.read("small")) == b"right"


def test_an_aborted_upload_is_gone(any_store: ObjectStore) -> None:
    upload = any_store.begin_upload("big")
    any_store.abort_upload(upload)
    any_store.abort_upload(upload)
    assert list(any_store.uploads()) == []
    with pytest.raises(ObjectNotFoundError):
        any_store.parts(upload)


def test_a_small_read_has_a_bound(any_store: ObjectStore) -> None:
    any_store.put("a", b"123")
    assert read_small(any_store, "a", 3) == b"123"
    with pytest.raises(ObjectTooLargeError):
        read_small(any_store, "a", 2)


def test_the_address_opens_the_same_store(any_store: ObjectStore) -> None:
    any_store.put("a", b"here")
    assert b"".join(open_store(any_store.address).read("a")) == b"here"
