"""The control loop: look, decide, tell the activator, act. Level-triggered: every round starts from what is there.

All of a round's decisions and the activator's new routes come out of one look without anything in between, so that
no request is given to a replica that has just been chosen to leave.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from pilotlight.activator.values import Clock, Demand, FunctionId, RevisionFacts, Route
from pilotlight.detector.values import Load, State
from pilotlight.platform.control.bookkeeping import Bookkeeper
from pilotlight.platform.control.cluster import Cluster, ClusterError, RevisionId
from pilotlight.platform.control.counting import beside_policy, wanted
from pilotlight.platform.control.loads import loads
from pilotlight.platform.control.observing import Observer
from pilotlight.platform.control.plan import plan, serving
from pilotlight.platform.control.resting import Resting
from pilotlight.platform.control.routes import Served, facts, route
from pilotlight.platform.control.specs import SpecSettings, replica_spec
from pilotlight.platform.control.state import Known, Live
from pilotlight.platform.control.world import Drain, FunctionView, Plan, Room, Start, Stop, Wait, World
from pilotlight.platform.control.writing import Writer
from pilotlight.platform.database.connection import DatabaseError
from pilotlight.platform.database.functions import Functions
from pilotlight.platform.database.records import Records
from pilotlight.platform.database.replicas import Replicas
from pilotlight.platform.ledger.intervals import Sight
from pilotlight.platform.recommending.following import Follower
from pilotlight.platform.values import Desired, Policy, ReplicaRecord

TICK_SECONDS = 1.0
STARTING_TICK_SECONDS = 0.1
"""While something starts or leaves: a replica that is ready must not wait for us."""
ASK_AGAIN_SECONDS = 5.0
"""A replica that was asked to end and is still there may not have heard it."""
CATCH_UP_SECONDS = 10.0
"""A round takes milliseconds; whoever waits for one longer is told so rather than held."""

NOTHING_KNOWN = Demand(0, 0, 0, 0.0)

log = structlog.get_logger(__name__)


class Traffic(Protocol):
    """The activator, as the loop sees it."""

    def apply(self, routes: Mapping[FunctionId, Route]) -> None:
        """All functions there are; others are gone."""

    def demand(self) -> Mapping[FunctionId, Demand]:
        """The work in hand of every function that it knows."""


@dataclass(frozen=True)
class Stores:
    """The tables that the loop reads and writes."""

    functions: Functions
    replicas: Replicas
    records: Records


@dataclass(frozen=True)
class LoopSettings:
    """What the loop is told once."""

    room: Room
    spec: SpecSettings
    max_held: int = 1000
    """Requests of one function that may wait."""
    hold_seconds: float = 2400.0
    """How long each may."""


class Controller:
    """Implements the activator's `Waker`."""

    def __init__(
        self,
        cluster: Cluster,
        stores: Stores,
        traffic: Traffic,
        cause: Callable[[FunctionId], str],
        clock: Clock,
        settings: LoopSettings,
        shared: Callable[[], Mapping[FunctionId, Collection[str]]] = dict,
    ) -> None:
        """`cause` gives the key whose request asks for a start, `shared` the revisions that users split traffic to."""
        self._cluster = cluster
        self._stores = stores
        self._traffic = traffic
        self._cause = cause
        self._clock = clock
        self._settings = settings
        self._shared = shared
        self.known = Known()
        self._event = asyncio.Event()
        self._woken: set[FunctionId] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._strays: set[str] = set()
        self._dirty = True
        self._writer = Writer(clock)
        self._observer = Observer(cluster, stores.replicas, self._writer, self.known)
        self._books = Bookkeeper(stores.records, stores.replicas, self._writer, self.known)
        self.follower = Follower(self.known)
        self._resting = Resting(self.known)
        self._told: dict[FunctionId, Route] = {}
        """Routes as the activator has them."""

    # What others call

    def wake(self, function: FunctionId) -> None:
        self._woken.add(function)
        self._event.set()

    def lost(self, function: FunctionId, replica: str, reason: str) -> None:
        log.warning("replica lost", function=str(function), replica=replica, reason=reason)
        self._event.set()

    def look(self) -> None:
        """Something that the next round sees has changed."""
        self._event.set()

    def changed(self) -> None:
        """Functions were applied or deleted."""
        self._dirty = True
        self._event.set()

    async def caught_up(self) -> None:
        """Returns when the activator knows of everything that was changed before the call."""
        seen = asyncio.get_running_loop().create_future()
        self._waiting.append(seen)
        self.changed()
        async with asyncio.timeout(CATCH_UP_SECONDS):
            await seen

    async def adopt(self) -> None:
        """After a start: take over the replicas that are still there, end those that nobody wants."""
        await self._reload()
        records = await asyncio.to_thread(self._stores.replicas.live)
        for record in records:
            revision = self.known.revisions[record.function, record.revision]
            self.known.live[record.id] = Live(record, revision, leaving_at=self._clock.monotonic())
        await self._take_in()
        await self._observer.absorb(self._clock.now(), restarted=True)
        await self._books.resume(self._clock.now(), self._clock.monotonic())
        self.known.remember(self._shared(), self._clock.now())
        own = {RevisionId(name, memory.revision): memory for name, memory in self.known.memory.items()}
        for at, memory in (own | self.known.beside).items():
            back_off = await self._observer.crashes(*at)
            memory.state = replace(memory.state, back_off=back_off)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._event.clear()
            try:
                await self.round()
            except Exception:
                log.exception("control round failed; it is tried again")
            await self._pause()

    async def close(self, seconds: float) -> None:
        """End every replica; returns when they are gone or the time is over."""
        now = self._clock.monotonic()
        for live in self.known.live.values():
            live.leave(Desired.STOPPED, now)
        while self.known.live and self._clock.monotonic() < now + seconds:
            # Every time: a supervisor that was launched a moment ago does not hear yet.
            await asyncio.gather(*(self._cluster.stop(name) for name in tuple(self.known.live)))
            await asyncio.sleep(STARTING_TICK_SECONDS)
            await self._observer.absorb(self._clock.now())
        await self._books.account((), self._clock.now(), self._clock.monotonic())

    async def round(self) -> None:
        """One look and what follows from it."""
        await self._writer.flush()
        waiting = tuple(self._waiting) if await self._up_to_date() else ()
        self._books.rename(await self._observer.absorb(self._clock.now()))
        await self._take_in()
        now = self._clock.now()
        self.known.remember(self._shared(), self._clock.now())
        await self._follow(now)
        demands = self._traffic.demand()
        world = self._world(now, demands)
        result = plan(world)
        self._mark(result, self._clock.monotonic())
        self._traffic.apply(self._routes(world, result))
        self._tell(waiting)
        await self._act(result, now)
        await self._send_off(self._clock.monotonic())
        self._cluster.settle(wanted(self.known, result))
        await self._books.record(result, now)
        await self._books.account(self._sights(), now, self._clock.monotonic())
        self._resting.note(world, result, demands)  # last: what a round did not get to is for the next one

    async def _follow(self, now: float) -> None:
        """Before the look that decides, so that routes and counts are of the caps from here on."""
        if records := self.follower.look(now):
            await self._writer.write(self._stores.records.decided, records)

    def _tell(self, waiting: Iterable[asyncio.Future[None]]) -> None:
        """Those who waited for this round; whoever came since waits for the next, as all do when a round fails."""
        for seen in waiting:
            self._waiting.remove(seen)
            if not seen.done():
                seen.set_result(None)

    # Looking

    async def _up_to_date(self) -> bool:
        """False: the database is away, and what was known last is gone on with."""
        if self._dirty:
            try:
                await self._reload()
            except DatabaseError as error:
                log.error("functions could not be read; the last ones stay", error=str(error))
                return False
        return True

    async def _reload(self) -> None:
        self._dirty = False  # first: a change that comes while we read is read again
        try:
            functions = await asyncio.to_thread(self._stores.functions.all)
            revisions = await asyncio.to_thread(self._stores.functions.revisions)
        except BaseException:
            self._dirty = True
            raise
        self.known.functions = {function.id: function for function in functions}
        self.known.revisions = {(revision.function, revision.name): revision for revision in revisions}
        current = (self.known.revisions[function.id, function.revision] for function in functions)
        await self._observer.remember_starts(revision.template for revision in current)

    async def _take_in(self) -> None:
        """Replicas that others have started: ours from now on where they are of a revision that we know."""
        for found in await self._cluster.found(self.known.live):
            revision = self.known.revisions.get(found.revision)
            if revision is None:
                if found.id not in self._strays:
                    log.warning("stray replica is ended", replica=found.id)
                    self._strays.add(found.id)
                await self._cluster.stop(found.id)
                continue
            function = found.revision.function
            record = ReplicaRecord(found.id, function, revision.name, found.created_at, caused_by=self._cause(function))
            await self._writer.write(self._stores.replicas.add, record)
            self.known.live[record.id] = Live(record, revision)
            if memory := self.known.memory_of(function, revision.name):
                # Whoever started it had a reason: it is kept alive as if we had decided so.
                memory.state = replace(memory.state, desired=memory.state.desired + 1)
            log.info("replica found", replica=record.id, function=str(function))

    def _world(self, now: float, demands: Mapping[FunctionId, Demand]) -> World:
        """Without functions at rest."""
        woken, self._woken = self._woken, set()
        self._resting.stir(self._observer.take_learned())
        running = {replica: count for demand in demands.values() for replica, count in demand.per_replica}
        views = [self._views(name, demands.get(name), name in woken) for name in self._resting.awake(demands, woken)]
        replicas = tuple(live.view(running.get(live.record.id, 0)) for live in self.known.live.values())
        beside = tuple(view for _, apart in views for view in apart)
        return World(now, self._settings.room, tuple(view for view, _ in views), replicas, beside)

    def _views(self, name: FunctionId, demand: Demand | None, woken: bool) -> tuple[FunctionView, list[FunctionView]]:
        """The function's own, and those of the revisions beside it."""
        function, memory = self.known.functions[name], self.known.memory[name]
        apart = {revision.name: each for revision, each in self.known.beside.items() if revision.function == name}
        if demand is None and woken:
            demand = NOTHING_KNOWN  # but that somebody asks, which must not wait until everybody has reported
        own, others = loads(demand, woken, apart) if demand is not None else (None, {})
        policy = beside_policy(function.policy)
        return self._view(name, function.revision, function.policy, own, memory.state), [
            self._view(name, revision, policy, others.get(revision), each.state) for revision, each in apart.items()
        ]

    def _view(self, name: FunctionId, revision: str, policy: Policy, load: Load | None, state: State) -> FunctionView:
        made = self.known.revisions[name, revision]
        return FunctionView(name, made, policy, load, state, self.known.slots(made))

    # Telling the activator

    def _mark(self, result: Plan, now: float) -> None:
        """Remember the plan; who leaves takes no work from here on."""
        for name, decision in result.decisions.items():
            self.known.memory[name].state = decision.state
            self.known.memory[name].waits = ""
        for revision, decision in result.beside.items():
            self.known.beside[revision].state = decision.state
        for action in result.actions:
            if isinstance(action, Wait):
                self.known.memory[action.function].waits = action.reason
            elif isinstance(action, Drain | Stop):
                desired = Desired.DRAINED if isinstance(action, Drain) else Desired.STOPPED
                self.known.live[action.replica].leave(desired, now)

    def _routes(self, world: World, result: Plan) -> dict[FunctionId, Route]:
        """One that is as it was, and waits for nothing, is the same object: that is no news to anybody."""
        for view in world.functions:
            fresh = self._route(view, world, result)
            if fresh.starts or self._told.get(view.id) != fresh:
                self._told[view.id] = fresh
        for gone in self._told.keys() - self.known.functions.keys():
            del self._told[gone]
        return dict(self._told)

    def _route(self, view: FunctionView, world: World, result: Plan) -> Route:
        memory = self.known.memory[view.id]
        name = serving(view, world.rolling(), result.decisions[view.id].desired)
        revision = self.known.revisions[view.id, name]
        served = [
            Served(
                live.record.id,
                live.revision,
                live.status,
                live.wanted,
                live.ready_at is not None,
                self.known.slots(live.revision),
            )
            for live in self.known.of(view.id)
        ]
        beside = [self._facts(name, served, world.now) for name in self.known.beside if name.function == view.id]
        told = route(view, revision, served, self.eta(view.id), memory.state.back_off, world.now, beside)
        return replace(told, queue_limit=self._settings.max_held, hold_seconds=self._settings.hold_seconds)

    def _facts(self, name: RevisionId, served: Iterable[Served], now: float) -> RevisionFacts:
        revision = self.known.revisions[name]
        mine = [each for each in served if each.revision.name == name.name]
        back_off = self.known.beside[name].state.back_off
        return facts(revision, mine, self._observer.eta(revision.template), back_off, now)

    def eta(self, function: FunctionId, revision: str = "") -> dict[str, float]:
        """Expected seconds of each phase of the next start of a revision, by default the function's own."""
        template = self.known.revisions[function, revision or self.known.functions[function].revision].template
        return self._observer.eta(template)

    # Acting

    async def _act(self, result: Plan, now: float) -> None:
        for action in result.actions:
            if isinstance(action, Start):
                await self._start(action, now)
            elif isinstance(action, Drain | Stop):
                desired = self.known.live[action.replica].record.desired
                await self._writer.write(self._stores.replicas.desire, action.replica, desired)
                way = str(action.makes_way_for or "") if isinstance(action, Drain) else ""
                log.info("replica leaves", replica=action.replica, reason=action.reason, makes_way_for=way)

    async def _start(self, action: Start, now: float) -> None:
        revision = self.known.revisions[action.function, action.revision]
        name = f"{action.function.name[:20].rstrip('-')}-{revision.number:05d}-{secrets.token_hex(4)}"
        record = ReplicaRecord(
            id=name,
            function=action.function,
            revision=action.revision,
            created_at=now,
            cpus=action.cpus,
            devices=action.devices,
            caused_by=self._cause(action.function),
        )
        await self._writer.write(self._stores.replicas.add, record)
        live = self.known.live[record.id] = Live(record, revision)
        log.info("replica starts", replica=name, function=str(action.function), reason=action.reason)
        try:
            await self._cluster.start(replica_spec(record, revision, self._settings.spec))
        except ClusterError as error:
            await self._observer.ended(live, "failed", str(error), now)

    async def _send_off(self, now: float) -> None:
        """Ask those that leave to end, once the activator has nothing more with them, or their time is over."""
        for live in tuple(self.known.live.values()):
            if live.wanted or (live.asked_at is not None and now - live.asked_at < ASK_AGAIN_SECONDS):
                continue
            overdue = now - (live.leaving_at or now) > self._settings.spec.drain_seconds
            if live.record.desired is Desired.STOPPED or overdue:
                live.asked_at = now
                await self._cluster.stop(live.record.id)
            elif not self._running(live):
                live.asked_at = now
                await self._cluster.drain(live.record.id)

    def _running(self, live: Live) -> int:
        demand = self._traffic.demand().get(live.record.function)
        return dict(demand.per_replica).get(live.record.id, 0) if demand else 0

    def _sights(self) -> list[Sight]:
        return [self._sight(live) for live in self.known.live.values()]

    def _sight(self, live: Live) -> Sight:
        record = live.record
        state = "starting" if live.ready_at is None else "serving" if self._running(live) else "idle"
        return Sight(record.id, record.function, record.revision, state, record.created_at, record.caused_by)

    async def _pause(self) -> None:
        busy = any(live.ready_at is None or not live.wanted for live in self.known.live.values())
        with_timeout = asyncio.timeout(STARTING_TICK_SECONDS if busy else TICK_SECONDS)
        try:
            async with with_timeout:
                await self._event.wait()
        except TimeoutError:
            pass
