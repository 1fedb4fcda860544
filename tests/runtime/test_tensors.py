"""The strict reader of safetensors headers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pilotlight.runtime.tensors import HEADER_LIMIT, BadHeaderError, TensorInfo, header_length, read_header

SIZES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I8": 1, "BOOL": 1, "F8_E4M3": 1}

Entries = dict[str, dict[str, Any]]


@st.composite
def valid_headers(draw: st.DrawFn) -> tuple[Entries, int]:
    """Entries that tile their data, in a random order of names, and the data's size in bytes."""
    names = draw(st.lists(st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__"), unique=True))
    entries: Entries = {}
    position = 0
    for name in names:
        dtype = draw(st.sampled_from(sorted(SIZES)))
        shape = draw(st.lists(st.integers(0, 5), max_size=4))
        size = prod(shape) * SIZES[dtype]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    return dict(draw(st.permutations(list(entries.items())))), position


def read(entries: Mapping[str, object], data_size: int) -> dict[str, TensorInfo]:
    header = json.dumps(entries).encode()
    size = 8 + len(header) + data_size
    assert header_length(len(header).to_bytes(8, "little"), size) == len(header)
    return read_header(header, size)


@given(valid_headers())
def test_a_sound_header_is_read_whole(header: tuple[Entries, int]) -> None:
    entries, size = header
    tensors = read(entries, size)
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == {
        name: entry["shape"] for name, entry in entries.items()
    }
    assert sum(tensor.bytes for tensor in tensors.values()) == size


@given(valid_headers(), st.integers(1, 1000))
def test_data_that_is_shorter_or_longer_than_told_is_refused(header: tuple[Entries, int], other: int) -> None:
    entries, size = header
    with pytest.raises(BadHeaderError, match="belong to none"):
        read(entries, size + other)
    if size:
        with pytest.raises(BadHeaderError, match="truncated"):
            read(entries, size - min(other, size))


@given(valid_headers().filter(lambda header: header[1] > 0), st.data())
def test_offsets_that_are_moved_are_refused(header: tuple[Entries, int], data: st.DataObject) -> None:
    entries, size = header
    name = data.draw(st.sampled_from([name for name, entry in entries.items() if _span(entry) > 0]))
    shift = data.draw(st.integers(-size - 5, size + 5).filter(bool))
    begin, end = entries[name]["data_offsets"]
    both = data.draw(st.booleans())
    moved = [begin + shift if both else begin, end + shift]
    with pytest.raises(BadHeaderError):
        read({**entries, name: {**entries[name], "data_offsets": moved}}, size)


def _span(entry: Mapping[str, Any]) -> int:
    begin, end = entry["data_offsets"]
    return int(end - begin)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadHeaderError):
        length = header_length(data, len(data))
        tensors = read_header(data[8 : 8 + length], len(data))
        assert 8 + length + sum(tensor.bytes for tensor in tensors.values()) == len(data)


SOUND = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param({"a": {**SOUND, "shape": [3]}}, "does not take 8 bytes", id="shape lies"),
        pytest.param({"a": {**SOUND, "dtype": "F16"}}, "does not take 8 bytes", id="dtype lies"),
        pytest.param({"a": {**SOUND, "dtype": "O"}}, "unknown dtype", id="dtype unknown"),
        pytest.param({"a": {**SOUND, "shape": [-2]}}, "bad shape", id="negative shape"),
        pytest.param({"a": {**SOUND, "shape": [True, 2]}}, "bad shape", id="bool in shape"),
        pytest.param({"a": {**SOUND, "data_offsets": [8, 0]}}, "bad data_offsets", id="offsets backwards"),
        pytest.param({"a": {**SOUND, "data_offsets": [0.0, 8]}}, "bad data_offsets", id="offsets not whole"),
        pytest.param({"a": {**SOUND, "data_offsets": [4, 12]}}, "gap of 4", id="gap at the beginning"),
        pytest.param({"a": SOUND, "b": SOUND}, "overlaps", id="overlap"),
        pytest.param({"a": {**SOUND, "more": 1}}, "needs exactly", id="unknown field"),
        pytest.param({"a": {"dtype": "F32"}}, "needs exactly", id="field missing"),
        pytest.param({"a": 3}, "needs exactly", id="no object"),
        pytest.param({"__metadata__": {"format": 1}}, "map of strings", id="metadata not strings"),
    ],
)
def test_a_lying_entry_is_refused(entries: dict[str, object], message: str) -> None:
    with pytest.raises(BadHeaderError, match=message):
        read(entries, 8)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        pytest.param(b'{"a":1,"a":2}', "duplicate key 'a'", id="duplicate tensor"),
        pytest.param(
            b'{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', "duplicate", id="duplicate field"
        ),
        pytest.param(b'{"a":', "not JSON", id="cut off"),
        pytest.param(b"{} x", "not JSON", id="more after it"),
        pytest.param(b"[1]", "begin with", id="a list"),
        pytest.param(b'{"\xff":1}', "not JSON", id="not UTF-8"),
        pytest.param(b'{"a":' * 100_000, "not JSON", id="deeply nested"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", "not JSON", id="endless number"),
        pytest.param(b"", "begin with", id="empty"),
    ],
)
def test_a_header_that_is_no_object_is_refused(header: bytes, message: str) -> None:
    with pytest.raises(BadHeaderError, match=message):
        read_header(header, 8 + len(header))


def test_a_header_too_long_or_longer_than_the_file_is_refused() -> None:
    with pytest.raises(BadHeaderError, match="larger than"):
        header_length((HEADER_LIMIT + 1).to_bytes(8, "little"), 10**12)
    with pytest.raises(BadHeaderError, match="does not fit"):
        header_length((100).to_bytes(8, "little"), 107)
    with pytest.raises(BadHeaderError, match="truncated"):
        header_length(b"\0\0\0", 3)


def test_a_file_of_the_safetensors_library_is_read(tmp_path: Path) -> None:
    save_file({"a": np.zeros((2, 3), np.float32), "b": np.ones(5, np.int8)}, tmp_path / "x.safetensors", {"by": "us"})
    data = (tmp_path / "x.safetensors").read_bytes()
    length = header_length(data[:8], len(data))
    tensors = read_header(data[8 : 8 + length], len(data), "x.safetensors")
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("I8", (5,)),
    }
    b = tensors["b"]
    assert data[b.offset : b.offset + b.bytes] == b"\1" * 5
