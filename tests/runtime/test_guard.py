"""The guard leaves nothing behind, whichever process is killed. A stand-in multiplies as vLLM does."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pilotlight.runtime import guard
from pilotlight.runtime.engines.protocol import Launch
from pilotlight.runtime.process import EngineProcess

_ENGINE = """
import os, signal, subprocess, sys, time
mode = sys.argv[1]
if mode == "child":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.argv[2] == "session":
        os.setsid()
    print("child", flush=True)
    time.sleep(600)
    sys.exit()
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for kind in ("plain", "session"):
    subprocess.Popen([sys.executable, __file__, "child", kind])
if mode == "exits":
    time.sleep(0.5)
    sys.exit(7)
print("engine", flush=True)
time.sleep(600)
"""

Until = Callable[[Callable[[], bool], str], None]
Processes = Callable[[], set[int]]
Start = Callable[[str], Awaitable[EngineProcess]]

_SUPERVISOR = """
import asyncio, os, sys
from pilotlight.runtime.engines.protocol import Launch
from pilotlight.runtime.guard import become_subreaper
from pilotlight.runtime.process import EngineProcess

async def main():
    become_subreaper()
    launch = Launch((sys.executable, sys.argv[1], "plain"), dict(os.environ))
    engine = EngineProcess.start(launch, lambda data: os.write(1, data))
    await engine.ended

asyncio.run(main())
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "engine.py"
    path.write_text(_ENGINE)
    return path


@pytest.fixture
async def start(script: Path) -> AsyncIterator[Start]:
    guard.become_subreaper()
    started: list[EngineProcess] = []

    async def begin(mode: str) -> EngineProcess:
        output = bytearray()
        launch = Launch((sys.executable, str(script), mode), dict(os.environ))
        started.append(EngineProcess.start(launch, output.extend, grace=0.2))
        wanted = 2 if mode == "exits" else 3
        async with asyncio.timeout(30):
            while output.count(b"\n") < wanted:  # noqa: ASYNC110  another process says when
                await asyncio.sleep(0.02)
        return started[-1]

    yield begin
    for process in started:
        await process.stop()


def _guard_of(engine: int) -> int:
    status = Path(f"/proc/{engine}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:")))


async def test_stopping_ends_the_engine_and_what_left_its_session(start: Start, processes: Processes) -> None:
    engine = await start("plain")
    assert len(processes()) == 4
    await engine.stop()
    assert processes() == set()
    assert engine.exit_code == -signal.SIGTERM


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_what_was_there_before_the_engine_is_spared(bystander: subprocess.Popen[bytes], start: Start) -> None:
    engine = await start("plain")
    await engine.stop()
    assert bystander.poll() is None


async def test_an_engine_that_ignores_the_request_to_stop_is_killed(start: Start, processes: Processes) -> None:
    engine = await start("stubborn")
    await engine.stop()
    assert processes() == set()
    assert engine.exit_code == -signal.SIGKILL


async def test_when_the_engine_exits_its_status_is_told_and_its_children_are_ended(
    start: Start, processes: Processes
) -> None:
    engine = await start("exits")
    await engine.cleared()
    assert engine.exit_code == 7
    assert processes() == set()


async def test_when_the_engine_is_killed_the_signal_is_told_and_its_children_are_ended(
    start: Start, processes: Processes
) -> None:
    engine = await start("plain")
    os.kill(engine.pid, signal.SIGKILL)
    await engine.cleared()
    assert engine.exit_code == -signal.SIGKILL
    assert processes() == set()


async def test_when_the_guard_is_killed_the_engine_dies_and_the_supervisor_ends_the_rest(
    start: Start, processes: Processes
) -> None:
    engine = await start("plain")
    os.kill(_guard_of(engine.pid), signal.SIGKILL)
    await engine.cleared()
    assert processes() == set()


def test_when_the_supervisor_is_killed_the_guard_ends_everything(
    script: Path, processes: Processes, until: Until
) -> None:
    guard.become_subreaper()  # what the dead leave behind comes to this process and is seen
    with subprocess.Popen([sys.executable, "-c", _SUPERVISOR, str(script)], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        assert sorted(supervisor.stdout.readline() for _ in range(3)) == [b"child\n", b"child\n", b"engine\n"]
        assert len(processes()) == 5
        supervisor.kill()
    until(lambda: guard.reap() is not None and processes() == set(), "the end of all processes")


async def test_a_command_that_cannot_be_started_is_said_so(processes: Processes) -> None:
    output = bytearray()
    engine = EngineProcess.start(Launch(("/no/such/program",), {}), output.extend)
    await engine.cleared()
    assert engine.exit_code == 127
    assert output == b"guard: cannot start /no/such/program: No such file or directory\n"
    assert processes() == set()


def test_the_guard_imports_nothing_but_the_standard_library_and_little_of_it() -> None:
    program = "import sys, runpy; runpy.run_path(sys.argv[1]); print(len(sys.modules))"
    command = [sys.executable, "-I", "-S", "-c", program, guard.__file__]
    assert int(subprocess.run(command, check=True, capture_output=True).stdout) < 120
