"""The header of a safetensors file, read as strictly as a stranger's file deserves.

A file is 8 bytes of little-endian length N, N bytes of JSON, then the data. The JSON names each tensor's dtype, shape
and `data_offsets`; here they must tile the data without gap or overlap, as the format's own reader demands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

HEADER_LIMIT = 100_000_000
"""Longest header, bytes: the safetensors library's own bound."""
TENSOR_LIMIT = 1_000_000
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


class BadHeaderError(ValueError):
    """A safetensors file that is truncated or lies; the message says how."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: `bytes` at `offset` from the beginning of the file `file`."""

    dtype: str  # safetensors' name: F32, BF16, ...
    shape: tuple[int, ...]
    bytes: int
    file: str = ""
    offset: int = 0


def header_length(first: bytes, file_size: int) -> int:
    """Length in bytes of the JSON header, from the file's first 8 bytes. Raises BadHeaderError."""
    if len(first) < 8 or file_size < 8:
        raise BadHeaderError(f"truncated: {file_size} bytes, a safetensors file has at least 8")
    length = int.from_bytes(first[:8], "little")
    if length > HEADER_LIMIT:
        raise BadHeaderError(f"header of {length} bytes is larger than {HEADER_LIMIT}")
    if 8 + length > file_size:
        raise BadHeaderError(f"truncated: header of {length} bytes does not fit the file's {file_size}")
    return length


def read_header(header: bytes, file_size: int, file: str = "") -> dict[str, TensorInfo]:
    """Tensors by name, from the JSON header (without the 8 bytes before it). Raises BadHeaderError."""
    entries = _load(header)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BadHeaderError("__metadata__ is not a map of strings")
    if len(entries) > TENSOR_LIMIT:
        raise BadHeaderError(f"{len(entries)} tensors are more than {TENSOR_LIMIT}")
    base = 8 + len(header)
    tensors = {name: _entry(name, entry, base, file) for name, entry in entries.items()}
    _check_tiling(tensors, base, file_size)
    return tensors


def _load(header: bytes) -> dict[str, object]:
    if not header.startswith(b"{"):
        raise BadHeaderError("header does not begin with '{'")
    try:
        loaded = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
    except BadHeaderError:
        raise
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise BadHeaderError(f"header is not JSON: {error}") from None
    if not isinstance(loaded, dict):  # trailing data was refused by the decoder
        raise BadHeaderError("header is not a JSON object")
    return loaded


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadHeaderError(f"duplicate key {twice[:100]!r}")
    return found


def _entry(name: str, entry: object, base: int, file: str) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BadHeaderError(f"tensor {name[:100]!r} needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], _naturals(entry["shape"]), _naturals(entry["data_offsets"])
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise BadHeaderError(f"tensor {name[:100]!r} has unknown dtype {str(dtype)[:40]!r}")
    if shape is None or len(shape) > 64:
        raise BadHeaderError(f"tensor {name[:100]!r} has a bad shape")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise BadHeaderError(f"tensor {name[:100]!r} has bad data_offsets")
    size = offsets[1] - offsets[0]
    if prod(shape) * _BITS[dtype] != size * 8:
        raise BadHeaderError(f"tensor {name[:100]!r}: {dtype} of shape {list(shape)[:8]} does not take {size} bytes")
    return TensorInfo(dtype, shape, size, file, base + offsets[0])


def _naturals(value: object) -> tuple[int, ...] | None:
    """The list as a tuple if it holds only integers in 0..2**63-1 (a bool is none), else None."""
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 2**63 for item in value):
        return None
    return tuple(value)


def _check_tiling(tensors: Mapping[str, TensorInfo], base: int, file_size: int) -> None:
    position = base
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].bytes)):
        if tensor.offset < position:
            raise BadHeaderError(f"tensor {name[:100]!r} overlaps the one before it")
        if tensor.offset > position:
            raise BadHeaderError(f"gap of {tensor.offset - position} bytes before tensor {name[:100]!r}")
        position += tensor.bytes
    if position > file_size:
        raise BadHeaderError(f"truncated: tensors end at byte {position}, the file has {file_size}")
    if position < file_size:
        raise BadHeaderError(f"{file_size - position} bytes after the last tensor belong to none")
