"""Who waits, who is released, and to which replica: a state machine without I/O.

`assign()` is the only place that decides. Its mutable state is the two orders of waiting tickets and the lanes; the
caller acts on what it returns. Laws: no lane above its slots, first come first served within a class, interactive
before batch, a ticket is waiting or on one lane or neither, never both.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from pilotlight.activator.values import Replica


class Ticket:
    """One request's place: waiting, or on a lane."""

    __slots__ = ("batch", "lane", "waiting")

    def __init__(self, batch: bool) -> None:
        self.batch = batch
        self.lane: Lane | None = None
        self.waiting = False


class Lane:
    """One replica with what is on it."""

    __slots__ = ("failures", "in_flight", "listed", "replica", "suspect_until")

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.in_flight = 0
        self.listed = True  # False: the host no longer names it, running requests only
        self.failures = 0
        self.suspect_until = 0.0

    def __repr__(self) -> str:
        return f"<Lane {self.replica.id} {self.in_flight}/{self.replica.slots}>"

    def is_open(self, now: float) -> bool:
        free = self.in_flight < self.replica.slots
        return free and self.listed and self.replica.accepting and self.suspect_until <= now

    def load(self) -> float:
        """Weighted load that one more request would make: smaller is better."""
        return (self.in_flight + 1) / self.replica.weight


class Queue:
    """One function's waiting requests and lanes."""

    __slots__ = ("_batch", "_interactive", "_lanes", "in_flight")

    def __init__(self) -> None:
        self._interactive: OrderedDict[Ticket, None] = OrderedDict()
        self._batch: OrderedDict[Ticket, None] = OrderedDict()
        self._lanes: dict[str, Lane] = {}
        self.in_flight = 0

    def __repr__(self) -> str:
        return f"<Queue {self.queued} waiting, {list(self._lanes.values())}>"

    @property
    def queued(self) -> int:
        return len(self._interactive) + len(self._batch)

    @property
    def slots(self) -> int:
        """Slots of the replicas that take new work."""
        return sum(lane.replica.slots for lane in self._lanes.values() if lane.listed and lane.replica.accepting)

    def waiting(self) -> Iterator[Ticket]:
        """In order of release."""
        yield from self._interactive
        yield from self._batch

    def lanes(self) -> Iterable[Lane]:
        return self._lanes.values()

    def set_replicas(self, replicas: Iterable[Replica]) -> None:
        """Follow what the host names; a replica that is gone keeps its lane until its last request has left."""
        named = {replica.id: replica for replica in replicas}
        for lane in list(self._lanes.values()):
            lane.listed = lane.replica.id in named
            self._forget(lane)
        for replica in named.values():
            lane = self._lanes.setdefault(replica.id, Lane(replica))
            if lane.replica.url != replica.url:  # started anew under its old id
                lane.suspect_until, lane.failures = 0.0, 0
            lane.replica = replica

    def enqueue(self, ticket: Ticket, *, first: bool = False) -> None:
        """Take a place at the end of its class; `first`: back at its head, after a replica was lost."""
        order = self._order(ticket)
        order[ticket] = None
        ticket.waiting = True
        if first:
            order.move_to_end(ticket, last=False)

    def assign(self, now: float) -> list[Ticket]:
        """Give free slots to waiting tickets; returns those that were released, each with its lane set."""
        released: list[Ticket] = []
        while self.queued:
            lane = min((lane for lane in self._lanes.values() if lane.is_open(now)), key=Lane.load, default=None)
            if lane is None:
                break
            ticket, _ = (self._interactive or self._batch).popitem(last=False)
            ticket.waiting = False
            ticket.lane = lane
            lane.in_flight += 1
            self.in_flight += 1
            released.append(ticket)
        return released

    def leave(self, ticket: Ticket) -> None:
        """Give up the place or the slot, whichever the ticket has; a second time does nothing."""
        if ticket.waiting:
            del self._order(ticket)[ticket]
            ticket.waiting = False
        if ticket.lane is not None:
            lane, ticket.lane = ticket.lane, None
            lane.in_flight -= 1
            self.in_flight -= 1
            self._forget(lane)

    def suspect(self, lane: Lane, now: float, first: float, most: float) -> None:
        """Close a lane that failed, for `first` seconds doubled with every failure up to `most`; once per period."""
        if lane.suspect_until > now:
            return
        lane.suspect_until = now + min(most, first * 2**lane.failures)
        lane.failures = min(lane.failures + 1, 16)

    def trust(self, lane: Lane) -> None:
        """It answered: past failures are forgotten."""
        lane.failures = 0
        lane.suspect_until = 0.0

    def _order(self, ticket: Ticket) -> OrderedDict[Ticket, None]:
        return self._batch if ticket.batch else self._interactive

    def _forget(self, lane: Lane) -> None:
        if not lane.listed and lane.in_flight == 0 and self._lanes.get(lane.replica.id) is lane:
            del self._lanes[lane.replica.id]
