"""The activator's nouns: what it knows of a function and its replicas, and what it asks of its host.

The host (the platform) supplies the `Protocol`s and calls `Activator.apply` with fresh `Route`s; the activator imports
nothing of the host.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from pilotlight.activator.traffic import ANYWHERE, Address, HostRule, Split, assigned, splits_at


class FunctionId(NamedTuple):
    """A function's full name; `str()` gives `namespace/name`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Caller:
    """Who presented a key, and what it may see."""

    key: str  # the key's public id, never the secret
    namespaces: frozenset[str] | None  # None: every namespace
    functions: frozenset[FunctionId] | None = None  # None: every function of its namespaces
    admin: bool = False

    def may_call(self, function: FunctionId) -> bool:
        if self.functions is not None and function not in self.functions:
            return False
        return self.namespaces is None or function.namespace in self.namespaces


@dataclass(frozen=True)
class Replica:
    """One engine that can be sent requests."""

    id: str
    revision: str
    url: str  # http://127.0.0.1:PORT
    engine_key: str
    slots: int  # in-flight cap
    weight: float = 1.0  # relative capacity, the recommender's
    accepting: bool = True  # False: draining, running streams only
    via_service: bool = False
    """A Service of the revision with a proxy behind it that holds requests and starts replicas by itself.

    Its `slots` bound what is handed over, waiting or not. How long a request waited behind it shows only in streams,
    and is never told apart into slot and start.
    """


@dataclass(frozen=True)
class StartProgress:
    """A cold start that is under way."""

    phase: str
    percent: int | None  # of the phase, where it can be told
    eta_seconds: float  # learned, until ready
    started_at: float  # Unix time


@dataclass(frozen=True)
class RevisionFacts:
    """What a revision has of its own, in place of the route's fields of the same names."""

    revision: str
    task: str
    model: str
    context: int
    tokenizer: Path | None
    adapters: tuple[str, ...] = ()
    start: StartProgress | None = None
    start_eta_seconds: float = 60.0
    failure: str = ""
    retry_after_seconds: float = 0.0


@dataclass(frozen=True)
class Route:
    """All that the activator knows of one function; a request goes to replicas of its own revision only."""

    function: FunctionId
    revision: str  # the one that new work goes to where nothing is split
    task: str  # "generate" | "embed"
    model: str  # name the engine serves it under
    context: int  # max_model_len, tokens
    tokenizer: Path | None  # folder with tokenizer.json; None: length is left to the engine
    adapters: tuple[str, ...] = ()
    slo_class: str = "interactive"
    deadline_seconds: float | None = None  # the class's, when the request brings none
    replicas: tuple[Replica, ...] = ()
    start: StartProgress | None = None  # set while a replica starts
    start_eta_seconds: float = 60.0  # learned, of a whole cold start
    queue_limit: int = 1000  # held and queued requests
    hold_seconds: float = 600.0  # longest hold
    failure: str = ""  # why it cannot start just now, one sentence
    retry_after_seconds: float = 0.0  # with failure: when the next try is due
    splits: tuple[Split, ...] = ()  # of requests by path, by `model`, and by hosts without splits of their own
    hosts: tuple[HostRule, ...] = ()
    revisions: tuple[RevisionFacts, ...] = ()  # of further revisions in traffic; one without has the route's own

    @property
    def starts(self) -> bool:
        """A replica starts: what is expected of that counts from the telling, so an equal route is news as well."""
        return self.start is not None or any(facts.start is not None for facts in self.revisions)

    def of(self, revision: str) -> Route:
        """The function as one revision sees it."""
        own = next((facts for facts in self.revisions if facts.revision == revision), None)
        changes = vars(own) if own is not None else {"revision": revision}
        replicas = tuple(replica for replica in self.replicas if replica.revision == revision)
        return replace(self, **changes, replicas=replicas)

    def revision_of(self, request: str, address: Address = ANYWHERE) -> str:
        """The revision that the request of this id goes to."""
        return assigned(splits_at(self.hosts, address) or self.splits, request) or self.revision

    def in_traffic(self) -> frozenset[str]:
        """Revisions that new work may go to."""
        splits: Iterable[Split] = (*self.splits, *(split for rule in self.hosts for split in rule.splits))
        return frozenset({self.revision, *(split.revision for split in splits if split.percent > 0)})


@dataclass(frozen=True)
class RevisionDemand:
    """One revision's part of a `Demand`."""

    revision: str
    queued: int
    in_flight: int
    last_active: float = 0.0  # as of `Demand`, of its own requests


@dataclass(frozen=True)
class Demand:
    """One function's work in hand, as the scaler needs it."""

    queued: int
    in_flight: int
    arrived_total: int  # since the activator started
    last_active: float  # Unix time of the last arrival or end of a request; 0: never
    per_replica: tuple[tuple[str, int], ...] = ()  # in flight by replica id
    per_revision: tuple[RevisionDemand, ...] = ()  # of those that have had any


@dataclass(frozen=True)
class Usage:
    """One request, as it is metered; `request` is the idempotency key of the ledger."""

    request: str
    key: str
    function: FunctionId
    revision: str
    admitted_at: float  # Unix time
    replica: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    max_tokens: int | None = None  # that the request asked for at most; None: it named none
    queue_seconds: float = 0.0  # waiting for a slot of a running replica
    start_seconds: float = 0.0  # waiting for a cold start
    serve_seconds: float = 0.0
    ttft_seconds: float | None = None  # from admission to the first token
    cold: bool = False
    outcome: str = "running"  # running | ok | cancelled | rejected | failed | unknown
    status: int = 0  # HTTP status the client got, or would have got
    reason: str = ""


class Authenticator(Protocol):
    def authenticate(self, secret: str) -> Caller | None:
        """Resolve a bearer secret without I/O; None: unknown or revoked."""


class Waker(Protocol):
    def wake(self, function: FunctionId) -> None:
        """Demand has appeared for a function with too few replicas; returns at once, may be called often."""

    def lost(self, function: FunctionId, replica: str, reason: str) -> None:
        """A replica could not be reached or died under a request; its state should be looked at now."""


class Meter(Protocol):
    def admitted(self, usage: Usage) -> None:
        """Write a durable line before the request goes on; must not block on the database."""

    def checkpoint(self, usages: Sequence[Usage]) -> None:
        """Once a second: the running requests' counts so far."""

    def finished(self, usage: Usage) -> None:
        """The final row."""


class Clock(Protocol):
    def now(self) -> float:
        """Unix time, seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
