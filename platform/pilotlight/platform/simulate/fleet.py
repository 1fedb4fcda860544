"""The places that replicas take: as many as are wanted, or a fixed number that functions share."""

from __future__ import annotations

from pilotlight.platform.simulate.replica import Replica
from pilotlight.platform.simulate.site import Site


class Fleet:
    """Which places are taken, whose replicas idle, and who waits for a place."""

    def __init__(self, size: int | None) -> None:
        self.size = size
        self.used = 0
        self.waiting: dict[Site, None] = {}
        """In the order of their wishes."""
        self._idle: dict[Replica, None] = {}
        """The least recently used first; empty where places are not scarce."""

    @property
    def full(self) -> bool:
        return self.size is not None and self.used >= self.size

    def idles(self, replica: Replica) -> None:
        if self.size is not None:
            self._idle[replica] = None

    def works(self, replica: Replica) -> None:
        """It works, or is gone."""
        if self.size is not None:
            self._idle.pop(replica, None)

    def least_recently_used(self, needing: Site) -> Replica | None:
        """Whose idle replica makes way, minima or not: else a full fleet would never serve some functions."""
        return next((replica for replica in self._idle if replica.site is not needing), None)
