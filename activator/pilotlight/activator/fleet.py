"""All functions' queues together: who is released, refused, woken for, each time something has changed."""

from __future__ import annotations

from collections.abc import Mapping

from pilotlight.activator import errors
from pilotlight.activator.admission import Load, expected_wait, expired, failed, failure_remaining
from pilotlight.activator.errors import RefusedError
from pilotlight.activator.forwarding import ReplicaLostError
from pilotlight.activator.inhand import InHand
from pilotlight.activator.settings import Settings
from pilotlight.activator.state import FunctionState
from pilotlight.activator.values import Clock, Demand, FunctionId, Route, Waker


class Fleet:
    """Mutates queues and pokes the requests concerned; no I/O of its own."""

    def __init__(self, waker: Waker, clock: Clock, settings: Settings) -> None:
        self._waker = waker
        self._clock = clock
        self._settings = settings
        self.states: dict[FunctionId, FunctionState] = {}
        self._touched: set[FunctionId] = set()

    def apply(self, routes: Mapping[FunctionId, Route]) -> None:
        now = self._clock.monotonic()
        self._touched |= self.states.keys() ^ routes.keys()
        for function in self.states.keys() - routes.keys():
            self._remove(self.states.pop(function))
        for function, route in routes.items():
            state = self.states.get(function)
            if state is None:
                self.states[function] = FunctionState(route, now)
            else:
                state.update(route, now)
                self._settle(state)

    def arrival(self, function: FunctionId) -> FunctionState | None:
        """Note that somebody asks for a function, whether or not it will be admitted."""
        state = self.states.get(function)
        if state is not None:
            state.arrived_total += 1
            state.last_active = self._clock.now()
            self._touched.add(function)
        return state

    def load(self, state: FunctionState) -> Load:
        queued = sum(other.queue.queued for other in self.states.values())
        return state.load(self._clock.monotonic(), queued)

    def demand(self) -> dict[FunctionId, Demand]:
        return {function: state.demand() for function, state in self.states.items()}

    def changes(self) -> dict[FunctionId, Demand | None]:
        """The demand of every function whose work has changed since the last call; None: it is gone."""
        touched, self._touched = self._touched, set()
        found = {function: self.states.get(function) for function in touched}
        return {function: state.demand() if state is not None else None for function, state in found.items()}

    def wake(self, state: FunctionState) -> None:
        if state.note_wake(self._clock.monotonic(), self._settings.wake_repeat_seconds):
            self._waker.wake(state.route.function)

    def enter(self, request: InHand) -> None:
        """Take a place in the queue, or a free slot at once."""
        self._touched.add(request.state.route.function)
        request.state.queue.enqueue(request)
        self._settle(request.state)

    def leave(self, request: InHand, moment: float) -> None:
        """Free the place or the slot; `moment`: Unix time."""
        state = request.state
        if request.outcome == "ok" and request.served_from is not None and request.served_until is not None:
            state.learn_service(request.served_until - request.served_from)
        state.last_active = moment
        self._touched.add(state.route.function)
        state.queue.leave(request)
        self._settle(state)

    def refuse(self, request: InHand, refusal: RefusedError) -> None:
        """End a hold; the place is free at once, so that no slot goes to one who is leaving."""
        if request.waiting:
            self._touched.add(request.state.route.function)
            request.state.queue.leave(request)
        request.refuse(refusal)

    # What serving asks

    def lost(self, request: InHand, error: ReplicaLostError) -> None:
        """See `serving.Lanes`."""
        lane = request.lane
        if lane is None:
            return
        settings = self._settings
        request.state.queue.suspect(
            lane, self._clock.monotonic(), settings.suspect_seconds, settings.suspect_most_seconds
        )
        self._waker.lost(request.state.route.function, lane.replica.id, error.reason)

    def put_back(self, request: InHand) -> None:
        """See `serving.Lanes`."""
        request.unserved()
        queue = request.state.queue
        self._touched.add(request.state.route.function)
        queue.leave(request)
        if self.states.get(request.state.route.function) is not request.state:
            request.refuse(errors.deleted(request.state.route.function))
            return
        queue.enqueue(request, first=True)
        self._settle(request.state)

    def answered(self, request: InHand) -> None:
        """See `serving.Lanes`."""
        if request.lane is not None:
            request.state.queue.trust(request.lane)

    # Time

    def tick(self) -> list[InHand]:
        """Deadlines of all that wait, suspects that may be tried again; returns whose heartbeats are due."""
        now = self._clock.monotonic()
        due: list[InHand] = []
        for state in self.states.values():
            if state.queue.queued:
                self._expire(state, now)
                self._settle(state)
                due += [request for request in _requests(state) if request.progress and request.beat_at <= now]
        return due

    def _expire(self, state: FunctionState, now: float) -> None:
        for request in _requests(state):
            if request.expires <= now:
                wait = expected_wait(state.route, state.load(now))
                self.refuse(request, expired(state.route, now - request.arrived, wait))

    def _settle(self, state: FunctionState) -> None:
        """Release what can be released, refuse what cannot be served, wake for what is left."""
        now = self._clock.monotonic()
        for ticket in state.queue.assign(now):
            assert isinstance(ticket, InHand)
            self._touched.add(state.route.function)
            ticket.released(now)
        if not state.queue.queued:
            state.should_wake(now, self._settings.wake_repeat_seconds)
            return
        failing = failure_remaining(state.route, state.load(now))
        if failing is not None and state.queue.in_flight == 0:
            self._refuse_all(state, failing)
        elif state.should_wake(now, self._settings.wake_repeat_seconds):
            self._waker.wake(state.route.function)

    def _refuse_all(self, state: FunctionState, retry_after: float) -> None:
        for request in list(_requests(state)):
            self.refuse(request, failed(state.route, retry_after))

    def _remove(self, state: FunctionState) -> None:
        """A deleted function: what waits is refused, what runs may finish."""
        for request in list(_requests(state)):
            self.refuse(request, errors.deleted(state.route.function))


def _requests(state: FunctionState) -> list[InHand]:
    return [ticket for ticket in state.queue.waiting() if isinstance(ticket, InHand)]
