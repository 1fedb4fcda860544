"""The detector's nouns: what the policy is told, what it remembers, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LONGEST_WAIT_SECONDS = 300.0
"""Kubernetes' bound for crash loops (5 min): long enough to spare the machine, short enough to heal unattended."""


class Reason(StrEnum):
    """Why a decision came out as it did; the code that metrics and tables group by."""

    DEMAND = "demand"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    KEEP_ALIVE = "keep_alive"
    IDLE = "idle"
    IDLE_ZERO = "idle_zero"
    SHRINK_WAIT = "shrink_wait"
    SHRINK = "shrink"
    UNKNOWN = "unknown"
    BACK_OFF = "back_off"
    OVERLOAD = "overload"
    DEGRADED = "degraded"
    REPLACE = "replace"
    """A replica has come for one that may be sick: of those that are too many, the oldest is to go."""
    VETO = "veto"
    RATE = "rate"


class Health(StrEnum):
    """What the detector says of a revision's last windows."""

    NORMAL = "normal"
    OVERLOAD = "overload"
    UNDERLOAD = "underload"
    DEGRADED = "degraded"

    @property
    def trouble(self) -> bool:
        return self in (Health.OVERLOAD, Health.DEGRADED)


@dataclass(frozen=True)
class Limits:
    """What a function may have, and how patient its scaling is."""

    minimum: int = 0
    maximum: int = 1
    keep_alive_seconds: float = 300.0
    """Idle time before the last replica goes; 300 s gave 0.6 cold starts per 1000 requests on real low-rate tenants."""
    slots: int = 1
    """Requests one replica serves at once."""
    target: float = 1.0
    """Share of the slots to fill before another replica is asked for, 0 < target <= 1."""
    shrink_seconds: float = 60.0
    """Demand must have stayed lower for so long before a replica is taken away."""
    headroom: float = 0.0
    """Room for chance, in standard deviations of the work in hand: w requests get the room of w + headroom * sqrt(w),
    as square-root staffing has it (Halfin and Whitt 1981) for arrivals that come independently."""
    busy_share: float = 1.0
    """Most of the replicas that the work in hand may fill, 0.1 to 1; 1: all. A second signal beside `target`, after the
    backpressure of interactive requests in Chiron (arXiv 2501.08090): room for what comes while a replica starts."""
    lead_seconds: float = 0.0
    """What a cold start is expected to take. A replica that would be missed sooner than it can be back is not taken."""
    changes_per_minute: float | None = None
    """Replicas that may come or go in a minute, and at once after a quiet minute; None: any number."""
    trouble_share: float = 0.1
    """What verdicts of trouble may cost, as a share of the replica-seconds that demand alone asks for."""
    replace_degraded: bool = False
    """Whether the replica that a verdict of `degraded` adds stands in for the oldest, which goes when it is ready."""
    underload_patience: float = 1.0
    """Share of `shrink_seconds` that a shrink waits while the verdict is `underload`; no less than `lead_seconds`."""

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum:
            raise ValueError(f"0 <= minimum <= maximum does not hold: {self.minimum}, {self.maximum}")
        if self.slots < 1 or not 0 < self.target <= 1:
            raise ValueError(f"slots >= 1 and 0 < target <= 1 expected: {self.slots}, {self.target}")
        if not (self.headroom >= 0 and self.lead_seconds >= 0 and self.trouble_share >= 0):
            raise ValueError("headroom, lead_seconds and trouble_share are no numbers of at least 0")
        if not 0.1 <= self.busy_share <= 1:
            raise ValueError(f"busy_share from 0.1 to 1 expected: {self.busy_share}")
        if not 0 <= self.underload_patience <= 1:
            raise ValueError(f"underload_patience from 0 to 1 expected: {self.underload_patience}")
        if self.changes_per_minute is not None and not self.changes_per_minute > 0:
            raise ValueError(f"changes_per_minute > 0 expected: {self.changes_per_minute}")


@dataclass(frozen=True)
class Load:
    """One function's work in hand."""

    queued: int
    in_flight: int
    last_active: float
    """Unix time of the last arrival or end of a request; 0: never seen."""

    @property
    def known(self) -> bool:
        """Whether it can be true: metrics that were reset or torn can give anything."""
        return self.queued >= 0 and self.in_flight >= 0 and math.isfinite(self.queued + self.in_flight)


@dataclass(frozen=True)
class BackOff:
    """Crashes in a row, and when the next start is due."""

    failures: int = 0
    retry_at: float = 0.0
    message: str = ""
    served: bool = False
    """The last one had been ready; else its start failed."""

    def wait(self, now: float) -> float:
        """Seconds until the next start is due; 0: it is."""
        left = self.retry_at - now
        # Clearly more than the longest wait: the clock was set back, and nobody knows how long it has been.
        return left if 0 < left <= LONGEST_WAIT_SECONDS + 1 else 0.0


@dataclass(frozen=True)
class State:
    """What the policy carries from one tick to the next."""

    since: float
    """Unix time from which idleness counts when no request was ever seen."""
    desired: int = 0
    alive: int = 0
    """Replicas that are starting or serving, as observed."""
    starting: int = 0
    """Those of them that are not ready yet, as observed."""
    ready_at: float = 0.0
    """Unix time at which the newest of them became ready, as observed; 0: none did. Nothing idles before."""
    surplus_since: float | None = None
    """Since when fewer would have done; None: all are needed."""
    surplus_peak: int = 0
    """Most replicas needed at any time since then."""
    back_off: BackOff = field(default_factory=BackOff)
    decided_at: float | None = None
    """Unix time of the last decision."""
    raised: int = 0
    """Replicas of `desired` that verdicts ask for and demand does not."""
    credit: float = 0.0
    """Replica-seconds that verdicts may still cost; below 0 is a debt."""
    replacing_since: float | None = None
    """Unix time at which a replica was asked for that stands in for another; None: none was, or it is done."""
    changes: float | None = None
    """Replicas that may come or go now; None: as many as in a minute."""


Inputs = Mapping[str, float | int | bool | str | None]
"""Everything that a decision rests on, as JSON has it."""


@dataclass(frozen=True)
class Decision:
    """How many replicas there should be, and why."""

    desired: int
    reason: Reason
    sentence: str
    inputs: Inputs
    state: State
    """The state for the next tick."""
