"""The `X-Pilotlight-*` headers, and the same facts for a held stream whose headers have left already."""

from __future__ import annotations

from pilotlight.activator.inhand import InHand

Header = tuple[bytes, bytes]


def unadmitted(revision: str, cold: bool) -> tuple[Header, ...]:
    """Of a function's request that was refused before it waited."""
    start = b"cold" if cold else b"warm"
    return (
        (b"x-pilotlight-revision", revision.encode()),
        (b"x-pilotlight-start", start),
        (b"x-pilotlight-queue-ms", b"0"),
        (b"x-pilotlight-start-ms", b"0"),
    )


def early(request: InHand) -> list[Header]:
    """Known while the request waits."""
    return [(b"x-pilotlight-revision", request.revision.encode()), (b"x-pilotlight-start", _start(request).encode())]


def late(request: InHand) -> list[Header]:
    """Known once its wait is over; the replica only where it has got one."""
    queue, start = _milliseconds(request)
    known = [
        *early(request),
        (b"x-pilotlight-queue-ms", str(queue).encode()),
        (b"x-pilotlight-start-ms", str(start).encode()),
    ]
    return [*known, (b"x-pilotlight-replica", request.replica.encode())] if request.replica else known


def facts(request: InHand) -> dict[str, object]:
    """What follows in a comment where the headers were sent before it was known."""
    queue, start = _milliseconds(request)
    return {
        "request": request.id,
        "revision": request.revision,
        "start": _start(request),
        "queue_ms": queue,
        "start_ms": start,
        "replica": request.replica,
    }


def _start(request: InHand) -> str:
    if request.via_service:
        return "unknown"  # a replica is started behind it, or was there: it does not say
    return "cold" if request.cold else "warm"


def _milliseconds(request: InHand) -> tuple[int, int]:
    """Waited for a slot, waited for a start."""
    return round(max(0.0, request.waited - request.start_seconds) * 1000), round(request.start_seconds * 1000)
