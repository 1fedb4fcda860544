"""Two policies that others have published: ENOVA's rules, and KubeAI's moving average."""

from __future__ import annotations

from collections import deque
from math import ceil, inf

from pilotlight.platform.simulate.policies.values import Sight, Wish


class EnovaPublic:
    """ENOVA's public code: one replica more at 50 pending requests per replica, half of them at a use of 10 % or less,
    each for 3 minutes; never zero. It looks once a minute. KV use is taken as the share of slots in use."""

    period = 60.0
    eager = False
    initial = 1
    idle = inf

    def __init__(self, slots: int, most: int, pending: float = 50.0, patience: float = 180.0) -> None:
        self._slots, self._most, self._pending, self._patience = slots, most, pending, patience
        self._desired = 1
        self._high_since: float | None = None
        self._low_since: float | None = None

    def look(self, site: Sight, now: float) -> Wish:
        alive = max(1, site.ready)
        high = site.queued / alive >= self._pending
        low = site.in_flight / alive <= 0.1 * self._slots and not site.queued
        self._high_since = (now if self._high_since is None else self._high_since) if high else None
        self._low_since = (now if self._low_since is None else self._low_since) if low else None
        if self._high_since is not None and now - self._high_since >= self._patience:
            self._desired, self._high_since = min(self._most, self._desired + 1), None
        elif self._low_since is not None and now - self._low_since >= self._patience:
            self._desired, self._low_since = max(1, self._desired // 2), None
        # One replica that is not pressed stays one, whatever happens below the threshold.
        settled = self._desired == 1 and not high
        return Wish(self._desired, inf if settled else now + self.period, self._slots if settled else -1)

    def woken(self, gap: float) -> None:
        del gap


class KubeAi:
    """KubeAI: every 10 s the mean of active requests over 10 minutes by 100 per replica; fewer only after 30 s of it.
    The first request of a function at zero starts one replica; without any, no metric counts."""

    period = 10.0
    eager = False
    initial = 0
    idle = inf

    def __init__(self, most: int, target: float = 100.0, window: float = 600.0, delay: float = 30.0) -> None:
        self._most, self._target = most, target
        self._seen: deque[int] = deque([0] * max(1, round(window / self.period)))
        self._sum = 0
        self._needed_lower = max(1, round(delay / self.period))
        self._lower = 0
        self._desired = 0
        self._counted_at = -inf

    def look(self, site: Sight, now: float) -> Wish:
        if site.ready and now - self._counted_at >= self.period:
            self._count(site.queued + site.in_flight, now)
        if site.queued and not self._desired:
            self._desired, self._lower = 1, 0
        idle = not (self._desired or site.ready or site.starting or site.queued)
        return Wish(self._desired, inf if idle else max(now, self._counted_at) + self.period, 0 if idle else 1_000_000)

    def woken(self, gap: float) -> None:
        del gap

    def _count(self, active: int, now: float) -> None:
        self._counted_at = now
        self._seen.append(active)
        self._sum += active - self._seen.popleft()
        wanted = min(self._most, ceil(self._sum / len(self._seen) / self._target))
        self._lower = self._lower + 1 if wanted < self._desired else 0
        if wanted >= self._desired or self._lower >= self._needed_lower:
            self._desired, self._lower = wanted, 0
