"""May this request be taken in? Pure: everything it weighs is an argument, and a refusal says what it weighed."""

from __future__ import annotations

from dataclasses import dataclass

from pilotlight.activator.errors import RefusedError
from pilotlight.activator.settings import Settings
from pilotlight.activator.values import Route


@dataclass(frozen=True, slots=True)
class Load:
    """What is in hand when a request arrives."""

    queued: int = 0  # of this function's revision
    queued_beside: int = 0  # of its other revisions: one bound holds for all
    queued_total: int = 0  # of all functions
    in_flight: int = 0
    slots: int = 0  # of replicas that take new work; 0: none runs
    usual_slots: int = 1  # what a replica had when there was one
    service_seconds: float = 0.0  # learned mean of one request; 0: nothing learned yet
    route_age: float = 0.0  # seconds since the host told the route


@dataclass(frozen=True, slots=True)
class Admit:
    """Take it in: expected wait and the longest one, seconds."""

    eta_seconds: float
    hold_seconds: float


def expected_wait(route: Route, load: Load) -> float:
    """Seconds until a request that arrives now gets its slot: learned start first, then those ahead of it."""
    if load.slots > 0:
        if load.queued == 0 and load.in_flight < load.slots:
            return 0.0
        return (load.queued + 1) * load.service_seconds / load.slots
    ahead = load.queued // max(1, load.usual_slots) * load.service_seconds
    return start_remaining(route, load) + ahead


def start_remaining(route: Route, load: Load) -> float:
    if route.start is None:
        return route.start_eta_seconds
    return max(0.0, route.start.eta_seconds - load.route_age)


def failure_remaining(route: Route, load: Load) -> float | None:
    """Seconds until a function that cannot start is tried again; None: it can be tried now."""
    if not route.failure or load.slots > 0:
        return None
    left = route.retry_after_seconds - load.route_age
    return left if left > 0 or route.retry_after_seconds <= 0 else None


def admit(route: Route, load: Load, deadline: float | None, settings: Settings) -> Admit | RefusedError:
    """Admit or refuse; `deadline` is what the request brought, seconds from now, else the class's counts."""
    # 1. It cannot start, and the next try is not due.
    failing = failure_remaining(route, load)
    if failing is not None:
        return failed(route, failing)
    # 2. What is held is bounded, by function and in all; by bytes it is where bodies are read (`budget`).
    wait = expected_wait(route, load)
    full = _full(route, load, settings)
    if full and not _has_free_slot(load):
        return RefusedError(429, "queue_full", full, retry_after=_place_frees(wait, load, settings))
    # 3. Nobody is kept waiting for an answer that comes too late.
    limit = deadline if deadline is not None else route.deadline_seconds
    if limit is not None and (wait > limit or limit <= 0.0):
        return late(route, wait, limit)
    if wait > route.hold_seconds:
        return late(route, wait, route.hold_seconds)
    return Admit(wait, route.hold_seconds if limit is None else min(limit, route.hold_seconds))


def failed(route: Route, retry_after: float) -> RefusedError:
    message = f"{route.function} cannot start: {route.failure.rstrip('.')}."
    return RefusedError(503, "function_failing", message, retry_after=retry_after)


def late(route: Route, wait: float, limit: float) -> RefusedError:
    state = "is starting" if not any(replica.accepting for replica in route.replicas) else "is busy"
    message = (
        f"{route.function} {state}: its answer would begin in about {wait:.0f} s, later than the {limit:.3g} s that "
        "this request may wait. Retry after the time in `Retry-After`, or allow more with `X-Request-Deadline`."
    )
    return RefusedError(503, "deadline_exceeded", message, retry_after=wait)


def expired(route: Route, waited: float, wait: float) -> RefusedError:
    """A hold that was admitted and took longer than was learned."""
    message = f"{route.function} was not ready after {waited:.0f} s of waiting; expected in about {wait:.0f} s more."
    return RefusedError(503, "deadline_exceeded", message, retry_after=wait)


def _full(route: Route, load: Load, settings: Settings) -> str:
    queued = load.queued + load.queued_beside
    if queued >= route.queue_limit:
        return f"The queue of {route.function} is full: {queued} requests wait, {route.queue_limit} may."
    if load.queued_total >= settings.queue_total:
        return f"Too many requests wait: {load.queued_total} over all functions."
    return ""


def _has_free_slot(load: Load) -> bool:
    return load.queued == 0 and load.in_flight < load.slots


def _place_frees(wait: float, load: Load, settings: Settings) -> float:
    """Seconds until the first of those that wait moves up: one slot's turn, or the whole start."""
    if load.slots == 0:
        return max(wait, settings.overload_retry_seconds)
    return max(load.service_seconds / load.slots, settings.overload_retry_seconds)
