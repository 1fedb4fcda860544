"""All functions' queues together: who is released, refused, woken for, each time something has changed."""

from __future__ import annotations

from collections.abc import Mapping

from pilotlight.activator import errors
from pilotlight.activator.admission import Load, expected_wait, expired, failed, failure_remaining
from pilotlight.activator.errors import RefusedError
from pilotlight.activator.forwarding import ReplicaLostError
from pilotlight.activator.functions import FunctionState, requests
from pilotlight.activator.inhand import InHand
from pilotlight.activator.settings import Settings
from pilotlight.activator.state import RevisionState
from pilotlight.activator.traffic import Address
from pilotlight.activator.values import Clock, Demand, FunctionId, Route, Waker


class Fleet:
    """Mutates queues and pokes the requests concerned; no I/O of its own."""

    def __init__(self, waker: Waker, clock: Clock, settings: Settings) -> None:
        self._waker = waker
        self._clock = clock
        self._settings = settings
        self._functions: dict[FunctionId, FunctionState] = {}
        self._waiting: dict[FunctionId, int] = {}  # only of functions where somebody waits
        self._queued = 0
        self._touched: set[FunctionId] = set()

    def change(self, routes: Mapping[FunctionId, Route | None]) -> None:
        """None: the function is gone; those that are not named stay as they are."""
        now = self._clock.monotonic()
        for function, route in routes.items():
            state = self._functions.get(function)
            if state is None and route is not None:
                self._touched.add(function)
                self._functions[function] = FunctionState(route, now)
            elif state is not None and route is None:
                self._touched.add(function)
                self._remove(self._functions.pop(function))
            elif state is not None and route is not None:
                if state.update(route, now):
                    self._touched.add(function)
                self._settle_all(state)

    def state_of(self, function: FunctionId, request: str, address: Address) -> RevisionState | None:
        """Where a request of this id belongs; None: the function is gone."""
        state = self._functions.get(function)
        return state.state_of(request, address) if state is not None else None

    def arrival(self, function: FunctionId, request: str, address: Address) -> RevisionState | None:
        """Note that somebody asks for a function, whether or not it will be admitted; see `state_of`."""
        state = self._functions.get(function)
        if state is None:
            return None
        self._touched.add(function)
        return state.arrival(request, address, self._clock.now())

    def is_cold(self, function: FunctionId, request: str, address: Address) -> bool:
        """No replica takes this request just now."""
        state = self.state_of(function, request, address)
        return state is None or state.is_cold

    def load(self, state: RevisionState) -> Load:
        beside = self._waiting.get(state.route.function, 0) - state.queue.queued
        return state.load(self._clock.monotonic(), beside, self._queued)

    def demand(self) -> dict[FunctionId, Demand]:
        return {function: state.demand() for function, state in self._functions.items()}

    def waiting(self) -> dict[FunctionId, Demand]:
        """The demand of functions that requests wait for; costs nothing for the others."""
        return {name: self._functions[name].demand() for name in self._waiting if name in self._functions}

    def changes(self) -> dict[FunctionId, Demand | None]:
        """The demand of every function whose work has changed since the last call; None: it is gone."""
        touched, self._touched = self._touched, set()
        found = {function: self._functions.get(function) for function in touched}
        return {function: state.demand() if state is not None else None for function, state in found.items()}

    def wake(self, state: RevisionState) -> None:
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
        function = self._functions.get(state.route.function)
        if function is not None:
            function.last_active = moment
        state.last_active = moment
        self._touched.add(state.route.function)
        state.queue.leave(request)
        self._settle(state)

    def refuse(self, request: InHand, refusal: RefusedError) -> None:
        """End a hold; the place is free at once, so that no slot goes to one who is leaving."""
        if request.waiting:
            self._touched.add(request.state.route.function)
            request.state.queue.leave(request)
            self._count(request.state.route.function)
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
        self._touched.add(request.state.route.function)
        request.state.queue.leave(request)
        state = self.state_of(request.state.route.function, request.id, request.address)
        if state is None:
            self._count(request.state.route.function)
            request.refuse(errors.deleted(request.state.route.function))
            return
        request.moves(state, self._clock.monotonic())
        state.queue.enqueue(request, first=True)
        self._settle(state)

    def answered(self, request: InHand) -> None:
        """See `serving.Lanes`."""
        if request.lane is not None:
            request.state.queue.trust(request.lane)

    def too_late(self, request: InHand) -> RefusedError:
        """See `serving.Lanes`."""
        now, state = self._clock.monotonic(), request.state
        return expired(state.route, now - request.arrived, expected_wait(state.route, state.load(now)))

    # Time

    def tick(self) -> list[InHand]:
        """Deadlines of all that wait, suspects that may be tried again; returns whose heartbeats are due."""
        now = self._clock.monotonic()
        due: list[InHand] = []
        for state in [self._functions[function] for function in self._waiting if function in self._functions]:
            self._expire(state, now)
            self._settle_all(state)
            due += [request for request in state.waiting() if request.progress and request.beat_at <= now]
        return due

    def _expire(self, function: FunctionState, now: float) -> None:
        for request in function.waiting():
            if request.expires <= now:
                self.refuse(request, self.too_late(request))

    def _settle_all(self, function: FunctionState) -> None:
        for state in function.revisions():
            self._settle(state)

    def _settle(self, state: RevisionState) -> None:
        """Release what can be released, refuse what cannot be served, wake for what is left."""
        now = self._clock.monotonic()
        for ticket in state.queue.assign(now):
            assert isinstance(ticket, InHand)
            self._touched.add(state.route.function)
            ticket.released(now)
        self._count(state.route.function)
        if not state.queue.queued:
            state.should_wake(now, self._settings.wake_repeat_seconds)
            return
        failing = failure_remaining(state.route, state.load(now))
        if failing is not None and state.queue.in_flight == 0:
            self._refuse_all(state, failing)
        elif state.should_wake(now, self._settings.wake_repeat_seconds):
            self._waker.wake(state.route.function)

    def _count(self, name: FunctionId) -> None:
        """Keep the sums that admission weighs: with ten thousand functions they cannot be taken anew each time."""
        function = self._functions.get(name)
        queued = function.queued if function is not None else 0
        self._queued += queued - self._waiting.pop(name, 0)
        if queued:
            self._waiting[name] = queued

    def _refuse_all(self, state: RevisionState, retry_after: float) -> None:
        for request in requests(state):
            self.refuse(request, failed(state.route, retry_after))

    def _remove(self, function: FunctionState) -> None:
        """A deleted function: what waits is refused, what runs may finish."""
        for request in function.waiting():
            self.refuse(request, errors.deleted(function.route.function))
