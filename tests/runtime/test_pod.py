"""A replica as the process of a container: its ports, its end, and what it leaves to be read when it fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilotlight.runtime import guard
from pilotlight.runtime.codec import parse_status
from pilotlight.runtime.enginehttp import free_port
from pilotlight.runtime.podspec import (
    KEY_VARIABLE,
    PORT_VARIABLE,
    SPEC_VARIABLE,
    STATUS_PORT_VARIABLE,
    TERMINATION_LOG_VARIABLE,
    pod_environment,
)
from pilotlight.runtime.spec import EngineSpec, Phase, ReplicaSpec, ReplicaState, ReplicaStatus
from pilotlight.runtime.statusport import CONNECTIONS

if TYPE_CHECKING:
    from tests.conftest import S3Server
    from tests.runtime.conftest import Registry

Until = Callable[[Callable[[], bool], str], None]
_KEY = "engine-secret"
_BEARER = {"authorization": f"Bearer {_KEY}"}
_SECONDS = 60.0


class Pod:
    """The process with its environment, in a folder of its own."""

    def __init__(self, folder: Path, until: Until) -> None:
        self.folder, self._until = folder, until
        self.engine_port, self.status_port = free_port(), free_port()
        self.termination = folder / "termination-log"
        self.termination.touch()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, spec: ReplicaSpec, **changes: str) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PILOTLIGHT_"))},
            **pod_environment(spec),
            "TMPDIR": str(self.folder),
            KEY_VARIABLE: _KEY,
            PORT_VARIABLE: str(self.engine_port),
            STATUS_PORT_VARIABLE: str(self.status_port),
            TERMINATION_LOG_VARIABLE: str(self.termination),
            **changes,
        }
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            command = [sys.executable, "-m", "pilotlight.runtime.pod"]
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=err, cwd="/")

    def status(self) -> ReplicaStatus | None:
        """None: it does not answer yet."""
        try:
            code, body = self.get(self.status_port, "/status", _BEARER)
        except OSError:
            assert self.process is not None
            assert self.process.poll() is None, self.said("stderr")
            return None
        assert code == 200
        return parse_status(body)

    def reach(self, state: ReplicaState) -> ReplicaStatus:
        return self.until(lambda status: status.state is state, f"the state {state}")

    def until(self, condition: Callable[[ReplicaStatus], bool], what: str) -> ReplicaStatus:
        found: list[ReplicaStatus] = []

        def holds() -> bool:
            status = self.status()
            found[:] = [status] if status else []
            return status is not None and condition(status)

        self._until(holds, what)
        return found[0]

    def get(self, port: int, target: str, headers: Mapping[str, str], method: str = "GET") -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{target}", headers=dict(headers), method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def stream(self, tokens: int) -> bytes:
        body = {"model": "chat", "prompt": "hello", "max_tokens": tokens, "ignore_eos": True, "stream": True}
        headers = {"content-type": "application/json", **_BEARER}
        address = f"http://127.0.0.1:{self.engine_port}/v1/completions"
        with urllib.request.urlopen(urllib.request.Request(address, json.dumps(body).encode(), headers)) as answer:
            data: bytes = answer.read()
            return data

    def signal(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        assert self.process is not None
        return self.process.wait(_SECONDS)

    def failed(self) -> str:
        """Wait until the replica has failed; what is in the termination log then."""
        self.reach(ReplicaState.FAILED)
        self.signal()  # it need not linger
        assert self.ended() == 1
        return self.termination.read_text()

    def said(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture
def pod(tmp_path: Path, until: Until) -> Iterator[Pod]:
    one = Pod(tmp_path, until)
    yield one
    if one.process is not None and one.process.poll() is None:
        one.process.kill()
        one.process.wait()


def _spec(**options: object) -> ReplicaSpec:
    return ReplicaSpec(
        replica="",
        function="team-a/chat",
        revision="chat-00001",
        task="generate",
        store="file:///nowhere",
        model="",
        served_names=("chat",),
        engine=EngineSpec("simulated", {"simulated_time_scale": 1.0, **options}),
    )


def _of_model(store: str, model: str, folder: Path) -> ReplicaSpec:
    """With an engine that has its model fetched first; here none is ever started."""
    return replace(_spec(), store=store, model=model, engine=EngineSpec("vllm"), cache_folder=str(folder / "cache"))


def test_it_tells_its_phases_from_the_first_moment_and_answers_on_its_port(pod: Pod) -> None:
    pod.start(_spec(simulated_load_seconds=1.0))
    starting = pod.until(lambda status: status.phases[-1].name is Phase.LOAD, "the phase load")
    assert (starting.state, starting.replica) == (ReplicaState.STARTING, socket.gethostname())
    assert [report.name for report in pod.reach(ReplicaState.READY).phases] == list(Phase)
    assert b"data: [DONE]" in pod.stream(4)
    assert "phase=ready" in pod.said("stdout")
    events = [json.loads(line)["event"] for line in pod.said("stderr").splitlines()]
    assert events == ["engine started", "ready"]


def test_the_kubelet_needs_no_key_and_nobody_else_gets_in_without(pod: Pod) -> None:
    pod.start(_spec())
    pod.reach(ReplicaState.READY)
    assert pod.get(pod.engine_port, "/health", {})[0] == 200
    assert pod.get(pod.engine_port, "/v1/models", {})[0] == 401
    for headers in ({}, {"authorization": "Bearer engine-secre"}, {"authorization": _KEY}, {"authorization": ""}):
        assert pod.get(pod.status_port, "/status", headers)[0] == 401


@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/drain"), ("POST", "/stop"), ("POST", "/status"), ("GET", "/"), ("GET", "/log")]
)
def test_the_status_port_serves_nothing_but_the_status(pod: Pod, method: str, target: str) -> None:
    pod.start(_spec())
    pod.until(lambda _: True, "an answer")
    assert pod.get(pod.status_port, target, _BEARER, method)[0] == 404


def test_those_who_only_connect_do_not_keep_others_from_the_status_for_good(pod: Pod, until: Until) -> None:
    pod.start(_spec())
    pod.reach(ReplicaState.READY)
    idle = [socket.create_connection(("127.0.0.1", pod.status_port)) for _ in range(CONNECTIONS)]
    one_more = socket.create_connection(("127.0.0.1", pod.status_port), timeout=10)
    assert one_more.recv(1) == b""
    for connection in (*idle, one_more):
        connection.close()
    until(lambda: pod.status() is not None, "an answer after they left")


def test_the_key_is_in_no_argument_no_log_and_no_file(pod: Pod) -> None:
    pod.start(_spec())
    pod.reach(ReplicaState.READY)
    assert pod.process is not None
    for pid in guard.descendants(pod.process.pid) | {pod.process.pid}:
        assert _KEY not in Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    written = [path for path in pod.folder.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"stdout", "stderr", "status.json", "engine.log"}
    assert all(_KEY.encode() not in path.read_bytes() for path in written)


def test_the_engine_gets_neither_the_stores_credentials_nor_our_settings(pod: Pod) -> None:
    pod.start(_spec(), AWS_SECRET_ACCESS_KEY="store-secret")
    status = pod.reach(ReplicaState.READY)
    environment = Path(f"/proc/{status.engine_pid}/environ").read_bytes()
    assert b"PATH=" in environment
    for name in (b"AWS_", SPEC_VARIABLE.encode(), KEY_VARIABLE.encode()):
        assert name not in environment


def test_sigterm_lets_the_running_stream_finish(pod: Pod) -> None:
    pod.start(_spec(simulated_decode_base_seconds=0.05))
    pod.reach(ReplicaState.READY)
    got: list[bytes] = []
    stream = threading.Thread(target=lambda: got.append(pod.stream(40)))
    stream.start()
    pod.until(lambda status: bool(status.running), "the stream's run")
    pod.signal()
    assert pod.reach(ReplicaState.DRAINING).message == "drained by a signal"
    stream.join(_SECONDS)
    assert got[0].count(b"data: {") >= 40
    assert got[0].rstrip().endswith(b"data: [DONE]")
    assert pod.ended() == 0
    assert pod.termination.read_bytes() == b""


def test_a_stream_without_end_ends_with_the_time_to_drain(pod: Pod) -> None:
    pod.start(replace(_spec(simulated_decode_base_seconds=3600.0), drain_seconds=1.0))
    pod.reach(ReplicaState.READY)
    with socket.create_connection(("127.0.0.1", pod.engine_port)) as client:
        body = json.dumps({"model": "chat", "prompt": "hello", "max_tokens": 4, "stream": True})
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {_KEY}\r\n"
        client.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        pod.until(lambda status: bool(status.running), "the stream's run")
        pod.signal()
        assert pod.ended() == 0


def test_sigterm_during_the_start_ends_it_at_once(pod: Pod) -> None:
    pod.start(_spec(simulated_load_seconds=3600.0))
    pod.until(lambda status: status.phases[-1].name is Phase.LOAD, "the phase load")
    pod.signal()
    assert pod.ended() == 0


def test_nobody_need_ask_for_its_status(pod: Pod, until: Until) -> None:
    pod.start(replace(_spec(), orphan_seconds=0.001))
    until(lambda: '"ready"' in pod.said("stderr"), "readiness")
    assert pod.until(lambda status: status.running is not None, "a look at the engine").state is ReplicaState.READY


def test_a_failed_start_leaves_its_reason_and_the_last_lines(pod: Pod) -> None:
    pod.start(_spec(simulated_fail_phase="load", simulated_fail_message="the weights are odd"))
    reason, *lines = pod.failed().splitlines()
    assert reason == "the weights are odd"
    assert lines[-1] == "pilotlight-simulated: the weights are odd"


def test_a_model_that_is_not_there_is_named(pod: Pod, registry: Registry) -> None:
    registry.put({"config.json": b"{}"})
    digest = "sha256:" + "0" * 64
    pod.start(_of_model(f"file://{registry.folder}", digest, pod.folder))
    reason = pod.failed()
    assert reason.startswith("the model could not be fetched: ")
    assert reason.endswith(f"check that file://{registry.folder} is the right store and has all of {digest}")


def test_a_file_that_is_not_what_its_digest_says_is_refused(pod: Pod, registry: Registry) -> None:
    manifest = registry.put({"config.json": b"{}", "model.safetensors": b"x" * 100})
    registry.blob(manifest.files[1].digest).write_bytes(b"y" * 100)
    pod.start(_of_model(f"file://{registry.folder}", manifest.digest, pod.folder))
    assert "model.safetensors" in pod.failed()


def test_credentials_that_the_store_refuses_are_said_to_be_so(pod: Pod, s3_server: S3Server) -> None:
    wrong = s3_server.environment | {"AWS_SECRET_ACCESS_KEY": "wrong-secret"}
    pod.start(_of_model("s3://models", "sha256:" + "0" * 64, pod.folder), **wrong)
    said = pod.failed()
    assert said.endswith("check that the credentials are right and may read s3://models")
    assert "wrong-secret" not in said


def test_no_credentials_at_all_are_said_to_be_missing(pod: Pod, s3_server: S3Server) -> None:
    pod.start(
        _of_model("s3://models", "sha256:" + "0" * 64, pod.folder),
        AWS_ENDPOINT_URL_S3=s3_server.endpoint,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
    )
    assert "credentials" in pod.failed()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({SPEC_VARIABLE: "{}"}, f"{SPEC_VARIABLE}: "),
        ({KEY_VARIABLE: ""}, f"{KEY_VARIABLE}: is not set"),
        ({PORT_VARIABLE: "http"}, "PORT: 'http' is no port"),
    ],
    ids=["spec", "key", "port"],
)
def test_an_environment_that_is_refused_is_told_by_name(pod: Pod, changes: dict[str, str], problem: str) -> None:
    pod.start(_spec(), **changes)
    assert pod.ended() == 2
    assert pod.termination.read_text().startswith(f"the spec was refused: {problem}")
    assert json.loads(pod.said("stderr"))["event"] == "refused"


def test_an_engine_that_is_not_known_is_refused(pod: Pod) -> None:
    pod.start(replace(_spec(), engine=EngineSpec("llama")))
    assert pod.ended() == 2
    assert "engine kind 'llama' is unknown" in pod.termination.read_text()


def test_a_failed_replica_goes_on_telling_why_for_a_while_and_ends(pod: Pod) -> None:
    pod.start(_spec(simulated_fail_phase="import"))
    assert pod.reach(ReplicaState.FAILED).message == "simulated failure"
    assert pod.ended() == 1


def test_without_a_termination_log_it_makes_none(pod: Pod) -> None:
    pod.termination.unlink()
    pod.start(_spec(), **{KEY_VARIABLE: ""})
    assert pod.ended() == 2
    assert not pod.termination.exists()


def test_an_engine_that_dies_while_it_serves_ends_the_pod(pod: Pod) -> None:
    pod.start(_spec())
    os.kill(pod.reach(ReplicaState.READY).engine_pid, signal.SIGKILL)
    assert pod.failed().startswith("the engine died while it served")


def test_a_port_that_somebody_has_is_named(pod: Pod) -> None:
    with socket.create_server(("0.0.0.0", pod.engine_port)):
        pod.start(_spec())
        assert "port was taken" in pod.failed()
