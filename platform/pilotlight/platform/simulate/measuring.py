"""What is counted while a simulation runs, and the figures made of it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pilotlight.platform.simulate.replica import Replica, Running
from pilotlight.platform.simulate.scenario import Target

WAIT_QUANTILES = (50, 90, 99)


@dataclass
class ClassTally:
    """Requests of one SLO class."""

    target: Target
    requests: int = 0
    attained: int = 0
    waits: array[float] = field(default_factory=lambda: array("f"))
    """Seconds from arrival to a replica, one per request: four bytes each."""
    firsts: array[float] = field(default_factory=lambda: array("f"))
    """Seconds from arrival to the first token."""

    def ended(self, request: Running, now: float) -> None:
        _, arrived, first, answer = request
        target = self.target
        self.requests += 1
        ttft = first - arrived
        self.firsts.append(ttft)
        if ttft <= target.ttft and now - arrived <= target.whole and now - first <= target.itl * (answer - 1):
            self.attained += 1


@dataclass
class Tally:
    """All of one run."""

    classes: dict[str, ClassTally]
    cold_starts: int = 0
    """Starts of a function's first replica."""
    cold_requests: int = 0
    """Requests that found no ready replica."""
    starts: int = 0
    evictions: int = 0
    starting_seconds: float = 0.0
    serving_seconds: float = 0.0
    idle_seconds: float = 0.0

    def ended(self, replica: Replica, now: float) -> None:
        """A replica is no more, or the run is over."""
        ready = now if replica.ready_at is None else replica.ready_at
        busy = replica.busy_seconds + (now - replica.busy_since if replica.running else 0.0)
        self.starting_seconds += ready - replica.started_at
        self.serving_seconds += busy
        self.idle_seconds += now - ready - busy


@dataclass(frozen=True)
class Outcome:
    """A policy's run in figures."""

    requests: int
    slo_attainment: float
    by_class: Mapping[str, float]
    cold_per_1000: float
    """Cold starts: of a function that had no replica."""
    cold_requests_per_1000: float
    """Requests that found no replica ready."""
    starts: int
    evictions: int
    wait_s: Mapping[int, float]
    """Seconds from arrival to a replica, by percentile."""
    ttft_s: Mapping[int, float]
    starting_seconds: float
    serving_seconds: float
    idle_seconds: float
    seconds: float
    """From the trace's beginning to the end of its last request."""

    @property
    def replica_seconds(self) -> float:
        return self.starting_seconds + self.serving_seconds + self.idle_seconds


def outcome(tally: Tally, seconds: float) -> Outcome:
    """pre: at least one request has ended."""
    classes = {name: each for name, each in tally.classes.items() if each.requests}
    requests = sum(each.requests for each in classes.values())
    return Outcome(
        requests=requests,
        slo_attainment=sum(each.attained for each in classes.values()) / requests,
        by_class={name: each.attained / each.requests for name, each in classes.items()},
        cold_per_1000=1000 * tally.cold_starts / requests,
        cold_requests_per_1000=1000 * tally.cold_requests / requests,
        starts=tally.starts,
        evictions=tally.evictions,
        wait_s=_quantiles([each.waits for each in classes.values()]),
        ttft_s=_quantiles([each.firsts for each in classes.values()]),
        starting_seconds=tally.starting_seconds,
        serving_seconds=tally.serving_seconds,
        idle_seconds=tally.idle_seconds,
        seconds=seconds,
    )


def _quantiles(parts: list[array[float]]) -> dict[int, float]:
    values = np.concatenate([np.frombuffer(part, dtype=np.float32) for part in parts])
    return {p: float(value) for p, value in zip(WAIT_QUANTILES, np.percentile(values, WAIT_QUANTILES), strict=True)}
