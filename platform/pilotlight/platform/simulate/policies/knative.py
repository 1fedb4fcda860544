"""Knative's KPA (Serving 1.23, `pkg/autoscaler`): means of the concurrency over a stable and a panic window.

Zero comes when the stable window is empty: with a burst capacity above one replica's, as the defaults have it, the
activator is in the path anyway, and nothing waits for the grace period.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil, floor, inf

from pilotlight.platform.simulate.policies.values import Sight, Wish

_PRECISION = 3  # digits to which Knative rounds a window's mean


@dataclass(frozen=True)
class Keys:
    """The keys of `config-autoscaler`, with their defaults."""

    target: float = 70.0
    """Concurrency per replica: `container-concurrency-target-default` 100 at a target percentage of 70."""
    most: int = 0
    """max-scale; 0: no limit."""
    stable: float = 60.0
    """Seconds."""
    panic_share: float = 0.1
    """panic-window-percentage, of the stable window."""
    panic_threshold: float = 2.0
    """panic-threshold-percentage."""
    up: float = 1000.0
    """max-scale-up-rate."""
    down: float = 2.0
    """max-scale-down-rate."""
    retention: float = 0.0
    """scale-to-zero-pod-retention-period, seconds."""


class Kpa:
    """One revision's autoscaler."""

    period = 2.0
    eager = False
    initial = 0
    idle = inf

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._samples: deque[tuple[float, float]] = deque()
        self._panicked: float | None = None
        self._most_in_panic = 0
        self._empty_since: float | None = None

    def look(self, site: Sight, now: float) -> Wish:
        self._sample(site, now)
        stable, panic = self._mean(site, now, self._keys.stable), self._mean(site, now, self._panic_window)
        desired = self._retained(self._scale(max(1, site.ready), stable, panic, now), now)
        if self._keys.most:
            desired = min(desired, self._keys.most)
        busy = desired or site.ready or site.starting or site.queued
        return Wish(desired, now + self.period if busy else inf, 0 if not busy else -1)

    def woken(self, gap: float) -> None:
        """Where there are no pods, nothing is collected: after a window without any the means begin anew."""
        if self._empty_since is not None and gap > self._keys.stable + self._keys.retention:
            self._samples.clear()

    @property
    def _panic_window(self) -> float:
        return self._keys.stable * self._keys.panic_share

    def _sample(self, site: Sight, now: float) -> None:
        samples = self._samples
        samples.append((now, site.worked(now)))
        while len(samples) > 1 and samples[1][0] <= now - self._keys.stable:
            samples.popleft()

    def _mean(self, site: Sight, now: float, window: float) -> float:
        """Requests in hand, the mean over the window or since there are metrics."""
        start, worked = self._samples[0]
        if now - start < 1.0:  # the activator reports what it holds at once
            return float(site.queued + site.in_flight)
        begin = now - window
        for time, value in reversed(self._samples):
            start, worked = time, value
            if time <= begin:
                break
        return round((site.worked(now) - worked) / (now - start), _PRECISION)

    def _scale(self, ready: int, stable: float, panic: float, now: float) -> int:
        keys = self._keys
        wanted, urgent = ceil(stable / keys.target), ceil(panic / keys.target)
        most, least = ceil(keys.up * ready), floor(ready / keys.down)
        if urgent / ready >= keys.panic_threshold:
            self._panicked = now
        elif self._panicked is not None and self._panicked + keys.stable < now:
            self._panicked, self._most_in_panic = None, 0
        desired = min(max(wanted, least), most)
        if self._panicked is None:
            return desired
        self._most_in_panic = max(self._most_in_panic, desired, min(max(urgent, least), most))
        return self._most_in_panic

    def _retained(self, desired: int, now: float) -> int:
        """The last pod stays for the retention period."""
        if desired:
            self._empty_since = None
            return desired
        if self._empty_since is None:
            self._empty_since = now
        return int(now - self._empty_since < self._keys.retention)
