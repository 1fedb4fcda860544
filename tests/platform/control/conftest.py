"""Short ways to say what the world looks like."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.platform.conftest import make_template

from pilotlight.activator.values import Clock, Demand, FunctionId, Route
from pilotlight.detector.values import Load, State
from pilotlight.platform.control.cluster import ClusterError, Found, RevisionId, Wanted
from pilotlight.platform.control.controller import Controller, LoopSettings, Stores
from pilotlight.platform.control.specs import SpecSettings
from pilotlight.platform.control.world import FunctionView, ReplicaView, Room
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.functions import Change, Functions
from pilotlight.platform.database.records import Records
from pilotlight.platform.database.replicas import Replicas
from pilotlight.platform.values import Policy, ReplicaRecord, Revision, Template
from pilotlight.runtime.spec import Phase, PhaseReport, ReplicaSpec, ReplicaState, ReplicaStatus

GIB = 2**30
TEMPLATE = make_template()
ROOM = Room(2**40, 4, {})
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


CHAT = FunctionId("team-a", "chat")


class ScriptedCluster:
    """Implements `Cluster`; the test sets what each replica says."""

    def __init__(self) -> None:
        self.specs: dict[str, ReplicaSpec] = {}
        self.says: dict[str, ReplicaStatus] = {}
        self.calls: list[tuple[str, str]] = []
        self.broken = ""
        self.running: tuple[Found, ...] = ()
        self.named: dict[str, str] = {}
        self.wanted: dict[RevisionId, Wanted] = {}
        self.deaf = False
        self.unheard_stops = 0

    async def start(self, spec: ReplicaSpec) -> None:
        if self.broken:
            raise ClusterError(self.broken)
        self.specs[spec.replica] = spec
        self.calls.append(("start", spec.replica))
        self.say(spec.replica, ReplicaState.STARTING)

    async def observe(self, replicas: Sequence[ReplicaRecord]) -> Mapping[str, ReplicaStatus]:
        asked = {record.id: self.named.get(record.id, record.id) for record in replicas}
        return {asked_by: self.says[name] for asked_by, name in asked.items() if name in self.says}

    async def found(self, known: Collection[str]) -> tuple[Found, ...]:
        return tuple(found for found in self.running if found.id not in known)

    def settle(self, wanted: Mapping[RevisionId, Wanted]) -> None:
        self.wanted = dict(wanted)

    async def drain(self, replica: str) -> None:
        self.calls.append(("drain", replica))
        if not self.deaf:
            self.say(replica, ReplicaState.STOPPED)

    async def stop(self, replica: str) -> None:
        self.calls.append(("stop", replica))
        self.running = tuple(found for found in self.running if found.id != replica)
        self.unheard_stops -= 1
        if self.unheard_stops < 0:
            self.say(replica, ReplicaState.STOPPED)

    async def forget(self, replica: str) -> None:
        self.says.pop(replica, None)

    def log(self, replica: str, tail: int, follow: bool) -> AsyncIterator[bytes]:
        raise NotImplementedError

    def say(self, replica: str, state: ReplicaState, **status: Any) -> None:
        phases = (PhaseReport(Phase.LOAD, 1.0, 3.0), PhaseReport(Phase.READY, 3.0, 3.0))
        said = ReplicaStatus(replica, "chat-00001", state, phases, f"http://127.0.0.1:1/{replica}")
        self.says[replica] = replace(said, **status)

    def only(self) -> str:
        [name] = self.says
        return name


class ScriptedTraffic:
    """Implements `Traffic`; the test sets the demand, and reads the routes."""

    def __init__(self) -> None:
        self.routes: dict[FunctionId, Route] = {}
        self.work: dict[FunctionId, Demand] = {}
        self.history: list[Route] = []

    def apply(self, routes: Mapping[FunctionId, Route]) -> None:
        self.routes = dict(routes)
        self.history += routes.values()
        for function in routes:
            self.work.setdefault(function, Demand(0, 0, 0, 0.0))

    def demand(self) -> Mapping[FunctionId, Demand]:
        return self.work


class Stage:
    """One loop with everything around it."""

    def __init__(self, database: Database, clock: Any) -> None:
        self.clock = clock
        self.cluster = ScriptedCluster()
        self.traffic = ScriptedTraffic()
        self.functions = Functions(database, lambda *_: "engine-key")
        self.stores = Stores(self.functions, Replicas(database), Records(database))
        self.shared: dict[FunctionId, set[str]] = {}
        self.loop = self.new_loop()

    def new_loop(self, room: Room = ROOM) -> Controller:
        settings = LoopSettings(room, SpecSettings("/cache", drain_seconds=30.0), 7, 77.0)
        return Controller(
            self.cluster, self.stores, self.traffic, lambda _: "key-1", self.clock, settings, lambda: self.shared
        )

    def deploy(self, template: Template | None, **policy: Any) -> None:
        self.functions.apply([Change(CHAT, {}, Policy(**policy), template)], self.clock.now())
        self.loop.changed()

    def demand(self, queued: int = 0, in_flight: int = 0, **per_replica: int) -> None:
        active = self.clock.now() if queued or in_flight else self.traffic.work[CHAT].last_active
        self.traffic.work[CHAT] = Demand(queued, in_flight, 0, active, tuple(per_replica.items()))

    async def ready(self, template: Template, **policy: Any) -> str:
        """Deploy, ask, and let one replica become ready."""
        self.deploy(template, **policy)
        await self.loop.round()
        self.demand(queued=1)
        await self.loop.round()
        name = self.cluster.only()
        self.cluster.say(name, ReplicaState.READY)
        self.demand(in_flight=1)
        await self.loop.round()
        return name

    def reasons(self) -> list[str]:
        return [record.reason for record in self.stores.records.decisions(CHAT)]


@pytest.fixture
def stage(database: Database, clock: Clock) -> Stage:
    return Stage(database, clock)
