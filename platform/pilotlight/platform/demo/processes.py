"""The processes of one state folder, found by what they were started with: nobody else's are counted or ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

OURS = ("pilotlight.runtime", "vllm")
"""A supervisor, its guard or its engine has one of these in its command line, and a path in the state folder."""
PATIENCE_SECONDS = 5.0


def is_of(state: Path, command: Sequence[str]) -> bool:
    """Whether a command line is a replica's of this state folder (an absolute path)."""
    inside = f"{state}{os.sep}"
    return any(inside in part for part in command) and any(name in part for name in OURS for part in command)


def replica_processes(state: Path) -> list[psutil.Process]:
    """Every supervisor, guard and engine of the folder, with all of their descendants; zombies are dead already."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if is_of(state, process.cmdline()):
                found.update({each.pid: each for each in (process, *process.children(recursive=True))})
    return [process for process in found.values() if is_alive(process)]


def role(process: psutil.Process) -> str:
    """What a process of a replica is there for."""
    try:
        command = " ".join(process.cmdline()[:4])
        name = process.name()
    except psutil.Error:
        return "ended"
    known = (word for word in ("supervisor", "guard", "vllm") if word in command)
    return next(known, name)


def is_alive(process: psutil.Process) -> bool:
    """False as well when the number has gone to another process since."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(processes: Sequence[psutil.Process], patience: float = PATIENCE_SECONDS) -> None:
    """SIGTERM, and SIGKILL for those that stay longer than `patience` seconds."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(list(processes), timeout=patience)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=patience)


def wait_gone(processes: Sequence[psutil.Process], state: Path, seconds: float) -> list[psutil.Process]:
    """Wait until none of `processes` and none of the folder's is left; those that are after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        left = {process.pid: process for process in (*processes, *replica_processes(state)) if is_alive(process)}
        if not left or time.monotonic() > deadline:
            return list(left.values())
        time.sleep(0.2)
