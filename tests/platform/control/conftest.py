"""Short ways to say what the world looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pilotlight.activator.values import FunctionId
from pilotlight.detector.values import Load, State
from pilotlight.platform.control.world import FunctionView, ReplicaView
from pilotlight.platform.values import Policy, Revision, Template
from pilotlight.runtime.spec import ReplicaState

GIB = 2**30
TEMPLATE = Template(
    model="s3://models/tiny",
    digest="sha256:" + "0" * 64,
    store="file:///models",
    task="generate",
    kind="simulated",
    options={},
    environment={},
    slots=4,
    context=2048,
    weight_bytes=1000,
    memory_bytes=GIB,
    device_bytes=0,
    devices=0,
    accelerator="",
    cpus=1.0,
)
Make = Callable[..., Any]


@pytest.fixture
def template() -> Template:
    return TEMPLATE


@pytest.fixture
def function() -> Make:
    """function(name, queued=0, in_flight=0, last=0, desired=0, number=1, policy=..., **template)"""

    def make(
        name: str,
        queued: int = 0,
        in_flight: int = 0,
        last: float = 0.0,
        desired: int = 0,
        number: int = 1,
        policy: Policy | None = None,
        known: bool = True,
        **changes: Any,
    ) -> FunctionView:
        ident = FunctionId("team-a", name)
        revision = Revision(ident, f"{name}-{number:05d}", number, 0.0, "k", replace(TEMPLATE, **changes))
        load = Load(queued, in_flight, last) if known else None
        return FunctionView(ident, revision, policy or Policy(), load, State(since=0.0, desired=desired))

    return make


@pytest.fixture
def replica() -> Make:
    """replica(id, function name, state, in_flight=0, number=1, **changes)"""

    def make(
        name: str, function: str, state: ReplicaState = ReplicaState.READY, number: int = 1, **changes: Any
    ) -> ReplicaView:
        ident = FunctionId("team-a", function)
        view = ReplicaView(name, ident, f"{function}-{number:05d}", state, 0, GIB, 0, 0.0)
        return replace(view, **changes)

    return make
