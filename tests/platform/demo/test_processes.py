"""Finding and ending the processes of a state folder, and no others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilotlight.platform.demo.processes import end, is_of, replica_processes, wait_gone

STATE = Path("/var/demo")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(
            ["python", "-m", "pilotlight.runtime.supervisor", "/var/demo/replicas/r-1"], True, id="supervisor"
        ),
        pytest.param(["python", "-m", "vllm.entrypoints", "--model", "/var/demo/cache/m"], True, id="engine"),
        pytest.param(
            ["python", "-m", "pilotlight.runtime.supervisor", "/var/demo2/replicas/r"], False, id="other state"
        ),
        pytest.param(["tail", "-f", "/var/demo/up.log"], False, id="a reader of the log"),
        pytest.param(["pilotlight", "--state", "/var/demo", "up"], False, id="the platform itself"),
        pytest.param([], False, id="kernel thread"),
    ],
)
def test_whose_a_process_is_stands_in_its_command_line(command: list[str], expected: bool) -> None:
    assert is_of(STATE, command) is expected


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def go(code: str, *arguments: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE))
        return started[-1]

    yield go
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("up", flush=True)
child.wait()
signal.pause()
"""


def test_a_replica_is_found_with_its_children_and_ended_though_it_ignores_sigterm(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    replica = start(STUBBORN, "pilotlight.runtime.supervisor", f"{tmp_path}/replicas/r-1")
    bystander = start(STUBBORN, "pilotlight.runtime.supervisor", f"{tmp_path}-2/replicas/r-1")
    for process in (replica, bystander):
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"

    found = replica_processes(tmp_path)
    assert {replica.pid} < {process.pid for process in found}
    assert len(found) == 2
    assert wait_gone(found, tmp_path, seconds=0) != []

    end(found, patience=0.2)

    assert wait_gone(found, tmp_path, seconds=5) == []
    assert bystander.poll() is None
    end(replica_processes(Path(f"{tmp_path}-2")), patience=0.2)
