"""What the control loop asks of whatever runs replicas: processes on this machine, or pods of a Kubernetes cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pilotlight.activator.values import FunctionId
from pilotlight.platform.values import Policy, ReplicaRecord
from pilotlight.runtime.spec import ReplicaSpec, ReplicaStatus


class ClusterError(Exception):
    """A replica could not be started; the message is for the user."""


class RevisionId(NamedTuple):
    """A revision's full name."""

    function: FunctionId
    name: str


@dataclass(frozen=True)
class Found:
    """A replica that runs and that nobody here has started: after a restart, or because others scale as well."""

    id: str
    revision: RevisionId
    created_at: float


@dataclass(frozen=True)
class Wanted:
    """What there should be of one revision."""

    replicas: int
    policy: Policy
    leaving: frozenset[str] = frozenset()
    """Replicas that were asked to end, and are not counted."""
    slots: int = 1
    """Requests that one replica serves at once."""
    by_knative: bool = False
    """Knative's own autoscaler brings about the count, and this one is its floor."""


class Cluster(Protocol):
    """Start, observe and end replicas by their id."""

    async def start(self, spec: ReplicaSpec) -> None:
        """Returns when it is under way. Raises ClusterError."""

    async def observe(self, replicas: Sequence[ReplicaRecord]) -> Mapping[str, ReplicaStatus]:
        """What each says of itself; one that is gone without a word is missing.

        A status under another name than it was asked for by gives the replica the name that it has from now on:
        a pod has none before it is there.
        """

    async def found(self, known: Collection[str]) -> tuple[Found, ...]:
        """Replicas that run and are not among the known ones."""

    def settle(self, wanted: Mapping[RevisionId, Wanted]) -> None:
        """For those that bring about a count rather than single replicas: told every round, of every revision that was
        looked at. A revision that is not named is at zero: it has been replaced, or its function rests."""

    async def drain(self, replica: str) -> None:
        """No new work; it ends when its running streams have. Asking again does no harm."""

    async def stop(self, replica: str) -> None:
        """It ends now. Asking again does no harm."""

    async def forget(self, replica: str) -> None:
        """It has ended: keep its log for a while, and no secret."""

    def log(self, replica: str, tail: int, follow: bool) -> AsyncIterator[bytes]:
        """The engine's log: its last lines, then what comes."""
