"""Writing down what the loop decided, and how replicas spent their seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from pilotlight.detector.values import Decision, Reason
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.control.placing import told_as
from pilotlight.platform.control.state import Known
from pilotlight.platform.control.world import Action, Drain, Plan
from pilotlight.platform.control.writing import Writer
from pilotlight.platform.database.records import Records
from pilotlight.platform.database.replicas import Replicas
from pilotlight.platform.ledger.intervals import Open, Sight, renamed, resume, step
from pilotlight.platform.values import DecisionRecord, Interval

ACCOUNT_SECONDS = 5.0
"""Open intervals are written so often: what a kill -9 may lose of replica-seconds."""
RESUME_SECONDS = 3600.0
"""How far back an adopted replica's last interval is looked for; an orphan ends after 30 s."""


class Bookkeeper:
    """Decisions once per change, intervals in batches."""

    def __init__(self, records: Records, replicas: Replicas, writer: Writer, known: Known) -> None:
        self._records = records
        self._replicas = replicas
        self._writer = writer
        self._known = known
        self._open = Open()
        self._closed: list[Interval] = []
        self._looked: float | None = None
        self._written = -ACCOUNT_SECONDS

    async def resume(self, now: float, monotonic: float) -> None:
        """Go on with the intervals of adopted replicas."""
        intervals = await asyncio.to_thread(self._replicas.intervals, None, now - RESUME_SECONDS)
        self._open = resume(intervals, frozenset(self._known.live), now)
        self._looked = monotonic

    def rename(self, names: Mapping[str, str]) -> None:
        """Open intervals go on under the replicas' new names."""
        self._open = renamed(self._open, names)

    async def record(self, result: Plan, now: float) -> None:
        """Decisions that differ from the last one, and every eviction."""
        own = {RevisionId(name, self._known.functions[name].revision): each for name, each in result.decisions.items()}
        decided = [self._decided(revision, each, now) for revision, each in (own | {**result.beside}).items()]
        evicted = [self._evicted(action, result, now) for action in result.actions]
        records = [record for record in (*decided, *evicted) if record is not None]
        if records:
            await self._writer.write(self._records.decided, records)
        for record in filter(None, decided):
            if memory := self._known.memory_of(record.function, record.revision):
                memory.decided = (record.desired, record.reason)

    def _decided(self, revision: RevisionId, decision: Decision, now: float) -> DecisionRecord | None:
        memory = self._known.memory_of(*revision)
        if memory is None or decision.reason is Reason.UNKNOWN:
            return None  # unknown is the first look at a function, before the activator has heard of it
        reason, sentence = decision.reason.value, decision.sentence
        if memory.waits:
            reason, sentence = "no_room", memory.waits
        if memory.decided == (decision.desired, reason):
            return None
        return DecisionRecord(now, *revision, decision.desired, reason, sentence, decision.inputs)

    def _evicted(self, action: Action, result: Plan, now: float) -> DecisionRecord | None:
        if not isinstance(action, Drain) or action.makes_way_for is None:
            return None
        live = self._known.live[action.replica]
        owner, left = live.record.function, result.decisions[live.record.function].state.desired
        inputs = {
            "replica": action.replica,
            "makes_way_for": told_as(action.makes_way_for, owner),
            "memory_bytes": live.revision.template.memory_bytes,
            "device_bytes": live.revision.template.device_bytes,
        }
        return DecisionRecord(now, owner, live.record.revision, left, "evicted", action.reason, inputs)

    async def account(self, sights: Iterable[Sight], now: float, monotonic: float) -> None:
        """Take note of a look; what could not be written is written with the next."""
        elapsed = 0.0 if self._looked is None else monotonic - self._looked
        self._looked = monotonic
        self._open = step(self._open, sights, now, elapsed)
        self._closed += self._open.closed
        due = monotonic - self._written >= ACCOUNT_SECONDS
        batch = [*self._closed, *(self._open.current.values() if due else ())]
        if batch:
            self._closed.clear()
            await self._writer.write(self._replicas.write_intervals, batch)
        if due:
            self._written = monotonic
