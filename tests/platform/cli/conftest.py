"""Running commands as a user does, in this process and in processes of their own."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pilotlight.platform.cli.main import main


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """`cli("get", "functions", stdin="...")`: one command, with no key and no platform but those that a test names."""
    for name in ("PILOTLIGHT_URL", "PILOTLIGHT_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PILOTLIGHT_STATE", str(tmp_path / "state"))

    def run(*arguments: str, stdin: str = "") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Result(code or 0, out, err)

    return run


@dataclass
class Scripted:
    """A server that answers what it is told: for what a real platform does only when it is broken."""

    answers: dict[str, tuple[int, dict[str, str], tuple[bytes, ...]]] = field(default_factory=dict)
    """By `METHOD path`: status, headers, and the body in pieces; a piece `HOLD` waits until the client has gone."""
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    url: str = ""
    left: threading.Event = field(default_factory=threading.Event)
    """Set when a client went away from a held answer."""


HOLD = b"<hold>"


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            name = f"{self.command} {self.path.partition('?')[0]}"
            script.seen.append((name, body))
            status, headers, pieces = script.answers.get(name, (404, {}, (b'{"error": {"message": "not scripted"}}',)))
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            for piece in pieces:
                if piece == HOLD:
                    self.connection.settimeout(60)
                    self.connection.recv(1)
                    script.left.set()
                else:
                    self.wfile.write(piece)
                    self.wfile.flush()

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the base class's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield script
    server.shutdown()
    thread.join()
    server.server_close()


CHAT = """\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {name: chat}
spec:
  model: s3://models/chat:v1
  scale: {keepAlive: 30s}
  engine: {kind: simulated, simulated: {meanTokens: 12, loadSeconds: 0.3}}
"""


@contextmanager
def running(state: Path, chosen: Mapping[str, str]) -> Iterator[None]:
    """A platform that `pilotlight up` runs with these variables."""
    # The tests' own variables must not choose another registry.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PILOTLIGHT_"))}
    environment = {**inherited, **chosen}
    command = [sys.executable, "-m", "pilotlight.platform.cli", "--state", str(state), "up", "--port", "0"]
    log = state.parent / "log"
    with (
        log.open("wb") as err,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline().startswith("pilotlight is up on http://127.0.0.1:"), log.read_text()
        yield
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
    assert not (state / "up.json").exists()


@pytest.fixture(scope="module")
def platform_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of a running platform, with one function `chat`."""
    state = tmp_path_factory.mktemp("up") / "state"
    with running(state, {}):
        yield state


@pytest.fixture
def here(cli: Cli, platform_state: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Commands on the machine of a running platform, as its owner; `chat` is deployed."""
    monkeypatch.setenv("PILOTLIGHT_STATE", str(platform_state))
    applied = cli("deploy", "-f", "-", stdin=CHAT)
    assert applied.code == 0, applied.err
    return cli


@pytest.fixture
def run_platform() -> Callable[[Path, Mapping[str, str]], AbstractContextManager[None]]:
    """`with run_platform(state, environment)`: one of the test's own."""
    return running
