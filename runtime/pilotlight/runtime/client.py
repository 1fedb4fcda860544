"""How the platform talks to supervisors: start one, ask it, end it, and tell whether it still lives."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from pathlib import Path

from pilotlight.runtime import leftovers
from pilotlight.runtime.board import STATUS_FILE, write_atomically
from pilotlight.runtime.codec import LIMIT, BadDocumentError, dump, parse_status
from pilotlight.runtime.control import SOCKET_FILE, short_path
from pilotlight.runtime.locks import FileLock
from pilotlight.runtime.spec import ReplicaSpec, ReplicaState, ReplicaStatus
from pilotlight.runtime.wire import Request, Response, WireError, ask

SPEC_FILE = "spec.json"
LOCK_FILE = "supervisor.lock"
LOG_FILE = "supervisor.log"
ENGINE_LOG_FILE = "engine.log"
MODULE = "pilotlight.runtime.supervisor"
_SECONDS = 5.0
_ENDED = (ReplicaState.FAILED, ReplicaState.STOPPED)


def launch(folder: Path, spec: ReplicaSpec) -> int:
    """Write the spec and start its supervisor, detached from this process; its process id.

    The supervisor outlives the caller. While the caller lives, `alive` also reaps it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / STATUS_FILE).unlink(missing_ok=True)  # the last word of an earlier one
    write_atomically(folder / SPEC_FILE, dump(spec))
    log = str(folder / LOG_FILE)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", MODULE, str(folder.absolute())],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def alive(folder: Path, pid: int = 0) -> bool:
    """Whether a supervisor holds the folder, or the process `pid` that `launch` gave is still on its way there."""
    if pid and not _gone(pid):
        return True
    if not (folder / LOCK_FILE).exists():
        return False
    lock = FileLock(folder / LOCK_FILE)
    try:
        return not lock.try_acquire(shared=True)
    finally:
        lock.close()


async def status(folder: Path) -> ReplicaStatus | None:
    """What the supervisor says, else what it said last; None when it never said anything.

    A supervisor that died without a word is FAILED. Asking is the platform's heartbeat.
    """
    try:
        response = await _ask(folder, Request("GET", "/status"))
        return parse_status(response.body)
    except (WireError, BadDocumentError):
        return last_status(folder)


def last_status(folder: Path) -> ReplicaStatus | None:
    """What `status.json` says, corrected by whether the supervisor lives; no heartbeat."""
    lives = alive(folder)  # before the file is read: one who ends in between has written its last word
    try:
        with (folder / STATUS_FILE).open("rb") as file:
            found = parse_status(file.read(LIMIT + 1))
    except (OSError, BadDocumentError):
        return None
    if found.state in _ENDED or lives:
        return found
    return dataclasses.replace(found, state=ReplicaState.FAILED, message="its supervisor died", running=None)


def clear(folder: Path) -> None:
    """End what an engine left whose supervisor and guard were killed at one stroke; nothing where one of them lives.

    Blocks for a moment; for a folder whose supervisor ended in order it only looks for a file.
    """
    if (folder / leftovers.RECORD_FILE).exists() and not alive(folder):
        leftovers.end(folder)


async def drain(folder: Path) -> bool:
    """No new work, running streams finish, then it ends; False when no supervisor is there."""
    return await _post(folder, "/drain")


async def stop(folder: Path) -> bool:
    """It ends now; False when no supervisor is there."""
    return await _post(folder, "/stop")


async def _post(folder: Path, target: str) -> bool:
    try:
        return (await _ask(folder, Request("POST", target))).status < 300
    except WireError:
        return False


async def _ask(folder: Path, request: Request) -> Response:
    try:
        async with asyncio.timeout(_SECONDS):
            with short_path(folder) as short:
                reader, writer = await asyncio.open_unix_connection(f"{short}/{SOCKET_FILE}")
            return await ask(reader, writer, request, {}, LIMIT)
    except (OSError, TimeoutError) as error:
        raise WireError(f"{request.method} {request.target}: {error}") from error


def _gone(pid: int) -> bool:
    """Whether the process has ended; reaps it when it is a child of this one."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return True
    except ChildProcessError:
        pass  # not a child of this process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return True  # the id was taken over by another user's process
    return False
