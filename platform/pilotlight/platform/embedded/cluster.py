"""Replicas as processes on this machine, one supervisor each in its own folder; a `control.cluster.Cluster`."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pilotlight.activator.values import FunctionId
from pilotlight.platform.control.cluster import ClusterError, Found, RevisionId, Wanted
from pilotlight.platform.embedded.logs import follow_log
from pilotlight.platform.values import ReplicaRecord
from pilotlight.runtime import client
from pilotlight.runtime.codec import BadDocumentError, parse_spec
from pilotlight.runtime.spec import Phase, PhaseReport, ReplicaSpec, ReplicaState, ReplicaStatus

ANSWER_SECONDS = 1.0
"""A supervisor that is slower counts as it last said: one that hangs must not hold up the others."""
ENDED_KEPT = 20
"""Folders of ended replicas that are kept for their logs."""


class EmbeddedCluster:
    """The folder `<state>/replicas/`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._launched: dict[str, tuple[int, float]] = {}
        self._exiting: dict[str, int] = {}
        self._looked = False

    async def start(self, spec: ReplicaSpec) -> None:
        placed = replace(spec, cpus=processors(spec.cpus, os.sched_getaffinity(0)))
        try:
            pid = await asyncio.to_thread(client.launch, self._folder / spec.replica, placed)
        except OSError as error:
            raise ClusterError(f"the supervisor of {spec.replica} cannot be started: {error}") from error
        self._launched[spec.replica] = (pid, spec.created_at)

    async def observe(self, replicas: Sequence[ReplicaRecord]) -> Mapping[str, ReplicaStatus]:
        for name, pid in tuple(self._exiting.items()):
            if not client.alive(self._folder / name, pid):  # which reaps it
                del self._exiting[name]
        names = tuple(record.id for record in replicas)
        found = await asyncio.gather(*(self._look(name) for name in names))
        return {name: status for name, status in zip(names, found, strict=True) if status is not None}

    async def found(self, known: Collection[str]) -> tuple[Found, ...]:
        """Of an earlier platform: nobody else starts any here, so it looks once."""
        if self._looked:
            return ()
        self._looked = True
        return await asyncio.to_thread(self._found, frozenset(known))

    def settle(self, wanted: Mapping[RevisionId, Wanted]) -> None:
        """Nothing: here each replica is started and ended by its name."""

    async def drain(self, replica: str) -> None:
        await client.drain(self._folder / replica)

    async def stop(self, replica: str) -> None:
        await client.stop(self._folder / replica)

    async def forget(self, replica: str) -> None:
        if replica in self._launched:
            self._exiting[replica] = self._launched.pop(replica)[0]
        await asyncio.to_thread(self._forget, replica)

    def log(self, replica: str, tail: int, follow: bool) -> AsyncIterator[bytes]:
        folder = self._folder / replica
        return follow_log(folder / client.ENGINE_LOG_FILE, tail, lambda: follow and client.alive(folder))

    async def _look(self, replica: str) -> ReplicaStatus | None:
        folder = self._folder / replica
        if not folder.is_dir():
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await client.status(folder)
        except TimeoutError:
            status = await asyncio.to_thread(client.last_status, folder)
        if status is not None:
            if status.state is ReplicaState.FAILED:
                await asyncio.to_thread(client.clear, folder)
            return status
        pid, created_at = self._launched.get(replica, (0, time.time()))
        if await asyncio.to_thread(client.alive, folder, pid):
            return _scheduled(replica, created_at)
        return _failed(replica, self._last_words(folder))

    def _last_words(self, folder: Path) -> tuple[str, ...]:
        try:
            return tuple((folder / client.LOG_FILE).read_text(errors="replace").splitlines()[-20:])
        except OSError:
            return ()

    def _found(self, known: frozenset[str]) -> tuple[Found, ...]:
        folders = [path for path in self._folder.iterdir() if path.is_dir() and path.name not in known]
        running = [path for path in folders if client.alive(path)]
        for path in folders:
            if path not in running:
                client.clear(path)
                (path / client.SPEC_FILE).unlink(missing_ok=True)
        return tuple(map(_stray, running))

    def _forget(self, replica: str) -> None:
        (self._folder / replica / client.SPEC_FILE).unlink(missing_ok=True)
        ended = [path for path in self._folder.iterdir() if not (path / client.SPEC_FILE).exists()]
        ended.sort(key=lambda path: path.stat().st_mtime)
        for path in ended[:-ENDED_KEPT]:
            shutil.rmtree(path, ignore_errors=True)


def processors(chosen: Collection[int], allowed: Collection[int]) -> tuple[int, ...]:
    """The plan counts processors from 0; this process may be bound to others, as in a container. Pure."""
    real = sorted(allowed)
    return tuple(real[number] for number in chosen if number < len(real))


def _scheduled(replica: str, created_at: float) -> ReplicaStatus:
    phases = (PhaseReport(Phase.SCHEDULE, created_at),)
    return ReplicaStatus(replica, "", ReplicaState.STARTING, phases)


def _stray(folder: Path) -> Found:
    """By its own spec; one without a readable one is of no function."""
    try:
        spec = parse_spec((folder / client.SPEC_FILE).read_bytes())
    except (OSError, BadDocumentError):
        return Found(folder.name, RevisionId(FunctionId("", ""), ""), 0.0)
    function = FunctionId(*spec.function.split("/", 1))
    return Found(folder.name, RevisionId(function, spec.revision), spec.created_at)


def _failed(replica: str, lines: tuple[str, ...]) -> ReplicaStatus:
    message = "its supervisor ended before it said anything"
    return ReplicaStatus(replica, "", ReplicaState.FAILED, message=message, log_tail=lines)
