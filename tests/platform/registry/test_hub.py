"""Imports from a server of the hub's shape, and from what the hub's client leaves on disk."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from pilotlight.platform.registry.errors import BadReferenceError, ModelRefusedError
from pilotlight.platform.registry.hub import HubRef, inspect_hub_folder
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.runtime.stores.folder import FolderStore

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REF = ModelRef.parse("s3://models/tiny:v1")
MakeModel = Callable[..., Path]


@dataclass
class Hub:
    """The routes that the hub's client asks for a snapshot; `token` guards them where it is set."""

    files: dict[str, bytes]
    url: str = ""
    token: str = ""
    status: int = 200
    asked: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(path)
        if self.hub.status != 200:
            self._answer(self.hub.status, b"{}")
        elif self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._answer(401, b"{}")
        elif path == "/api/models/org/tiny/tree/" + COMMIT:
            self._answer(200, json.dumps(self._tree()).encode())
        elif path in ("/api/models/org/tiny/revision/main", "/api/models/org/tiny/revision/v1"):
            self._answer(200, json.dumps(self._info()).encode())
        elif path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
            self._file(path.removeprefix(f"/org/tiny/resolve/{COMMIT}/"))
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _info(self) -> dict[str, object]:
        siblings = [{"rfilename": name} for name in self.hub.files]
        return {"id": "org/tiny", "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}

    def _tree(self) -> list[dict[str, object]]:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}  # noqa: S324 - git's
            for name, data in self.hub.files.items()
        ]

    def _file(self, name: str) -> None:
        if name not in self.hub.files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data = self.hub.files[name]
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        self._answer(200, data, {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"})

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = _serve  # noqa: N815 - the base class's names


@pytest.fixture
def hub(make_model: MakeModel, snapshot: Callable[[Path], dict[str, bytes]]) -> Iterator[Hub]:
    extra: dict[str, bytes | None] = {"pytorch_model.bin": b"pickle", "README.md": b"# Tiny", "onnx/model.onnx": b"o"}
    made = Hub(snapshot(make_model("origin", extra)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": made}))
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


PUSH = """
import sys
from pathlib import Path
from pilotlight.platform.registry.errors import RegistryError
from pilotlight.platform.registry.hub import Download, HubRef
from pilotlight.platform.registry.refs import ModelRef
from pilotlight.platform.registry.registry import Registry
from pilotlight.runtime.stores import open_store
registry = Registry(open_store(sys.argv[1]), "models")
try:
    with Download(HubRef.parse(sys.argv[2]), trust_remote_code="trust" in sys.argv) as found:
        registry.push_inspected(found, ModelRef.parse("s3://models/tiny:v1"))
except RegistryError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def run_import(hub: Hub, tmp_path: Path) -> Callable[..., str]:
    """Import in a process of its own, as the hub's client reads its settings once; what it said on stderr."""

    def run(ref: str = "hf://org/tiny", *more: str, **environment: str) -> str:
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        command = [sys.executable, "-c", PUSH, (tmp_path / "store").as_uri(), ref, *more]
        base = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
        (tmp_path / "tmp").mkdir(exist_ok=True)
        done = subprocess.run(
            command, env={**base, **settings, **environment}, capture_output=True, text=True, timeout=120, check=False
        )
        assert list((tmp_path / "tmp").glob("pilotlight-import-*")) == []
        return done.stderr if done.returncode else ""

    return run


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(FolderStore(tmp_path / "store"), "models")


def test_a_model_is_imported_without_what_is_not_served(
    run_import: Callable[..., str], registry: Registry, hub: Hub
) -> None:
    assert run_import() == ""
    files = {file.path for file in registry.resolve(REF).manifest.files}
    assert files == {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert not [path for path in hub.asked if path.endswith((".bin", ".onnx"))]


def test_a_revision_is_asked_for(run_import: Callable[..., str], hub: Hub) -> None:
    assert run_import("hf://org/tiny@v1") == ""
    assert "/api/models/org/tiny/revision/v1" in hub.asked
    assert "ImportFailedError" in run_import("hf://org/tiny@other")


def test_a_private_model_needs_the_token_and_the_token_is_not_told(run_import: Callable[..., str], hub: Hub) -> None:
    hub.token = "hf_secret"
    said = run_import(HF_TOKEN="hf_wrong")
    assert "set HF_TOKEN" in said
    assert "hf_wrong" not in said
    assert run_import(HF_TOKEN="hf_secret") == ""


def test_a_model_that_is_not_there_is_told(run_import: Callable[..., str]) -> None:
    assert "does not know this model or revision" in run_import("hf://org/none")


def test_a_hub_that_cannot_be_reached_is_told(run_import: Callable[..., str]) -> None:
    said = run_import(HF_ENDPOINT="http://127.0.0.1:1")
    assert "ImportFailedError" in said
    assert "Got:" not in said
    assert "HF_ENDPOINT" in said


def test_a_proxy_is_used(run_import: Callable[..., str], chaos_proxy: Callable[[str], object], hub: Hub) -> None:
    proxy = chaos_proxy(hub.url)
    url = str(getattr(proxy, "url", ""))
    assert run_import(HF_ENDPOINT="http://hub.invalid", HTTP_PROXY=url, http_proxy=url) == ""
    assert any("hub.invalid" in path for _, path in getattr(proxy, "requests", ()))


def test_pickles_alone_are_refused(run_import: Callable[..., str], hub: Hub) -> None:
    del hub.files["model.safetensors"]
    assert "no weights" in run_import()


def test_remote_code_comes_only_when_it_is_trusted(
    run_import: Callable[..., str], hub: Hub, registry: Registry
) -> None:
    hub.files["config.json"] = b'{"auto_map":{"AutoModel":"modeling.M"}}'
    hub.files["modeling.py"] = b"class M: pass"
    assert "auto_map" in run_import()
    assert registry.list() == []
    assert run_import("hf://org/tiny", "trust") == ""
    assert registry.resolve(REF).manifest.remote_code


@pytest.mark.parametrize(
    "text", ["", "org/name", "hf://", "hf://a/b/c", "hf://a/../b", "hf://org/x@", "hf://org/x@../y", "hf://org/.x"]
)
def test_what_is_no_hub_reference_is_refused(text: str) -> None:
    with pytest.raises(BadReferenceError, match="hf://ORG/NAME@REVISION"):
        HubRef.parse(text)


def test_a_hub_reference_is_read() -> None:
    assert HubRef.parse("hf://org/name") == HubRef("org/name", "main")
    assert str(HubRef.parse("hf://org/name@refs/pr/1")) == "hf://org/name@refs/pr/1"


def test_a_snapshot_of_the_clients_cache_is_followed_into_its_blobs(make_model: MakeModel, tmp_path: Path) -> None:
    origin = make_model("origin", {"pytorch_model.bin": b"x"})
    blobs, snapshot = tmp_path / "models--org--tiny/blobs", tmp_path / "models--org--tiny/snapshots" / COMMIT
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for index, file in enumerate(sorted(origin.iterdir())):
        file.rename(blobs / str(index))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(index))
    found = inspect_hub_folder(snapshot)
    assert [file.path for file in found.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    (tmp_path / "secret").write_text("secret")
    (snapshot / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelRefusedError, match=r"notes\.txt: a symbolic link that leads out"):
        inspect_hub_folder(snapshot)


def test_nothing_slow_is_imported_until_it_is_needed() -> None:
    code = (
        "import sys; import pilotlight.platform.registry.hub, pilotlight.platform.registry.remote,"
        " pilotlight.platform.registry.registry; "
        "print([name for name in ('huggingface_hub', 'boto3', 'starlette', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
