"""What an engine leaves when its supervisor and its guard are killed at one stroke: found again and ended.

Only the engine's first process dies with the guard; nobody is left then who is a subreaper of the others. So the
supervisor notes two marks that every process of the engine inherits, the guard's session and the pipe of its output,
and whoever finds a dead supervisor ends what bears both. One alone might be given anew to a process of somebody else.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pilotlight.runtime.board import write_atomically

RECORD_FILE = "engine.marks"
_RECORD_BYTES = 1000
_SECONDS = 5.0
"""How long killed processes may take to vanish."""
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Marks:
    """What tells an engine's processes from all others."""

    session: int
    """The guard's process id."""
    output: str
    """`pipe:[INODE]`."""


def note(folder: Path, marks: Marks) -> None:
    write_atomically(folder / RECORD_FILE, json.dumps(asdict(marks)).encode())


def forget(folder: Path) -> None:
    """Nothing is left."""
    (folder / RECORD_FILE).unlink(missing_ok=True)


def end(folder: Path) -> None:
    """Kill what bears the marks of the folder and wait until it is gone. Only where no supervisor lives.

    A guard that lives is doing it: then nothing is done, and the marks stay for another look.
    """
    marks = _read(folder)
    if marks is None:
        return
    deadline = time.monotonic() + _SECONDS
    while found := set(_bearers(marks)):
        if marks.session in found or time.monotonic() > deadline:
            return
        for pid in found:
            _kill(pid, marks)
        time.sleep(_POLL_SECONDS)
    forget(folder)


def _read(folder: Path) -> Marks | None:
    try:
        with (folder / RECORD_FILE).open("rb") as file:
            raw = json.loads(file.read(_RECORD_BYTES))
        return Marks(int(raw["session"]), str(raw["output"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _bearers(marks: Marks) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _bears(int(folder.name), marks):
            yield int(folder.name)


def _bears(pid: int, marks: Marks) -> bool:
    """False for zombies, which have no files any more, and for other users' processes."""
    try:
        return os.getsid(pid) == marks.session and any(
            _target(handle) == marks.output for handle in Path(f"/proc/{pid}/fd").iterdir()
        )
    except OSError:
        return False


def _target(handle: Path) -> str:
    try:
        return str(handle.readlink())
    except OSError:
        return ""


def _kill(pid: int, marks: Marks) -> None:
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if _bears(pid, marks):  # still the same process, as long as the handle is open
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
