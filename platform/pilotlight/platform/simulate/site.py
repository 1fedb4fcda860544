"""One function in the simulation: its queue, its replicas, and what its policy sees."""

from __future__ import annotations

from collections import deque
from math import inf

from pilotlight.platform.simulate.measuring import ClassTally
from pilotlight.platform.simulate.policies.values import Policy
from pilotlight.platform.simulate.replica import Replica


class Site:
    """A `Sight`, changed by the simulation only. Times are seconds of the trace."""

    __slots__ = (
        "changed_at",
        "cold",
        "due",
        "evicted",
        "in_flight",
        "last_active",
        "looked_at",
        "policy",
        "queue",
        "queued",
        "quiet",
        "ready_at",
        "serving",
        "starts",
        "tally",
        "wanted",
        "worked_seconds",
    )

    def __init__(self, policy: Policy, tally: ClassTally) -> None:
        self.policy = policy
        self.tally = tally
        self.queue: deque[tuple[float, int, int]] = deque()
        """When each came, prompt and answer tokens."""
        self.queued = 0
        self.in_flight = 0
        self.serving: list[Replica] = []
        """Ready, and taking new work."""
        self.starts: list[Replica] = []
        self.ready_at = 0.0
        self.last_active = 0.0
        self.worked_seconds = 0.0
        self.changed_at = 0.0
        self.wanted = policy.initial
        self.looked_at = -inf
        self.due = inf
        """Of the event that stands for the next look."""
        self.quiet = -1
        self.cold = False
        """A request has waited since the last replica was ready."""
        self.evicted = False
        """Its last replica made way for another function, and no work came since."""

    @property
    def ready(self) -> int:
        return len(self.serving)

    @property
    def starting(self) -> int:
        return len(self.starts)

    def worked(self, now: float) -> float:
        """Request-seconds in hand since the beginning."""
        return self.worked_seconds + (self.queued + self.in_flight) * (now - self.changed_at)

    def account(self, now: float) -> None:
        """To be called before the work in hand changes."""
        self.worked_seconds += (self.queued + self.in_flight) * (now - self.changed_at)
        self.changed_at = now

    def free(self, slots: int) -> Replica | None:
        """The replica with the fewest requests, where it has a free slot."""
        if not self.serving:
            return None
        emptiest = self.serving[0] if len(self.serving) == 1 else min(self.serving, key=_load)
        return emptiest if len(emptiest.running) < slots else None

    def surplus(self) -> Replica:
        """The replica to let go first: the newest that starts, else the emptiest."""
        return self.starts[-1] if self.starts else min(reversed(self.serving), key=_load)


def _load(replica: Replica) -> int:
    return len(replica.running)
