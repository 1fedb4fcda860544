"""What a proxy between us and an engine says in the engine's place: Knative's activator and queue-proxy (1.21).

Both answer in plain text, an engine in JSON. Without this their words would be told as an engine's.
"""

from __future__ import annotations

from pilotlight.activator.errors import RefusedError, proxy_full, proxy_timeout, proxy_unavailable
from pilotlight.activator.forwarding import ReplicaLostError
from pilotlight.activator.values import Route

_FULL = b"pending request queue full"


def verdict(status: int, body: bytes, route: Route, retry_after: float) -> RefusedError | ReplicaLostError | None:
    """None: the engine itself has answered. `retry_after`: seconds until a full queue has moved."""
    if body.lstrip()[:1] == b"{" or status not in (502, 503, 504):
        return None
    if status == 502:  # nothing listens behind the proxy, or it broke off before its first byte
        return ReplicaLostError("the proxy in front of it could not reach it", sent=True)
    if status == 504:
        return proxy_timeout(route.function)
    if _FULL in body:
        return proxy_full(route.function, retry_after)
    return proxy_unavailable(route.function, route.start_eta_seconds)
