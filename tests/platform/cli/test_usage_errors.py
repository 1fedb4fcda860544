"""What ends a command before any platform is asked: help, wrong usage, refused manifests, nothing at the address."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest


class Result(Protocol):
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]

COMMANDS = [
    *("up", "demo", "deploy", "delete", "get", "describe", "logs", "call", "usage"),
    *("install", "operator", "activator", "doctor", "simulate", "models", "keys", "recommend", "detector"),
]
HEAVY = ["httpx", "pydantic", "rich", "sqlalchemy", "boto3", "yaml", "torch", "vllm", "uvicorn", "starlette", "aiohttp"]


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address at which nothing listens, and nothing can begin to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_help_lists_every_command(cli: Cli) -> None:
    shown = cli("--help")

    assert shown.code == 0
    assert [line.split()[0] for line in shown.out.partition("Commands:\n")[2].splitlines()] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, cli: Cli) -> None:
    shown = cli(command, "--help")

    assert shown.code == 0
    assert shown.out.startswith(f"Usage: pilotlight {command}")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_told_in_one_line_that_is_not_cut(command: str, cli: Cli) -> None:
    assert "..." not in next(line for line in cli("--help").out.splitlines() if line.startswith(f"  {command} "))


def test_nothing_heavy_is_loaded_before_a_command_runs() -> None:
    code = "import sys, pilotlight.platform.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded.intersection(HEAVY)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["gett"], "No such command 'gett'. Did you mean 'get'?", id="unknown command"),
        pytest.param(["get", "function"], "'functions'", id="unknown kind"),
        pytest.param(["deploy"], "--file", id="no manifest named"),
        pytest.param(["call"], "function", id="no function named"),
        pytest.param(["call", "chat", "x", "--temperature", "9"], "temperature", id="temperature out of range"),
        pytest.param(["usage", "--by", "month"], "'day'", id="unknown group"),
        pytest.param(["--url", "somewhere", "get", "functions"], "expected http://HOST:PORT", id="no address"),
        pytest.param(["call", "chat"], "there is no prompt", id="empty prompt"),
        pytest.param(["models", "push", ".", "smollm2"], "expected s3://BUCKET/NAME:TAG", id="no model reference"),
        pytest.param(["models", "pull", "s3://models/x:v1 ", "."], "tag", id="tag with a blank"),
    ],
)
def test_wrong_usage_is_2_and_says_what_is_right(arguments: list[str], said: str, cli: Cli) -> None:
    ended = cli(*arguments)

    assert ended.code == 2
    assert said in ended.err
    assert ended.out == ""


def test_nothing_at_the_address_says_how_to_start_it(cli: Cli, nowhere: str) -> None:
    ended = cli("--url", nowhere, "get", "functions")

    assert ended.code == 1
    assert ended.err == (
        f"error: nothing listens at {nowhere}; start it with `pilotlight up`, or name another address with --url or "
        "PILOTLIGHT_URL\n"
    )


MANIFEST = """\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {name: chat}
spec:
  modle: s3://models/chat:v1
  scale: {keepAlive: 5 parsecs}
"""


def test_a_refused_manifest_is_2_and_names_every_line(cli: Cli, nowhere: str, tmp_path: Path) -> None:
    file = tmp_path / "fn.yaml"
    file.write_text(MANIFEST)

    ended = cli("--url", nowhere, "deploy", "-f", str(file))

    assert ended.code == 2
    first, *findings = ended.err.splitlines()
    assert first == f"error: {file} is refused, nothing was applied"
    assert any(f"{file}:5" in line and 'did you mean "model"?' in line for line in findings)
    assert any(f"{file}:6" in line and "keepAlive" in line for line in findings)


def test_a_manifest_on_stdin_is_named_so(cli: Cli, nowhere: str) -> None:
    ended = cli("--url", nowhere, "deploy", "-f", "-", stdin=MANIFEST)

    assert ended.code == 2
    assert "stdin:5" in ended.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"\xff\xfe", "no UTF-8", id="no text"),
        pytest.param(b"#" * (2**20 + 1), "longer than 1048576 bytes", id="too long"),
        pytest.param(b"", "is empty", id="empty"),
    ],
)
def test_a_file_that_is_no_manifest_is_2(content: bytes | None, said: str, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "fn.yaml"
    if content is not None:
        file.write_bytes(content)

    ended = cli("deploy", "-f", str(file))

    assert ended.code == 2
    assert said in ended.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_their_completion(shell: str) -> None:
    environment = {"_PILOTLIGHT_COMPLETE": f"source_{shell}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "pilotlight.platform.cli"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    assert "pilotlight" in done.stdout
