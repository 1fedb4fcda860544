from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

MakeModel = Callable[..., Path]


def safetensors(tensors: Mapping[str, bytes]) -> bytes:
    """A sound file of one-dimensional U8 tensors."""
    header, position = {}, 0
    for name, data in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [position, position + len(data)]}
        position += len(data)
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + b"".join(tensors.values())


@pytest.fixture
def weights() -> Callable[[Mapping[str, bytes]], bytes]:
    return safetensors


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """A small sound model in a folder: `make_model(name, files={...})` adds or replaces files, None removes."""

    def make(name: str = "model", files: Mapping[str, bytes | None] | None = None) -> Path:
        folder = tmp_path / name
        content: dict[str, bytes | None] = {
            "config.json": b'{"architectures":["LlamaForCausalLM"],"hidden_size":4}',
            "model.safetensors": safetensors({"embed": b"abcd", "head": b"efgh"}),
            "tokenizer.json": b"{}",
            **(files or {}),
        }
        for path, data in content.items():
            if data is not None:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
        return folder

    return make


@dataclass(frozen=True)
class Key:
    """A caller."""

    namespaces: frozenset[str] | None = frozenset()
    admin: bool = False
    functions: frozenset[tuple[str, str]] | None = None


@pytest.fixture
def caller() -> Callable[..., Key]:
    """`caller("team-a")` has that namespace, `caller(admin=True)` is an admin, `caller(None, functions=...)` calls."""

    def key(*namespaces: str | None, admin: bool = False, functions: frozenset[tuple[str, str]] | None = None) -> Key:
        bound = None if None in namespaces else frozenset(name for name in namespaces if name)
        return Key(bound, admin, functions)

    return key


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, by relative path."""
    return lambda folder: {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture
def tagged() -> Callable[[Sequence[object]], list[str]]:
    return lambda entries: [str(getattr(entry, "ref", "")) for entry in entries]
