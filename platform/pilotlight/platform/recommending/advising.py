"""Every half minute: what new requests and observations say of the revisions that had some, and what to propose.

A function at zero costs nothing here. Nothing is proposed while replicas fail, and nothing is applied: a proposal is a
row, a decision and, in a cluster, an event; whoever declares the function applies it by its manifest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import structlog

from pilotlight.activator.values import Clock, FunctionId
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.control.state import Known
from pilotlight.platform.database.connection import DatabaseError
from pilotlight.platform.database.recommendations import Recommendations
from pilotlight.platform.database.records import Records
from pilotlight.platform.recommending.counting import SETTLED_SECONDS, Counted, count
from pilotlight.platform.recommending.following import Follower, slo_of
from pilotlight.platform.values import DecisionRecord, Revision
from pilotlight.recommender.proposals import Evidence, Proposal, Settings, propose
from pilotlight.recommender.sketches import RequestLengths

LOOK_SECONDS = 30.0
ROWS = 5000
"""Of the ledger that one look takes at most; after an outage the next ones catch up."""
RECOMMENDED = "recommended"
"""Reason of the decision that a new proposal is recorded as."""

log = structlog.get_logger(__name__)


class Advisor:
    """Run it beside the control loop, whose memory it reads."""

    def __init__(self, follower: Follower, rows: Recommendations, records: Records, clock: Clock) -> None:
        self._follower = follower
        self._known: Known = follower.known
        self._rows = rows
        self._records = records
        self._clock = clock
        self._counted: Counted | None = None
        self._proposed: dict[FunctionId, tuple[str, tuple[Proposal, ...]]] = {}
        """With the revision that they are for."""

    async def run(self) -> None:
        """Until cancelled; a database that is away is asked again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except DatabaseError as error:
                log.warning("nothing is recommended without the database", error=str(error))
            except Exception:
                log.exception("look for recommendations failed; it is tried again")

    def recommended(self, function: FunctionId) -> str:
        """What of a function should be set otherwise, for people; empty: nothing."""
        return "; ".join(map(sentence, self._proposed.get(function, ("", ()))[1]))

    async def look(self) -> None:
        """One look. Raises DatabaseError."""
        touched = await asyncio.to_thread(self._count) | self._follower.take_touched() | self._outdated()
        for function in sorted(touched & self._known.functions.keys()):
            await self._advise(function)

    def _count(self) -> frozenset[FunctionId]:
        now, made = self._clock.now(), {name: each.created_at for name, each in self._known.functions.items()}
        before = self._counted = self._remembered()
        if not made:
            return frozenset()  # as long as none is known, no request can be told to be of one
        rows = self._rows.requests(before.until, now - SETTLED_SECONDS, ROWS)
        counted = count(before, rows, now, made)
        if counted.changed:
            self._rows.count({name: counted.lengths[name] for name in counted.changed}, counted.until)
        self._counted = counted
        return counted.changed

    def _remembered(self) -> Counted:
        """What was counted so far, without functions that are gone."""
        gone = self._rows.forget()
        if self._counted is None:
            self._proposed = dict(_by_function(self._rows))
            return Counted(*self._rows.lengths())
        for name in gone:
            self._proposed.pop(name, None)
        kept = {name: lengths for name, lengths in self._counted.lengths.items() if name not in gone}
        return replace(self._counted, lengths=kept)

    def _outdated(self) -> frozenset[FunctionId]:
        """Functions whose proposals are for a revision that has been replaced."""
        current = {name: function.revision for name, function in self._known.functions.items()}
        return frozenset(
            name for name, (made_for, _) in self._proposed.items() if current.get(name, made_for) != made_for
        )

    async def _advise(self, name: FunctionId) -> None:
        function = self._known.functions[name]
        revision = self._known.revisions[name, function.revision]
        at = RevisionId(name, revision.name)
        if self._follower.in_trouble(at, self._clock.now()):
            return
        lengths = self._counted.lengths.get(name, RequestLengths()) if self._counted else RequestLengths()
        found = propose(settings_of(revision), self._evidence(at, lengths), slo_of(function.policy))
        before = self._proposed.get(name, (revision.name, ()))
        if _alike(before, (revision.name, found)):
            return
        await self._tell(at, found)

    def _evidence(self, at: RevisionId, lengths: RequestLengths) -> Evidence:
        followed = self._follower.followed.get(at)
        if followed is None:
            return Evidence(lengths=lengths)
        return Evidence(self._follower.performance(at), lengths, followed.state.prompt, followed.busiest)

    async def _tell(self, at: RevisionId, found: tuple[Proposal, ...]) -> None:
        now, memory = self._clock.now(), self._known.memory_of(*at)
        desired = memory.state.desired if memory else 0
        await asyncio.to_thread(self._rows.propose, at.function, at.name, found, now)
        records = [DecisionRecord(now, *at, desired, RECOMMENDED, sentence(each), vars(each)) for each in found]
        await asyncio.to_thread(self._records.decided, records)
        if found:
            self._proposed[at.function] = at.name, found
        else:
            self._proposed.pop(at.function, None)
        log.info("recommended", function=str(at.function), options=[proposal.option for proposal in found])


def settings_of(revision: Revision) -> Settings:
    """What the revision's engine runs with."""
    return Settings(revision.template.slots, revision.template.context)


def sentence(proposal: Proposal) -> str:
    """As people read it."""
    now = "not set" if proposal.now is None else str(proposal.now)
    interval = f"95 % interval {proposal.low} to {proposal.high}"
    return f"{proposal.option}: {now} -> {proposal.proposed} ({interval}): {proposal.reason}"


def _alike(before: tuple[str, tuple[Proposal, ...]], after: tuple[str, tuple[Proposal, ...]]) -> bool:
    """Estimates move a little all the time: what is inside the interval of before is no news."""
    if before[0] != after[0] or [each.option for each in before[1]] != [each.option for each in after[1]]:
        return not before[1] and not after[1]
    return all(old.low <= new.proposed <= old.high for old, new in zip(before[1], after[1], strict=True))


def _by_function(rows: Recommendations) -> Iterator[tuple[FunctionId, tuple[str, tuple[Proposal, ...]]]]:
    """What was proposed before a restart."""
    known = rows.all(limit=None)
    for name in {record.function for record in known}:
        mine = [record for record in known if record.function == name]
        yield (
            name,
            (
                mine[0].revision,
                tuple(
                    Proposal(each.option, each.now, each.proposed, each.low, each.high, each.reason) for each in mine
                ),
            ),
        )
