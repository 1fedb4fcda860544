"""Small traces and replicas whose times can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pilotlight.platform.simulate.arrivals.values import Arrivals
from pilotlight.platform.simulate.measuring import Outcome
from pilotlight.platform.simulate.policies.catalogue import find
from pilotlight.platform.simulate.policies.values import Setting
from pilotlight.platform.simulate.scenario import Scenario, Target
from pilotlight.platform.simulate.simulation import simulate
from pilotlight.platform.simulate.speed import Linear

Run = Callable[..., Outcome]


@pytest.fixture
def run() -> Run:
    """`run("keepalive-60s", arrivals, slots=1)`: starts take 10 s; a token 0.1 s, the first one too, at any load."""

    def one(name: str, arrivals: Arrivals, knob: float | None = None, **scenario: Any) -> Outcome:
        known: dict[str, Any] = {
            "speed": Linear(gap=0.1, gap_per_request=0.0, first=0.1, first_per_token=0.0),
            "start": {"load": 10.0},
            "targets": {"interactive": Target(ttft=2.0, itl=0.2), "batch": Target(ttft=1e9, whole=3600.0)},
            **scenario,
        }
        return simulate(arrivals, find([name])[0], Setting(Scenario(**known), knob))

    return one
