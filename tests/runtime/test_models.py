"""The model manifest: canonical, and strict with what comes from others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.models import (
    MANIFEST_LIMIT,
    BadManifestError,
    ModelFile,
    ModelManifest,
    blob_key,
    canonical,
    check_path,
    sha256,
)
from pilotlight.runtime.tensors import TensorInfo

A, B = sha256(b"a"), sha256(b"b")


def manifest(**changes: Any) -> ModelManifest:
    fields: dict[str, Any] = {
        "kind": "model",
        "files": (ModelFile("config.json", 10, A), ModelFile("model.safetensors", 100, B)),
        "tensors": {"w": TensorInfo("F32", (2, 2), 16, "model.safetensors", 50)},
        "config": {"hidden_size": 4, "name": "é"},
    }
    return ModelManifest(**{**fields, **changes})


def test_a_manifest_is_read_as_it_was_written() -> None:
    before = manifest()
    after = ModelManifest.from_json(before.to_json())
    assert after == before
    assert after.digest == before.digest == sha256(before.to_json())
    assert after.size == 110


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON))
def test_any_config_keeps_its_digest(config: dict[str, object]) -> None:
    before = manifest(config=config)
    assert ModelManifest.from_json(before.to_json()).digest == before.digest


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_turned_byte_is_refused_or_gives_another_digest(place: int, value: int) -> None:
    data = bytearray(manifest().to_json())
    data[place % len(data)] = value
    try:
        read = ModelManifest.from_json(bytes(data))
    except BadManifestError:
        return
    assert read.to_json() == bytes(data)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda raw: raw.update(extra=1), "extra", id="unknown field"),
        pytest.param(lambda raw: raw.pop("config"), "config", id="missing field"),
        pytest.param(lambda raw: raw.update(mediaType="text/plain"), "media type", id="media type"),
        pytest.param(lambda raw: raw.update(kind="dataset"), "model or adapter", id="kind"),
        pytest.param(lambda raw: raw.update(remoteCode=1), "bool", id="flag not bool"),
        pytest.param(lambda raw: raw.update(files=[], tensors={}), "1 to", id="no files"),
        pytest.param(lambda raw: raw["files"][0].update(path="../x"), "not valid", id="path out"),
        pytest.param(lambda raw: raw["files"][0].update(size=-1), "impossible size", id="negative size"),
        pytest.param(lambda raw: raw["files"][0].update(size=1.0), "int", id="size not whole"),
        pytest.param(lambda raw: raw["files"][0].update(size=True), "int", id="size a bool"),
        pytest.param(lambda raw: raw["files"][0].update(digest="sha256:x"), "digest", id="digest"),
        pytest.param(lambda raw: raw["files"].reverse(), "not sorted", id="not sorted"),
        pytest.param(lambda raw: raw["files"].append(raw["files"][-1]), "not sorted", id="file twice"),
        pytest.param(lambda raw: raw["tensors"]["w"].__setitem__(4, 90), "outside", id="tensor outside its file"),
        pytest.param(lambda raw: raw["tensors"]["w"].__setitem__(3, "no"), "outside", id="tensor without file"),
        pytest.param(lambda raw: raw["tensors"]["w"].__setitem__(1, [-2]), "outside", id="tensor of negative shape"),
        pytest.param(lambda raw: raw["tensors"].update(w=[1]), "needs", id="tensor too short"),
    ],
)
def test_a_manifest_that_lies_is_refused(change: Change, message: str) -> None:
    raw = json.loads(manifest().to_json())
    change(raw)
    with pytest.raises(BadManifestError, match=message):
        ModelManifest.from_json(canonical(raw))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b"[" * 200_000, id="deeply nested"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="endless number"),
        pytest.param(b" " * (MANIFEST_LIMIT + 1), id="too large"),
        pytest.param(json.dumps(json.loads(manifest().to_json())).encode(), id="not canonical"),
        pytest.param(manifest().to_json().replace(b'"kind"', b'"kind":"model","kind"'), id="duplicate key"),
        pytest.param(manifest(config={"x": 0}).to_json().replace(b'"x":0', b'"x":NaN'), id="not a number"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BadManifestError):
        ModelManifest.from_json(data)


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "a/../b",
        "/a",
        "a/",
        "a//b",
        ".hidden",
        "a/.b",
        "a\\b",
        "C:a",
        "a\nb",
        "a ",
        "a\0",
        "x" * 300,
        "a/" * 9 + "a",
    ],
)
def test_a_path_that_could_leave_its_folder_is_refused(path: str) -> None:
    with pytest.raises(BadManifestError):
        check_path(path)


@pytest.mark.parametrize(
    "paths", [pytest.param(("A", "a"), id="case"), pytest.param(("a", "a/b"), id="file is a folder too")]
)
def test_two_files_cannot_take_one_place(paths: tuple[str, ...]) -> None:
    with pytest.raises(BadManifestError, match="same place"):
        manifest(files=tuple(ModelFile(path, 1, A) for path in paths), tensors={})


def test_only_a_digest_makes_a_key() -> None:
    assert blob_key(A) == f"blobs/sha256/{A[7:]}"
    with pytest.raises(BadManifestError):
        blob_key("sha256:../../x")
