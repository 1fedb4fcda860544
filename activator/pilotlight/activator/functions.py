"""One function: a queue for each of its revisions, and which of them a waiting request belongs to."""

from __future__ import annotations

from collections.abc import Iterator

from pilotlight.activator.inhand import InHand
from pilotlight.activator.state import RevisionState
from pilotlight.activator.traffic import Address
from pilotlight.activator.values import Demand, RevisionDemand, Route


class FunctionState:
    """Mutable; revisions in traffic are always there, others until their last replica and request are gone."""

    __slots__ = ("_revisions", "arrived_total", "last_active", "route")

    def __init__(self, route: Route, now: float) -> None:
        self.route = route
        self.arrived_total = 0
        self.last_active = 0.0  # Unix time
        self._revisions: dict[str, RevisionState] = {}
        self._follow(route, now)

    def revisions(self) -> Iterator[RevisionState]:
        return iter(list(self._revisions.values()))

    def state_of(self, request: str, address: Address) -> RevisionState:
        """Where the request of this id belongs now."""
        return self._revisions[self.route.revision_of(request, address)]

    def arrival(self, request: str, address: Address, moment: float) -> RevisionState:
        """See `state_of`; `moment`: Unix time."""
        state = self.state_of(request, address)
        self.arrived_total += 1
        self.last_active = state.last_active = moment
        return state

    def update(self, route: Route, now: float) -> bool:
        """Follow the host: what waits moves along with the traffic, what runs stays where it is. True: it may move."""
        before, self.route = self.route, route
        self._follow(route, now, self._revisions.get(before.revision))
        moved = (before.revision, before.splits, before.hosts) != (route.revision, route.splits, route.hosts)
        if moved:
            self._move(now)
        self._forget()
        return moved

    @property
    def queued(self) -> int:
        return sum(state.queue.queued for state in self._revisions.values())

    def waiting(self) -> list[InHand]:
        return [request for state in self._revisions.values() for request in requests(state)]

    def demand(self) -> Demand:
        states = self._revisions.values()
        parts = [_part(state) for state in states]
        return Demand(
            queued=sum(part.queued for part in parts),
            in_flight=sum(part.in_flight for part in parts),
            arrived_total=self.arrived_total,
            last_active=self.last_active,
            per_replica=tuple((lane.replica.id, lane.in_flight) for state in states for lane in state.queue.lanes()),
            per_revision=tuple(part for part in parts if part.queued or part.in_flight or part.last_active),
        )

    def _follow(self, route: Route, now: float, like: RevisionState | None = None) -> None:
        named = route.in_traffic() | {replica.revision for replica in route.replicas}
        for revision in sorted(named | self._revisions.keys()):
            state = self._revisions.get(revision)
            if state is None:
                self._revisions[revision] = RevisionState(route.of(revision), now, like)
            else:
                state.update(route.of(revision), now)

    def _move(self, now: float) -> None:
        """In order of arrival over all revisions, so that nobody is overtaken by the change."""
        for request in sorted(self.waiting(), key=lambda waiting: waiting.arrived):
            request.state.queue.leave(request)
            request.moves(self.state_of(request.id, request.address), now)
            request.state.queue.enqueue(request)

    def _forget(self) -> None:
        kept = self.route.in_traffic()
        for revision, state in list(self._revisions.items()):
            if revision not in kept and not state.queue.queued and not any(state.queue.lanes()):
                del self._revisions[revision]


def _part(state: RevisionState) -> RevisionDemand:
    return RevisionDemand(state.route.revision, state.queue.queued, state.queue.in_flight, state.last_active)


def requests(state: RevisionState) -> list[InHand]:
    """Those that wait for a revision, in order of release."""
    return [ticket for ticket in state.queue.waiting() if isinstance(ticket, InHand)]
