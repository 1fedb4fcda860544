"""A platform of one's own: `pilotlight up` as a child process, and nothing of it left afterwards."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from pilotlight.platform.cli.errors import CommandError
from pilotlight.platform.cli.settings import Settings, read_admin_key
from pilotlight.platform.demo.processes import end, replica_processes

START_SECONDS = 60.0
STOP_SECONDS = 20.0
LOG_LINES = 15


@contextmanager
def running_platform(state: Path) -> Iterator[Settings]:
    """Start `pilotlight up` on a free loopback port and end it, with all of its replicas, on every way out."""
    state.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{free_port()}"
    log = state / "up.log"
    with log.open("wb") as out:
        # A session of its own: Ctrl-C reaches the demo alone, which then ends the platform in order.
        process = subprocess.Popen(
            up_command(state, url), stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        _wait_ready(process, url, log)
        yield Settings(url=url, key=read_admin_key(state), state=state)
    finally:
        stop(process)
        end(replica_processes(state))


def up_command(state: Path, url: str) -> list[str]:
    port = url.rpartition(":")[2]
    return [sys.executable, "-m", "pilotlight.platform.cli", "--state", str(state), "up", "--port", port]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _is_ready(url):
        if process.poll() is not None:
            raise CommandError("the platform did not start; the end of its log:", details=_tail(log))
        if time.monotonic() > deadline:
            raise CommandError(f"the platform was not ready within {START_SECONDS:.0f} s", details=_tail(log))
        time.sleep(0.1)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _tail(log: Path) -> tuple[str, ...]:
    return tuple(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
