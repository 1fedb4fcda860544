"""One revision's share of the activator: its route, its queue, and what it has learned of itself."""

from __future__ import annotations

from pilotlight.activator.admission import Load
from pilotlight.activator.queueing import Queue
from pilotlight.activator.values import Route

_LEARNING = 0.2  # weight of the newest service time in the running mean: about the last ten requests


class RevisionState:
    """Mutable; times are monotonic seconds unless a name says otherwise."""

    __slots__ = (
        "_cold_since",
        "_cold_total",
        "_route_at",
        "_woken_at",
        "last_active",
        "queue",
        "route",
        "service_seconds",
        "usual_slots",
    )

    def __init__(self, route: Route, now: float, like: RevisionState | None = None) -> None:
        """`like`: one that it is expected to resemble until it has shown itself."""
        self.route = route  # the function as this revision sees it
        self.queue = Queue()
        self.service_seconds: float = like.service_seconds if like is not None else 0.0
        self.usual_slots: int = like.usual_slots if like is not None else 1
        self.last_active = 0.0  # Unix time
        self._route_at = now
        self._woken_at: float | None = None
        self._cold_total = 0.0
        self._cold_since: float | None = now
        self.update(route, now)

    @property
    def is_cold(self) -> bool:
        return self._cold_since is not None

    def update(self, route: Route, now: float) -> None:
        """Follow the host; an equal route is news as well, its ETA was learned just now."""
        self.route = route
        self._route_at = now
        self.queue.set_replicas(route.replicas)
        accepting = [replica.slots for replica in route.replicas if replica.accepting]
        if accepting:
            self.usual_slots = max(1, sum(accepting))
        self._note_cold(not accepting, now)

    def cold_clock(self, now: float) -> float:
        """Seconds so far without a replica that takes work; a difference of two readings is a request's start time."""
        return self._cold_total + (now - self._cold_since if self._cold_since is not None else 0.0)

    def route_age(self, now: float) -> float:
        return now - self._route_at

    def load(self, now: float, queued_beside: int = 0, queued_total: int = 0) -> Load:
        return Load(
            queued=self.queue.queued,
            queued_beside=queued_beside,
            queued_total=queued_total,
            in_flight=self.queue.in_flight,
            slots=self.queue.slots,
            usual_slots=self.usual_slots,
            service_seconds=self.service_seconds,
            route_age=self.route_age(now),
        )

    def should_wake(self, now: float, repeat: float) -> bool:
        """Whether the host is to be woken now: once when requests begin to wait, then slowly again."""
        if self.queue.queued == 0:
            self._woken_at = None
            return False
        return self.note_wake(now, repeat)

    def note_wake(self, now: float, repeat: float) -> bool:
        if self._woken_at is not None and now - self._woken_at < repeat:
            return False
        self._woken_at = now
        return True

    def learn_service(self, seconds: float) -> None:
        known = self.service_seconds > 0.0
        self.service_seconds += (seconds - self.service_seconds) * (_LEARNING if known else 1.0)

    def _note_cold(self, cold: bool, now: float) -> None:
        if cold and self._cold_since is None:
            self._cold_since = now
        elif not cold and self._cold_since is not None:
            self._cold_total += now - self._cold_since
            self._cold_since = None
