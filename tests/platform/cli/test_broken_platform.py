"""A platform that refuses, breaks off, or is no platform: one sentence, what to do next, and the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

FUNCTIONS = "GET /api/v1alpha1/functions"
CHAT = "POST /f/default/chat/v1/chat/completions"
FUNCTION = "GET /api/v1alpha1/functions/default/chat"
SSE = {"content-type": "text/event-stream"}
HOLD = b"<hold>"


class Result(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


class Scripted(Protocol):
    """A server that answers what it is told."""

    answers: dict[str, tuple[int, dict[str, str], tuple[bytes, ...]]]
    seen: list[tuple[str, bytes]]
    url: str
    left: threading.Event


Cli = Callable[..., Result]


def error(message: str, **more: object) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        pytest.param(403, {}, error("This key may not list."), "error: This key may not list.\n", id="forbidden"),
        pytest.param(
            503, {"retry-after": "7"}, error("Starting."), "error: Starting. Try again in 7 s.\n", id="retry after"
        ),
        pytest.param(500, {}, b"<h1>Oops</h1>", "error: <h1>Oops</h1>\n", id="no JSON"),
        pytest.param(502, {}, b"", "error: the platform answered with status 502\n", id="nothing said"),
        pytest.param(200, {}, b"<html>", "answered no JSON; is this a Pilotlight platform?\n", id="another server"),
        pytest.param(200, {}, b'{"a": 1}', "is its version the same as this command's?\n", id="another version"),
    ],
)
def test_an_error_of_the_platform_is_told_in_a_sentence(
    status: int, headers: dict[str, str], body: bytes, said: str, cli: Cli, scripted: Scripted
) -> None:
    scripted.answers[FUNCTIONS] = (status, headers, (body,))

    ended = cli("--url", scripted.url, "get", "functions")

    assert ended.code == 1
    assert ended.err.endswith(said)
    assert ended.err.startswith("error: ")
    assert ended.out == ""


def test_without_a_key_it_says_where_one_is_looked_for(cli: Cli, scripted: Scripted, tmp_path: Path) -> None:
    scripted.answers[FUNCTIONS] = (401, {}, (error("You didn't provide an API key."),))

    ended = cli("--url", scripted.url, "get", "functions")

    assert ended.code == 1
    assert "wants a key, and none is at hand; set PILOTLIGHT_KEY" in ended.err
    assert str(tmp_path / "state") in ended.err


def test_a_wrong_key_is_never_printed(cli: Cli, scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTLIGHT_KEY", "pl-secret-of-mine")
    scripted.answers[FUNCTIONS] = (401, {}, (error("Incorrect API key provided."),))

    ended = cli("--url", scripted.url, "get", "functions")

    assert "does not accept this key" in ended.err
    assert "pl-secret-of-mine" not in ended.err + ended.out


def chunk(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


def test_an_answer_that_breaks_off_is_shown_so_far_and_fails(cli: Cli, scripted: Scripted) -> None:
    scripted.answers[FUNCTION] = (200, {}, (b'{"task": "generate"}',))
    scripted.answers[CHAT] = (200, SSE, (chunk("Par"),))

    ended = cli("--url", scripted.url, "call", "chat", "Capital?")

    assert ended.code == 1
    assert ended.out == "Par"
    assert "broke off before its end" in ended.err


def test_a_models_control_characters_do_not_reach_the_terminal(cli: Cli, scripted: Scripted) -> None:
    scripted.answers[FUNCTION] = (200, {}, (b'{"task": "generate"}',))
    scripted.answers[CHAT] = (200, SSE, (chunk("\x1b[2Jgone\x07"), b"data: [DONE]\n\n"))

    assert cli("--url", scripted.url, "call", "chat", "x").out == " [2Jgone \n"


def test_ctrl_c_in_a_held_call_is_quiet_and_leaves_the_place(
    scripted: Scripted, until: Callable[[Callable[[], bool], str], None], tmp_path: Path
) -> None:
    scripted.answers[FUNCTION] = (200, {}, (b'{"task": "generate"}',))
    scripted.answers[CHAT] = (200, SSE, (b": scheduling (eta 60s)\n\n", HOLD))
    command = [sys.executable, "-m", "pilotlight.platform.cli", "--url", scripted.url, "call", "chat", "x"]
    environment = {**os.environ, "PILOTLIGHT_STATE": str(tmp_path), "PILOTLIGHT_KEY": ""}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        until(lambda: any(name == CHAT for name, _ in scripted.seen), "the call")

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert (out, err) == ("", "")
    until(scripted.left.is_set, "the end of the connection")


def test_a_reader_that_leaves_is_no_traceback(scripted: Scripted, tmp_path: Path) -> None:
    rows = [{"namespace": "default", "name": f"chat-{number}"} for number in range(20_000)]
    scripted.answers[FUNCTIONS] = (200, {}, (json.dumps({"items": rows}).encode(),))
    command = f"{sys.executable} -m pilotlight.platform.cli --url {scripted.url} get functions | head -1"
    environment = {**os.environ, "PILOTLIGHT_STATE": str(tmp_path)}

    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("NAMESPACE")
    assert done.stderr == ""


def test_an_engine_that_has_not_written_yet_is_named(cli: Cli, scripted: Scripted) -> None:
    scripted.answers["GET /api/v1alpha1/functions/default/chat/logs"] = (200, {"content-type": "text/plain"}, ())
    replicas = json.dumps({"items": [{"id": "chat-00001-ab", "state": "starting"}]}).encode()
    scripted.answers["GET /api/v1alpha1/replicas"] = (200, {"content-type": "application/json"}, (replicas,))

    ended = cli("--url", scripted.url, "logs", "chat")

    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "no log yet: the engine of chat-00001-ab (starting) has not written anything\n"
