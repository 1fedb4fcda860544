"""The SSE comments that tell a waiting caller what is going on."""

from __future__ import annotations

import json

from pilotlight.activator.values import Route

_PHASES = {
    "schedule": "scheduling",
    "fetch": "fetching weights",
    "import": "starting the engine",
    "load": "loading weights",
    "warmup": "warming up",
    "ready": "almost ready",
}


BEHIND_SERVICE = b": waiting for a replica\n\n"


def waiting(route: Route, queued: int, age: float) -> bytes:
    """One comment, e.g. `: loading weights 43% (eta 12s)`; `age` is how old the route's ETA is, seconds."""
    start = route.start
    if start is None:
        if any(replica.accepting for replica in route.replicas):
            return b": waiting for a free slot (%d queued)\n\n" % queued
        return b": scheduling (eta %ds)\n\n" % round(route.start_eta_seconds)
    phase = _PHASES.get(start.phase, _plain(start.phase))
    percent = "" if start.percent is None else f" {start.percent}%"
    eta = round(max(0.0, start.eta_seconds - age))
    return f": {phase}{percent} (eta {eta}s)\n\n".encode()


def released(facts: dict[str, object]) -> bytes:
    """The comment before the first data event: what the headers could not know when they were sent."""
    return b": pilotlight " + json.dumps(facts, separators=(",", ":")).encode() + b"\n\n"


def _plain(phase: str) -> str:
    """A phase we do not know, on one line: a comment ends at a line break."""
    return "".join(letter if letter.isprintable() else " " for letter in phase[:64])
