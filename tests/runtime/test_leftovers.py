"""What a supervisor and a guard that were killed at one stroke could not end is ended, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilotlight.runtime import client, guard, leftovers
from pilotlight.runtime.leftovers import Marks
from pilotlight.runtime.locks import FileLock

Until = Callable[[Callable[[], bool], str], None]
Processes = Callable[[], set[int]]

_GUARD = """
import subprocess, sys, time
for _ in range(2):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("started", flush=True)
time.sleep(600)
"""


class Pair:
    """A leader of a session with two more processes in it, and their output."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", _GUARD], stdout=subprocess.PIPE, start_new_session=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"started\n"
        self.marks = Marks(self.process.pid, str(Path(f"/proc/self/fd/{self.process.stdout.fileno()}").readlink()))


@pytest.fixture
def pair(processes: Processes) -> Iterator[Pair]:
    guard.become_subreaper()
    made = Pair()
    yield made
    assert made.process.stdout is not None
    made.process.stdout.close()
    for pid in processes():
        os.kill(pid, signal.SIGKILL)
    made.process.wait()
    while processes():
        guard.reap()
    guard.reap()


def test_what_bears_both_marks_is_ended_and_the_marks_are_forgotten(
    tmp_path: Path, pair: Pair, processes: Processes
) -> None:
    leftovers.note(tmp_path, pair.marks)
    pair.process.kill()
    pair.process.wait()
    assert len(processes()) == 2
    client.clear(tmp_path)
    assert processes() == set()
    assert list(tmp_path.glob("*marks")) == []


@pytest.mark.parametrize("other", ["session", "output"])
def test_one_mark_alone_is_not_enough(tmp_path: Path, pair: Pair, processes: Processes, other: str) -> None:
    marks = Marks(1, pair.marks.output) if other == "session" else Marks(pair.marks.session, "pipe:[1]")
    leftovers.note(tmp_path, marks)
    pair.process.kill()
    pair.process.wait()
    client.clear(tmp_path)
    assert len(processes()) == 2


def test_nothing_is_done_while_the_guard_lives(tmp_path: Path, pair: Pair, processes: Processes) -> None:
    leftovers.note(tmp_path, pair.marks)
    client.clear(tmp_path)
    assert len(processes()) == 3
    assert (tmp_path / leftovers.RECORD_FILE).exists()


def test_nothing_is_done_while_a_supervisor_lives(tmp_path: Path, pair: Pair, processes: Processes) -> None:
    leftovers.note(tmp_path, pair.marks)
    pair.process.kill()
    pair.process.wait()
    lock = FileLock(tmp_path / client.LOCK_FILE)
    assert lock.try_acquire()
    client.clear(tmp_path)
    assert len(processes()) == 2
    lock.close()
    client.clear(tmp_path)
    assert processes() == set()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"session": "x"}', b'{"session": null, "output": ""}'])
def test_marks_that_cannot_be_read_end_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / leftovers.RECORD_FILE).write_bytes(content)
    client.clear(tmp_path)
    assert (tmp_path / leftovers.RECORD_FILE).read_bytes() == content
