"""Replicas as processes: a real supervisor with the simulated engine, without the platform around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from pilotlight.activator.values import FunctionId
from pilotlight.platform.embedded.cluster import ENDED_KEPT, EmbeddedCluster, processors
from pilotlight.platform.values import ReplicaRecord
from pilotlight.runtime import leftovers
from pilotlight.runtime.board import STATUS_FILE
from pilotlight.runtime.codec import dump
from pilotlight.runtime.spec import EngineSpec, ReplicaSpec, ReplicaState, ReplicaStatus


async def test_a_replica_that_was_never_started_is_missing(tmp_path: Path) -> None:
    cluster = EmbeddedCluster(tmp_path / "replicas")

    assert await cluster.observe([_record("nobody")]) == {}
    await cluster.drain("nobody")
    await cluster.stop("nobody")


async def test_a_supervisor_that_ends_at_once_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    cluster = EmbeddedCluster(tmp_path / "replicas")
    spec = ReplicaSpec("r1", "a/b", "b-00001", "generate", "file:///x", "sha256:0", ("b",), EngineSpec("unknown"))

    await cluster.start(spec)
    while (found := (await cluster.observe([_record("r1")]))["r1"]).state is ReplicaState.STARTING:
        pass

    assert found.state is ReplicaState.FAILED
    assert found.message
    await cluster.forget("r1")
    assert not (tmp_path / "replicas" / "r1" / "spec.json").exists()


async def test_folders_of_ended_replicas_are_kept_for_their_logs_but_not_all(tmp_path: Path) -> None:
    cluster = EmbeddedCluster(tmp_path / "replicas")
    for number in range(ENDED_KEPT + 5):
        folder = tmp_path / "replicas" / f"r{number}"
        folder.mkdir()
        (folder / "spec.json").write_text("{}")
    for number in range(ENDED_KEPT + 5):
        await cluster.forget(f"r{number}")

    assert len(list((tmp_path / "replicas").iterdir())) == ENDED_KEPT


async def test_what_lies_around_and_does_not_run_is_no_stray(tmp_path: Path) -> None:
    cluster = EmbeddedCluster(tmp_path / "replicas")
    folder = tmp_path / "replicas" / "old"
    folder.mkdir()
    (folder / "spec.json").write_text("{}")

    assert await cluster.found([]) == ()
    assert not (folder / "spec.json").exists()


def _record(name: str) -> ReplicaRecord:
    return ReplicaRecord(name, FunctionId("a", "b"), "b-00001", 1.0)


def _leave_behind(folder: Path) -> IO[bytes]:
    """Note the marks of a guard that is dead, and of its child, which lives; the output of both."""
    program = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    dead = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    assert dead.stdout is not None
    dead.wait()
    output = Path(f"/proc/self/fd/{dead.stdout.fileno()}").readlink()
    leftovers.note(folder, leftovers.Marks(dead.pid, str(output)))
    return dead.stdout


@pytest.mark.parametrize("seen_by", ["observe", "found"])
async def test_what_an_engine_left_is_ended_when_its_supervisor_is_found_dead(tmp_path: Path, seen_by: str) -> None:
    cluster = EmbeddedCluster(tmp_path / "replicas")
    folder = tmp_path / "replicas" / "r1"
    folder.mkdir()
    (folder / STATUS_FILE).write_bytes(dump(ReplicaStatus("r1", "b-00001", ReplicaState.READY)))
    output = _leave_behind(folder)

    if seen_by == "observe":
        assert (await cluster.observe([_record("r1")]))["r1"].message == "its supervisor died"
    else:
        assert await cluster.found([]) == ()
    with output:
        assert output.read() == b""  # nobody holds the other end any more
    assert not (folder / leftovers.RECORD_FILE).exists()


def test_processors_are_those_that_this_process_may_use() -> None:
    assert processors((0, 1), {4, 7, 5}) == (4, 5)
    assert processors((0, 3), {2}) == (2,)
    assert processors((), {2}) == ()
