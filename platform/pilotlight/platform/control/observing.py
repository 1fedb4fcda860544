"""Taking in what replicas say of themselves: who is ready, who ended, who crashed, and how long starts take."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from pilotlight.activator.values import FunctionId
from pilotlight.detector.backoff import after_crash
from pilotlight.detector.values import BackOff
from pilotlight.platform.control.cluster import Cluster
from pilotlight.platform.control.routes import failure_text, phase_seconds
from pilotlight.platform.control.state import Known, Live
from pilotlight.platform.control.writing import Writer
from pilotlight.platform.database.connection import DatabaseError
from pilotlight.platform.database.replicas import Replicas
from pilotlight.platform.values import ReplicaRecord, Template
from pilotlight.recommender import start_eta
from pilotlight.runtime.spec import ReplicaState, ReplicaStatus

HEALTHY_SECONDS = 60.0
"""A replica that has served so long makes the next crash a first one."""
LOOK_BACK = 10
"""Ended replicas that a restart looks at to learn of crashes: the back-off is at its bound by then."""

log = structlog.get_logger(__name__)


class Observer:
    """Writes into the loop's memory and into the database."""

    def __init__(self, cluster: Cluster, replicas: Replicas, writer: Writer, known: Known) -> None:
        self._cluster = cluster
        self._replicas = replicas
        self._writer = writer
        self._known = known
        self._starts: dict[tuple[str, str], Sequence[Mapping[str, float]]] = {}
        self._learned: set[tuple[str, str]] = set()

    async def absorb(self, now: float, restarted: bool = False) -> dict[str, str]:
        """Take in what the replicas say of themselves; returns new names by old ones.

        After a restart, one of which there is no trace was to be launched when the platform ended: that is no crash.
        """
        seen = await self._cluster.observe([live.record for live in self._known.live.values()])
        renamed: dict[str, str] = {}
        for live in tuple(self._known.live.values()):
            status = seen.get(live.record.id)
            if status is not None and status.replica != live.record.id:
                renamed[live.record.id] = status.replica
                await self._rename(live, status.replica)
            if status is None and restarted:
                await self.ended(live, "stopped", "the platform ended before it was launched", now)
            elif status is None:
                await self.ended(live, "failed", "it is gone without a word", now)
            elif status.state in (ReplicaState.FAILED, ReplicaState.STOPPED):
                live.status = status
                await self.ended(live, status.state.value, failure_text(status), now)
            else:
                await self._lives(live, status, now)
        return renamed

    async def _rename(self, live: Live, name: str) -> None:
        await self._writer.write(self._replicas.rename, live.record.id, name)
        del self._known.live[live.record.id]
        live.record = replace(live.record, id=name)
        self._known.live[name] = live

    async def _lives(self, live: Live, status: ReplicaStatus, now: float) -> None:
        live.status = status
        memory = self._known.memory_of(live.record.function, live.record.revision)
        if status.state is not ReplicaState.READY:
            return
        if live.ready_at is None:
            live.ready_at = now
            await self._learn(live, status, now)
        elif memory and memory.state.back_off.failures and now - live.ready_at >= HEALTHY_SECONDS:
            memory.succeeded()

    async def _learn(self, live: Live, status: ReplicaStatus, now: float) -> None:
        template, seconds = live.revision.template, phase_seconds(status)
        identity = (live.record.id, template.digest, template.kind)
        await self._writer.write(self._replicas.started, *identity, seconds, now)
        await self._writer.write(self._replicas.observed, live.record.id, "ready", "")
        with suppress(DatabaseError):  # then the estimate stays as it is
            await self._read_starts(template.digest, template.kind)
        log.info("replica ready", replica=live.record.id, seconds=round(sum(seconds.values()), 2))

    async def ended(self, live: Live, state: str, message: str, now: float) -> None:
        record = live.record
        text = "" if not live.wanted and state == "stopped" else message
        await self._writer.write(self._replicas.observed, record.id, state, text, now)
        await self._cluster.forget(record.id)
        del self._known.live[record.id]
        log.info("replica ended", replica=record.id, state=state, message=text)
        memory = self._known.memory_of(record.function, record.revision)
        if memory and live.wanted and state == "failed":
            memory.crashed(now, message, served=live.ready_at is not None)

    async def remember_starts(self, templates: Iterable[Template]) -> None:
        """Read how long the last starts of models took that are new here; those of the others are kept current."""
        for digest, kind in {(template.digest, template.kind) for template in templates} - self._starts.keys():
            await self._read_starts(digest, kind)

    async def _read_starts(self, digest: str, kind: str) -> None:
        self._starts[digest, kind] = await asyncio.to_thread(self._replicas.starts, digest, kind)
        self._learned.add((digest, kind))

    def take_learned(self) -> frozenset[tuple[str, str]]:
        """Models, by digest and kind of engine, of which starts were read since the last call."""
        learned, self._learned = frozenset(self._learned), set()
        return learned

    def eta(self, template: Template) -> dict[str, float]:
        """Expected seconds of each phase of the next start."""
        return start_eta(self._starts.get((template.digest, template.kind), ()), template.weight_bytes)

    async def crashes(self, function: FunctionId, revision: str) -> BackOff:
        """The back-off that a restart goes on with: the crashes in a row that the database knows of."""
        records = await asyncio.to_thread(self._replicas.recent, function, LOOK_BACK)
        mine = [record for record in records if record.revision == revision]
        served = await asyncio.to_thread(self._replicas.became_ready, [record.id for record in mine])
        return crashes_in_a_row(mine, served)


def crashes_in_a_row(newest_first: Sequence[ReplicaRecord], served: Collection[str] = ()) -> BackOff:
    """Up to the last replica that did not fail; `served` are those that had been ready. Pure."""
    failed: list[ReplicaRecord] = []
    for record in newest_first:
        if record.state != "failed":
            break
        failed.append(record)
    back_off = BackOff()
    for record in reversed(failed):
        at = record.ended_at or record.created_at
        back_off = after_crash(back_off, at, record.message, record.id in served)
    return back_off
