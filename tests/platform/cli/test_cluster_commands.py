"""`install` and `doctor` where there is no cluster, or nonsense is asked for; with one, see tests/cluster/."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.platform.cli.conftest import Cli

Kubeconfig = Callable[[str], None]


@pytest.fixture
def kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kubeconfig:
    """Name a server as the only cluster."""

    def name(server: str) -> None:
        cluster = {"name": "c", "cluster": {"server": server}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        known = {"clusters": [cluster], "contexts": [context], "users": [{"name": "u", "user": {"token": "t"}}]}
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c", **known}))
        monkeypatch.setenv("KUBECONFIG", str(path))

    return name


@pytest.fixture
def no_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.usefixtures("no_kubeconfig")
@pytest.mark.parametrize("command", ["install", "doctor"])
def test_without_a_cluster_it_says_how_to_name_one(cli: Cli, command: str) -> None:
    result = cli(command)
    assert result.code == 2
    assert "no cluster is configured" in result.err
    assert "KUBECONFIG" in result.err


def test_a_context_that_is_not_there_is_named(cli: Cli, kubeconfig: Kubeconfig) -> None:
    kubeconfig("http://127.0.0.1:1")
    result = cli("doctor", "--context", "elsewhere")
    assert result.code == 2
    assert "elsewhere" in result.err


@pytest.mark.parametrize("command", [("install", "--overlay", "dev"), ("doctor",)], ids=lambda words: words[0])
def test_a_cluster_that_does_not_answer_fails_the_command(
    cli: Cli, kubeconfig: Kubeconfig, closed_port: int, command: tuple[str, ...]
) -> None:
    kubeconfig(f"http://127.0.0.1:{closed_port}")
    result = cli(*command)
    assert result.code == 1
    assert "refused" in result.err
    assert len(result.err.splitlines()) == 1


def test_an_image_of_another_name_is_refused_with_the_names_there_are(cli: Cli) -> None:
    result = cli("install", "--image", "engine=any:1")
    assert result.code == 2
    assert "control, runtime, minio, postgres" in result.err


def test_an_image_without_a_reference_is_refused(cli: Cli) -> None:
    assert cli("install", "--image", "control").code == 2


def test_an_overlay_that_is_not_there_is_refused_with_those_there_are(cli: Cli) -> None:
    result = cli("install", "--overlay", "staging")
    assert result.code == 2
    assert "dev or production" in result.err
