"""Replicas as processes: a real supervisor with the simulated engine, without the platform around it."""

from __future__ import annotations

from pathlib import Path

from pilotlight.platform.embedded.cluster import ENDED_KEPT, EmbeddedCluster, processors
from pilotlight.runtime.spec import EngineSpec, ReplicaSpec, ReplicaState


async def test_a_replica_that_was_never_started_is_missing(tmp_path: Path) -> None:
    cluster = EmbeddedCluster(tmp_path / "replicas")

    assert await cluster.observe(["nobody"]) == {}
    await cluster.drain("nobody")
    await cluster.stop("nobody")


async def test_a_supervisor_that_ends_at_once_is_a_failure_with_its_last_words(tmp_path: Path) -> None:
    cluster = EmbeddedCluster(tmp_path / "replicas")
    spec = ReplicaSpec("r1", "a/b", "b-00001", "generate", "file:///x", "sha256:0", ("b",), EngineSpec("unknown"))

    await cluster.start(spec)
    while (found := (await cluster.observe(["r1"]))["r1"]).state is ReplicaState.STARTING:
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

    assert await cluster.strays([]) == ()
    assert not (folder / "spec.json").exists()


def test_processors_are_those_that_this_process_may_use() -> None:
    assert processors((0, 1), {4, 7, 5}) == (4, 5)
    assert processors((0, 3), {2}) == (2,)
    assert processors((), {2}) == ()
