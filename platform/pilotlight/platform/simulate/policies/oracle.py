"""A bound: a policy that knows every request beforehand."""

from __future__ import annotations

from math import inf

import numpy as np

from pilotlight.platform.simulate.policies.values import Future, Setting, Sight, Wish

_ROUNDING = 1e-6  # seconds: a look that is due when a request comes into view must see it


class Oracle:
    """Has what will be needed ready when it is needed, and lets go what will not be missed before it could be back.

    What will be needed is counted as if no request waited and all were served at full batches, which is a little more
    than is needed; so it is a bound that policies are measured against, and not the optimum. The knob is the longest
    gap that it keeps a replica for, in cold starts.
    """

    period = 1.0
    eager = True
    initial = 0
    idle = inf

    def __init__(self, setting: Setting, future: Future) -> None:
        scenario = setting.scenario
        # Early by one look, and by what a start scatters.
        self._lead = scenario.start_seconds * (1 + 2 * scenario.spread) + self.period
        self._keep = self._lead * (1.0 if setting.knob is None else setting.knob)
        self._slots = scenario.slots
        self._times = np.asarray(future.times, dtype=np.float64)
        ends = np.sort(self._times + np.asarray(future.seconds, dtype=np.float64))
        in_hand = np.arange(1, len(self._times) + 1) - np.searchsorted(ends, self._times)
        self._needed = np.minimum(scenario.most, -(-in_hand // scenario.slots))

    def look(self, site: Sight, now: float) -> Wish:
        there = site.ready + site.starting
        work = -(-(site.queued + site.in_flight) // self._slots)
        desired = max(work, self._most_until(now, self._lead), min(there, self._most_until(now, self._keep)))
        return Wish(desired, self._again(now, exactly=not desired))

    def woken(self, gap: float) -> None:
        del gap

    def _most_until(self, now: float, ahead: float) -> int:
        """Replicas needed at any time in the next `ahead` seconds."""
        first, last = np.searchsorted(self._times, (now, now + ahead + _ROUNDING), side="right")
        return int(self._needed[first:last].max()) if last > first else 0

    def _again(self, now: float, *, exactly: bool) -> float:
        """When the next request comes into view."""
        place = int(np.searchsorted(self._times, now + self._lead + _ROUNDING, side="right"))
        if place == len(self._times):
            return inf
        return max(float(self._times[place]) - self._lead, now + (0.0 if exactly else self.period))
