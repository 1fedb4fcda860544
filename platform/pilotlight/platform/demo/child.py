"""A platform of one's own: `pilotlight up` as a child process, and nothing of it left afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from pilotlight.platform.cli.errors import CommandError
from pilotlight.platform.cli.settings import Settings, announced, read_admin_key
from pilotlight.platform.demo.processes import end, replica_processes

START_SECONDS = 60.0
STOP_SECONDS = 20.0
LOG_LINES = 15
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def running_platform(state: Path) -> Iterator[Settings]:
    """Start `pilotlight up` on a free loopback port and end it, with all of its replicas, on every way out."""
    state.mkdir(parents=True, exist_ok=True)
    log = state / "up.log"
    with log.open("ab") as out:
        # A process group of its own: Ctrl-C reaches the demo alone, which then ends the platform in order.
        process = subprocess.Popen(
            up_command(state), stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        url = _wait_ready(process, state, log)
        yield Settings(url=url, key=read_admin_key(state), state=state)
    finally:
        with uninterruptible():
            stop(process)
            end(replica_processes(state))


@contextmanager
def uninterruptible() -> Iterator[None]:
    """A second Ctrl-C must not keep the first from ending everything."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def up_command(state: Path) -> list[str]:
    """The models stay in the folder, whatever S3 the environment names."""
    options = ["--port", "0", "--shutdown", "1s", "--registry", (state / "registry").as_uri()]
    return [sys.executable, "-m", "pilotlight.platform.cli", "--state", str(state), "up", *options]


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], state: Path, log: Path) -> str:
    """The platform's address, once it answers there."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        known = announced(state)
        if known.process == process.pid and _is_ready(known.url):
            return known.url
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
