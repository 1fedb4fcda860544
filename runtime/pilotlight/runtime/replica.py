"""One replica's life: fetch, start, hold, drain, end.

`Replica.live` is the only place that decides what comes next; whoever wants it to end sets a flag (`drain`, `stop`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from logging import Logger
from pathlib import Path
from typing import BinaryIO, TypeVar

from pilotlight.runtime import guard, leftovers
from pilotlight.runtime.board import Board
from pilotlight.runtime.counting import Counting
from pilotlight.runtime.enginehttp import EngineHttp, free_port, listens
from pilotlight.runtime.enginelog import EngineLog
from pilotlight.runtime.engines.protocol import PORT_TAKEN, BadEngineSpecError, Engine, Listen, Place
from pilotlight.runtime.holdings import Holdings
from pilotlight.runtime.process import EngineProcess
from pilotlight.runtime.spec import Phase, ReplicaSpec, ReplicaState, ReplicaStatus
from pilotlight.runtime.wire import WireError

HEALTH_SECONDS = 0.05
"""Between two looks at whether the engine is up: part of every cold start."""
WARMUP_SECONDS = 120.0
LINGER_SECONDS = 5.0
"""A failed replica goes on answering for so long, so that whoever started it hears why."""
_DRAIN_POLL_SECONDS = 0.25
_WATCH_SECONDS = 1.0
"""Between two looks at the engine's counters, and from `ready` to the first: the first caller's token goes before."""
_LOOPBACK = Listen()

T = TypeVar("T")


class StartFailedError(Exception):
    """The engine did not become ready; the message is for the user."""


class Replica:
    def __init__(
        self,
        folder: Path,
        spec: ReplicaSpec,
        engine: Engine,
        log: Logger,
        clock: Callable[[], float] = time.time,
        environment: Mapping[str, str] | None = None,
        linger_seconds: float = LINGER_SECONDS,
        listen: Listen = _LOOPBACK,
        output: BinaryIO | None = None,
    ) -> None:
        """`output` gets a copy of what the engine writes."""
        self._folder, self._spec, self._engine, self._log = folder, spec, engine, log
        self._environment = os.environ if environment is None else environment
        self._linger_seconds, self._listen = linger_seconds, listen
        self.board = Board(folder, spec, clock)
        self._holdings = Holdings(spec, self.board)
        self._engine_log = EngineLog(folder / "engine.log", output)
        self._process: EngineProcess | None = None
        self._http: EngineHttp | None = None
        self._draining, self._stopping = asyncio.Event(), asyncio.Event()
        self._heard = self._ready_at = time.monotonic()

    async def status(self) -> ReplicaStatus:
        """For those who ask; counts as a sign of life of the platform."""
        self._heard = time.monotonic()
        return self.board.status()

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    def drain(self, reason: str = "drained") -> None:
        self.board.message = self.board.message or reason
        self._draining.set()

    def stop(self, reason: str = "stopped") -> None:
        self.board.message = self.board.message or reason
        self._draining.set()
        self._stopping.set()

    async def live(self) -> int:
        """From start to end; the exit code of the supervisor."""
        self.board.write()
        watch = asyncio.create_task(self._watch())
        try:
            failure = await self._start_and_hold()
        except Exception as error:  # noqa: BLE001  a defect of ours must not leave the engine running
            self._log.exception("unexpected")
            failure = f"unexpected {type(error).__name__}: {error}"
        finally:
            watch.cancel()
        await self._end_engine()
        return await self._end(failure)

    async def _start_and_hold(self) -> str | None:
        """None: ended as asked; else why it failed."""
        try:
            await self._unless_draining(self._start(), self._spec.start_seconds)
        except (StartFailedError, BadEngineSpecError) as error:
            return str(error)
        except TimeoutError:
            return self._timed_out()
        if self._draining.is_set():
            return None
        self._log.info("ready", extra={"endpoint": self.board.endpoint})
        assert self._process is not None
        await self._first(self._process.ended, self._draining.wait())
        if self._process.exit_code is None:
            await self._drain()
            return None
        await self._process.cleared()
        return f"the engine died while it served: {self._cause()}"

    async def _start(self) -> None:
        self.board.enter(Phase.FETCH)
        model = await self._holdings.acquire(needed=self._engine.needs_model)
        async with self._holdings.devices():
            for last in (False, True):
                place = Place(model, self._holdings.adapters, self._listen.port or free_port(), self._listen.host)
                try:
                    await self._launch(place)
                    return
                except StartFailedError as error:
                    if last or str(error) != PORT_TAKEN:
                        raise
                    self._log.warning("port taken, starting once more", extra={"port": place.port})

    async def _launch(self, place: Place) -> None:
        """Start the engine on the place's port and wait until it is ready."""
        launch = self._engine.launch(self._spec, place, self._environment)
        self.board.enter(Phase.IMPORT)
        self._engine_log.lines.clear()
        self._process = EngineProcess.start(launch, self._hear)
        leftovers.note(self._folder, self._process.marks)
        self._http = EngineHttp(place.port, self._spec.engine.key)
        self._log.info("engine started", extra={"port": place.port, "argv": list(launch.argv)})
        while not await self._up(place.port):
            if self._process.exit_code is not None:
                await self._process.cleared()
                raise StartFailedError(self._cause())
            self.board.engine_pid = self._process.pid
            await self._first(self._process.ended, asyncio.sleep(HEALTH_SECONDS))
        self.board.enter(Phase.WARMUP)
        for request in self._engine.warmups(self._spec):
            response = await self._ask(self._http.send(request, WARMUP_SECONDS))
            if response.status != 200:
                detail = response.body[:300].decode("utf-8", "replace")
                raise StartFailedError(f"the engine's first answer had status {response.status}: {detail}")
        self.board.endpoint = self._http.endpoint
        self.board.phases.begin(Phase.READY)
        self.board.become(ReplicaState.READY)
        self._ready_at = time.monotonic()

    async def _up(self, port: int) -> bool:
        """Healthy, and ours: another process may have taken the port."""
        assert self._http is not None
        return await self._http.healthy() and listens(port, guard.descendants(os.getpid()))

    async def _ask(self, question: Awaitable[T]) -> T:
        try:
            return await question
        except WireError as error:
            assert self._process is not None
            if self._process.exit_code is not None:
                await self._process.cleared()
                raise StartFailedError(self._cause()) from error
            raise StartFailedError(f"the engine did not answer its first request: {error}") from error

    def _hear(self, data: bytes) -> None:
        for line in self._engine_log.feed(data):
            said = self._engine.read(line) if self.board.state is ReplicaState.STARTING else None
            if said is None:
                continue
            if said.phase is not None:
                self.board.enter(said.phase)
            if said.progress is not None and said.phase in (None, self.board.phases.current):
                self.board.phases.progress(said.progress)

    async def _watch(self) -> None:
        """Keep `running` and `counters` current, and end an orphan."""
        counting = Counting(self._metrics)
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            serving = self.board.state in (ReplicaState.READY, ReplicaState.DRAINING)
            if serving and time.monotonic() - self._ready_at >= _WATCH_SECONDS:
                self.board.running = await self._inside()
                await counting.looked(self.board.running)
                self.board.counters = counting.counters
            silent = time.monotonic() - self._heard
            if silent > self._spec.orphan_seconds and not self._draining.is_set():
                self._log.warning("orphaned", extra={"silent_seconds": round(silent, 1)})
                self.drain(f"nobody asked for its status for {silent:.0f} s")

    async def _inside(self) -> int | None:
        """Requests that the engine has in hand; None: it does not say."""
        assert self._http is not None
        try:
            return await self._http.in_flight(self._engine.load_route)
        except WireError:
            return None

    async def _metrics(self) -> str:
        """Raises WireError."""
        assert self._http is not None
        return await self._http.metrics()

    async def _idle(self) -> bool:
        """Nothing in hand, and nothing that goes on inside for a client that has left."""
        from pilotlight.runtime.metrics import BadMetricsError, scrape  # not part of the cold start

        self.board.running = await self._inside()
        if self.board.running != 0:
            return False
        try:
            found = scrape(await self._metrics())
        except (WireError, BadMetricsError):
            return False
        return found.running + found.waiting == 0

    async def _drain(self) -> None:
        """Wait until nothing runs, twice in a row: a request may be on its way in when the engine says so first."""
        self.board.become(ReplicaState.DRAINING)
        assert self._process is not None
        deadline = time.monotonic() + self._spec.drain_seconds
        idle = 0
        while idle < 2 and time.monotonic() < deadline and not self._stopping.is_set():
            await self._first(self._process.ended, self._stopping.wait(), asyncio.sleep(_DRAIN_POLL_SECONDS))
            if self._process.exit_code is not None:
                return
            idle = idle + 1 if await self._idle() else 0

    async def _end_engine(self) -> None:
        if self._process is not None:
            await self._process.stop()
            leftovers.forget(self._folder)
        self._engine_log.close()
        self._holdings.release()

    async def _end(self, failure: str | None) -> int:
        if failure is None:
            self.board.become(ReplicaState.STOPPED)
            self._log.info("stopped", extra={"reason": self.board.message})
            return 0
        self.board.message, self.board.log_tail = failure, self._engine_log.tail()
        self.board.become(ReplicaState.FAILED)
        self._log.error("failed", extra={"reason": failure})
        await self._first(self._draining.wait(), asyncio.sleep(self._linger_seconds))
        return 1

    def _cause(self) -> str:
        assert self._process is not None
        return self._engine.cause(tuple(self._engine_log.lines), self._process.exit_code)

    def _timed_out(self) -> str:
        phase = self.board.phases.current
        return f"the start took longer than {self._spec.start_seconds:.0f} s, and was in phase {phase} then"

    async def _unless_draining(self, work: Awaitable[None], seconds: float) -> None:
        """Do the work; when a drain is asked for meanwhile, leave off. Raises TimeoutError and what the work raises."""
        task = asyncio.ensure_future(work)
        asked = asyncio.create_task(self._draining.wait())
        done, pending = await asyncio.wait({task, asked}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        self._holdings.cancelled = task not in done
        for other in pending:
            other.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        if task in done:
            task.result()
        elif asked not in done:
            raise TimeoutError

    @staticmethod
    async def _first(*waits: Awaitable[object]) -> None:
        """Return when the first is done; `ended` of a process is not cancelled, all others are."""
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task, wait in zip(tasks, waits, strict=True):
            if task is not wait:
                task.cancel()
