"""Who of several operators leads: a Lease object that the leader renews and the others watch.

The client library's own election gives up at the first connection that fails, and never hands over; this one holds on
while the API server is away for less than the lease, and lets go of it on the way out. As in client-go, nobody compares
clocks: a lease is over when it has not changed for its duration by the watcher's own monotonic clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from pilotlight.activator.values import Clock
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import LEASE, Object

LEASE_SECONDS = 15
"""Kubernetes' own controllers use the same: how long nobody may lead after a leader has died."""
RENEW_SECONDS = 10.0
"""A leader that could not renew for so long stops leading, well before another one may begin."""
RETRY_SECONDS = 2.0
GUARD_SECONDS = 0.25
"""Between two looks at how old the last renewal is."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Sighting:
    """The lease as it was last read, and when it last changed."""

    holder: str
    version: str
    changed_at: float
    """Monotonic."""


def free(seen: Sighting | None, me: str, now: float) -> bool:
    """Whether `me` may write its name into the lease. Pure."""
    if seen is None or seen.holder in ("", me):
        return True
    return now - seen.changed_at >= LEASE_SECONDS


class Election:
    """Runs in threads of its own. `lost` is called once, when leading has ended against our will.

    One thread renews, another one looks at the clock: a call that hangs may take longer than the lease.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        won: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        self._api = api
        self._where = namespace, name
        self._identity = identity
        self._clock = clock
        self._won = won
        self._lost = lost
        self._seen: Sighting | None = None
        self._renewed_at: float | None = None
        self._lock = threading.Lock()
        """So that a lease is not renewed and lost at once."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)
        self._guard = threading.Thread(target=self._watch, name="election guard", daemon=True)

    @property
    def leads(self) -> bool:
        return self._renewed_at is not None

    def start(self) -> None:
        self._thread.start()
        self._guard.start()

    def close(self) -> None:
        """Let go of the lease, so that another one need not wait for it to run out."""
        self._ended.set()
        self._thread.join(timeout=RETRY_SECONDS + 5.0)
        if self._seen is None or self._seen.holder != self._identity:
            return
        # Guarded: a process that slept for long would write over the name of whoever leads by now.
        metadata = {"resourceVersion": self._seen.version}
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            self._api.patch(LEASE, *self._where, {"metadata": metadata, "spec": spec})
        except KubernetesError as error:
            log.warning("lease could not be let go of", error=str(error))

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._step()
            except KubernetesError as error:
                log.warning("lease could not be read or written", error=str(error))
            except Exception:  # without this thread nobody would ever lead
                log.exception("election failed; it is tried again")
            self._ended.wait(RETRY_SECONDS)

    def _watch(self) -> None:
        while not self._ended.wait(GUARD_SECONDS):
            renewed_at = self._renewed_at
            if renewed_at is not None and self._clock.monotonic() - renewed_at > RENEW_SECONDS:
                self._lose(renewed_at)

    def _lose(self, renewed_at: float | None) -> None:
        """Unless it was renewed meanwhile."""
        with self._lock:
            if renewed_at is None or self._renewed_at != renewed_at or self._ended.is_set():
                return
            self._renewed_at = None
            self._ended.set()
        log.error("lease lost", identity=self._identity)
        self._lost()

    def _step(self) -> None:
        self._look()
        if not free(self._seen, self._identity, self._clock.monotonic()):
            self._lose(self._renewed_at)  # somebody has taken it while we slept
            return
        begun = self._clock.monotonic()  # the lease counts from before the write, not after a slow answer
        try:
            self._write()
        except (ConflictError, NotFoundError):
            return  # another one was faster; the next look shows who
        with self._lock:
            if self._ended.is_set():
                return  # too late; what was written is let go of, or runs out
            first, self._renewed_at = self._renewed_at is None, begun
        if first:
            log.info("leads", identity=self._identity)
            self._won()

    def _look(self) -> None:
        try:
            found: Object | None = self._api.get(LEASE, *self._where)
        except NotFoundError:
            found = None
        if found is None:
            self._seen = None
            return
        version = found["metadata"]["resourceVersion"]
        if self._seen is None or self._seen.version != version:
            holder = found.get("spec", {}).get("holderIdentity") or ""
            self._seen = Sighting(holder, version, self._clock.monotonic())

    def _write(self) -> None:
        namespace, name = self._where
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now,
        }
        if self._renewed_at is None:
            spec["acquireTime"] = now
        metadata: Mapping[str, Any] = {"namespace": namespace, "name": name}
        if self._seen is None:
            body = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
            written = self._api.create(LEASE, body)
        else:
            guarded = {"metadata": {"resourceVersion": self._seen.version}, "spec": spec}
            written = self._api.patch(LEASE, namespace, name, guarded)
        self._seen = Sighting(self._identity, written["metadata"]["resourceVersion"], self._clock.monotonic())
