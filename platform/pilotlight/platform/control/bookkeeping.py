"""Writing down what the loop decided, and how replicas spent their seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pilotlight.detector.values import Reason
from pilotlight.platform.control.state import Known
from pilotlight.platform.control.world import Drain, Plan
from pilotlight.platform.database.records import Records
from pilotlight.platform.database.replicas import Replicas
from pilotlight.platform.ledger.intervals import Open, Sight, resume, step
from pilotlight.platform.values import DecisionRecord

ACCOUNT_SECONDS = 5.0
"""Open intervals are written so often: what a kill -9 may lose of replica-seconds."""
RESUME_SECONDS = 3600.0
"""How far back an adopted replica's last interval is looked for; an orphan ends after 30 s."""


class Bookkeeper:
    """Decisions once per change, intervals in batches."""

    def __init__(self, records: Records, replicas: Replicas, known: Known) -> None:
        self._records = records
        self._replicas = replicas
        self._known = known
        self._open = Open()
        self._accounted = 0.0

    async def resume(self, now: float) -> None:
        """Go on with the intervals of adopted replicas."""
        intervals = await asyncio.to_thread(self._replicas.intervals, None, now - RESUME_SECONDS)
        self._open = resume(intervals, frozenset(self._known.live))

    async def record(self, result: Plan, now: float) -> None:
        records: list[DecisionRecord] = []
        for name, decision in result.decisions.items():
            memory, function = self._known.memory[name], self._known.functions[name]
            reason, sentence = decision.reason.value, decision.sentence
            if memory.waits:
                reason, sentence = "no_room", memory.waits
            if memory.decided == (decision.desired, reason) or decision.reason is Reason.UNKNOWN:
                continue  # unknown is the first look at a function, before the activator has heard of it
            memory.decided = (decision.desired, reason)
            record = DecisionRecord(now, name, function.revision, decision.desired, reason, sentence, decision.inputs)
            records.append(record)
        for action in result.actions:
            if isinstance(action, Drain) and "makes way" in action.reason:
                owner = self._known.live[action.replica].record
                records.append(DecisionRecord(now, owner.function, owner.revision, 0, "evicted", action.reason))
        if records:
            await asyncio.to_thread(self._records.decided, records)

    async def account(self, sights: Iterable[Sight], now: float) -> None:
        self._open = step(self._open, sights, now)
        due = now - self._accounted >= ACCOUNT_SECONDS
        batch = [*self._open.closed, *(self._open.current.values() if due else ())]
        if batch:
            await asyncio.to_thread(self._replicas.write_intervals, batch)
        if due:
            self._accounted = now
