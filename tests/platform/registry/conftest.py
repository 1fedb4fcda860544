from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount

from pilotlight.platform.registry.http import BODY_SECONDS, registry_routes
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.registry.remote import RemoteStore
from pilotlight.platform.registry.rights import Caller
from pilotlight.platform.registry.tokens import Tokens, with_tokens
from pilotlight.runtime.stores import ObjectStore

Open = Callable[..., RemoteStore]
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
    key: str = "key-of-a-test"


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


@pytest.fixture
def registry(any_store: ObjectStore) -> Registry:
    return Registry(any_store, "models")


@pytest.fixture
def recorded() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def url(
    registry: Registry,
    caller: Callable[..., Caller],
    recorded: list[tuple[str, str]],
    request: pytest.FixtureRequest,
) -> Iterator[str]:
    """A platform that knows three keys: a, b (of namespaces team-a, team-b) and root; the parameter is its patience."""
    callers = {"a": caller("team-a"), "b": caller("team-b"), "root": caller(admin=True)}

    async def authorize(request: Request) -> Caller:
        secret = request.headers.get("authorization", "").removeprefix("Bearer ")
        if secret not in callers:
            raise HTTPException(401)
        return callers[secret]

    tokens = Tokens(b"secret of a test")
    routes = registry_routes(
        lambda bucket: registry if bucket == "models" else None,
        with_tokens(authorize, tokens, lambda key: key == Key.key),
        record=lambda _caller, action, subject: recorded.append((action, subject)),
        body_seconds=getattr(request, "param", BODY_SECONDS),
        tokens=tokens,
    )
    app = Starlette(routes=[Mount("/api/v1alpha1/registry", routes=routes)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", lifespan="off"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def open_remote(url: str) -> Open:
    return lambda key, repository="team-a/tiny", bucket="models": RemoteStore(url, key, bucket, repository)
