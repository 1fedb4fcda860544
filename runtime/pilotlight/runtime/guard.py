"""The engine's jailer: a tiny process between a supervisor and its engine that leaves no process behind.

    python -I -S guard.py GRACE_SECONDS COMMAND...

Its standard input is the lifeline: the supervisor holds the other end and never writes. At its end of file, and at
SIGTERM, the engine is asked to stop (SIGTERM) and after the grace all below the guard is killed. Descendants of the
engine cannot escape by becoming orphans or session leaders: the guard is their subreaper. Should the guard itself be
killed, the engine's first process dies with it (PR_SET_PDEATHSIG) and the supervisor, a subreaper too, ends the rest.

Standard library only and run by its path, so that it starts in milliseconds and imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_POLL_SECONDS = 0.02
_TRACKER_SECONDS = 1.0
"""How long Python's resource tracker may take to unlink shared memory that killed processes left."""
_TRACKER = b"multiprocessing.resource_tracker"


def prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")


def become_subreaper() -> None:
    """Orphaned descendants come to this process instead of to init."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def descendants(root: int) -> set[int]:
    """Ids of all processes below `root` that are not zombies."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            parents[int(entry.name)] = stat
    found: set[int] = set()
    fresh = {root}
    while fresh := {pid for pid, parent in parents.items() if parent in fresh} - found:
        found |= fresh
    return found


def _stat(pid: int) -> int | None:
    """The parent's id; None for a zombie or one that has just gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[1])


def end_descendants(root: int, spared: frozenset[int] = frozenset()) -> None:
    """Kill all processes below `root` but the spared ones, and reap those that are ours, until none is left.

    Resource trackers go last and by themselves where they can: they unlink the shared memory of the others.
    """
    deadline = time.monotonic() + _TRACKER_SECONDS
    while left := descendants(root) - spared:
        patient = time.monotonic() < deadline
        for pid in left:
            if not (patient and _is_tracker(pid)):
                _send(pid, signal.SIGKILL)
        reap()
        time.sleep(_POLL_SECONDS)
    reap()


def reap() -> dict[int, int]:
    """Wait status of every child that has ended, by id."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def _is_tracker(pid: int) -> bool:
    try:
        return _TRACKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _start(command: list[str]) -> int:
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == guard:  # else the guard has died before the line above
            empty = os.open(os.devnull, os.O_RDONLY)
            os.dup2(empty, 0)  # the lifeline is the guard's alone
            os.execv(command[0], command)  # noqa: S606  an argument list, no shell
    except OSError as error:
        os.write(2, f"guard: cannot start {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _hold(engine: int, wakeup: int, grace: float) -> int:
    """Wait for the engine's end, or end it; its wait status."""
    selector = selectors.DefaultSelector()
    selector.register(wakeup, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    deadline: float | None = None
    while True:
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        ready = {key.fd for key, _ in selector.select(timeout)}
        signals = os.read(wakeup, 512) if wakeup in ready else b""
        ended = reap()
        if engine in ended:
            return ended[engine]
        stopping = 0 in ready or bool(set(signals) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        if stopping and deadline is None:
            if 0 in ready:
                selector.unregister(0)  # at its end of file it would stay readable
            _send(engine, signal.SIGTERM)
            deadline = time.monotonic() + grace
        elif stopping or (deadline is not None and time.monotonic() >= deadline):
            return signal.SIGKILL


def main(arguments: list[str]) -> int:
    grace, command = float(arguments[0]), arguments[1:]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    become_subreaper()
    status = _hold(_start(command), reader, grace)
    end_descendants(os.getpid())
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if code >= 0:
        sys.exit(code)
    # Die as the engine died, so that the supervisor sees the signal.
    signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -code)
