"""What the control loop asks of whatever runs replicas: processes on this machine today."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from typing import Protocol

from pilotlight.runtime.spec import ReplicaSpec, ReplicaStatus


class ClusterError(Exception):
    """A replica could not be started; the message is for the user."""


class Cluster(Protocol):
    """Start, observe and end replicas by their id."""

    async def start(self, spec: ReplicaSpec) -> None:
        """Returns when it is under way. Raises ClusterError."""

    async def observe(self, replicas: Collection[str]) -> Mapping[str, ReplicaStatus]:
        """What each says of itself; one that is gone without a word is missing."""

    async def strays(self, known: Collection[str]) -> tuple[str, ...]:
        """Replicas that run and are not among the known ones."""

    async def drain(self, replica: str) -> None:
        """No new work; it ends when its running streams have. Asking again does no harm."""

    async def stop(self, replica: str) -> None:
        """It ends now. Asking again does no harm."""

    async def forget(self, replica: str) -> None:
        """It has ended: keep its log for a while, and no secret."""

    def log(self, replica: str, tail: int, follow: bool) -> AsyncIterator[bytes]:
        """The engine's log: its last lines, then what comes."""
