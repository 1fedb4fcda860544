"""What a simulation is given besides arrivals and a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilotlight.platform.simulate.errors import SimulationRefused
from pilotlight.platform.simulate.speed import Linear, Speed

CLASSES = ("interactive", "batch")
"""The manifest's SLO classes; the first is the usual one."""


@dataclass(frozen=True)
class Target:
    """When a request of a class is as fast as it should be; seconds."""

    ttft: float
    """From its arrival to its first token, waiting and cold start included."""
    itl: float = float("inf")
    """The mean time between its tokens."""
    whole: float = float("inf")
    """From its arrival to its last token."""


USUAL_TARGETS: Mapping[str, Target] = {
    "interactive": Target(ttft=2.0, itl=0.1),
    "batch": Target(ttft=float("inf"), whole=3600.0),
}
# A minute: what vLLM 0.10 took for an 8-billion-parameter model with a warm compile cache (59 s, vLLM issue 20264). The
# split is that of the recommender's priors; only the sum matters here.
USUAL_START: Mapping[str, float] = {"schedule": 0.2, "fetch": 15.0, "import": 25.0, "load": 16.8, "warmup": 3.0}


def start_of(seconds: float) -> dict[str, float]:
    """The phases of a start that takes `seconds`, in the usual proportions."""
    usual = sum(USUAL_START.values())
    return {phase: seconds * part / usual for phase, part in USUAL_START.items()}


@dataclass(frozen=True)
class Scenario:
    """Replicas, the fleet that they run on, and what users expect."""

    speed: Speed = field(default_factory=Linear)
    slots: int = 32
    """Requests that one replica serves at once."""
    start: Mapping[str, float] = field(default_factory=lambda: dict(USUAL_START))
    """Seconds by phase of a cold start."""
    spread: float = 0.0
    """Scatter of a start's whole time: the standard deviation of its logarithm."""
    most: int = 8
    """Replicas of one function."""
    fleet: int | None = None
    """Replicas of all functions together; None: as many as are wanted."""
    targets: Mapping[str, Target] = field(default_factory=lambda: dict(USUAL_TARGETS))
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= 4096 or not 1 <= self.most <= 10_000:
            raise SimulationRefused(
                f"1 to 4,096 slots and 1 to 10,000 replicas of a function expected: {self.slots}, {self.most}"
            )
        if self.fleet is not None and self.fleet < 1:
            raise SimulationRefused(f"a fleet has at least one place, not {self.fleet}")
        if any(not 0 <= seconds <= 86_400 for seconds in self.start.values()) or not 0 <= self.spread <= 2:
            raise SimulationRefused("a start's phases take 0 seconds to a day each, and its spread is from 0 to 2")

    @property
    def start_seconds(self) -> float:
        return sum(self.start.values())
