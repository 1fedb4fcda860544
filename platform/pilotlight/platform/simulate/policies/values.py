"""What a policy sees of one function, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

from pilotlight.platform.simulate.scenario import Scenario


class Sight(Protocol):
    """One function at one moment."""

    @property
    def queued(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def ready(self) -> int:
        """Replicas that take new work."""

    @property
    def starting(self) -> int: ...
    @property
    def ready_at(self) -> float:
        """When the newest replica became ready; 0: none did."""

    @property
    def last_active(self) -> float:
        """Of the last arrival or end of a request; 0: never."""

    def worked(self, now: float) -> float:
        """Request-seconds in hand since the beginning; its growth over a time is the mean concurrency of it."""


class Wish(NamedTuple):
    """How many replicas a policy wants, and when it wants to be asked again."""

    desired: int
    again: float = inf
    """Latest time of the next look, whatever happens."""
    quiet: int = -1
    """Requests in hand, one at least, up to which only time changes the answer; -1: anything may."""


class Policy(Protocol):
    """One function's scaling."""

    period: float
    """Least seconds between two looks."""
    eager: bool
    """It looks at once when a request begins to wait; else only when there is no replica at all."""
    initial: int
    """Replicas that have been there since before the trace."""

    @property
    def idle(self) -> float:
        """After a wish with a `quiet`: how long after the last request ended the next look is due, seconds."""

    def look(self, site: Sight, now: float) -> Wish:
        """What it wants now."""

    def woken(self, gap: float) -> None:
        """A request came after `gap` seconds without any in hand."""


@dataclass(frozen=True)
class Setting:
    """What a policy may know beforehand."""

    scenario: Scenario
    knob: float | None = None
    """The policy's own setting, for sweeps; None: its usual value."""


@dataclass(frozen=True)
class Future:
    """All requests of one function, which only an oracle is told."""

    times: Sequence[float]
    """When each comes."""
    seconds: Sequence[float]
    """How long each takes on a full replica."""


class Make(Protocol):
    """Makes a policy for one function."""

    def __call__(self, setting: Setting, future: Future) -> Policy:
        """`future` is empty for a policy that is not clairvoyant."""


NOTHING = Future((), ())
