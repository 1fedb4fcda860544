"""The activator: a raw ASGI application in front of functions that may be at zero.

Everything runs in one event loop. Decisions are made by pure code (`admission`, `queueing`, `names`, `schema`); this
module carries requests between them and tells the host's `Waker` and `Meter`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Mapping

from pilotlight.activator import errors, headers, models
from pilotlight.activator.admission import Admit, admit
from pilotlight.activator.channel import Channel, Scope, header
from pilotlight.activator.deadlines import remaining
from pilotlight.activator.errors import JSON, RefusedError
from pilotlight.activator.fleet import Fleet
from pilotlight.activator.forwarding import Upstream
from pilotlight.activator.inhand import InHand
from pilotlight.activator.metrics import Metrics
from pilotlight.activator.names import Directory, Target
from pilotlight.activator.parking import ClientGoneError, Receive, Send
from pilotlight.activator.requests import Parsed, parse
from pilotlight.activator.routing import Place, place
from pilotlight.activator.schema import Endpoint
from pilotlight.activator.serving import Serving
from pilotlight.activator.settings import Settings
from pilotlight.activator.tokenizing import Lengths, check_max_tokens
from pilotlight.activator.values import Authenticator, Caller, Clock, Demand, FunctionId, Meter, Route, Usage, Waker

_log = logging.getLogger(__name__)
_REASON = 500  # characters of a ledger row's reason: an engine may quote a whole prompt


class Activator:
    """Mount `app`; call `start()` inside the event loop that serves it, then `apply()` whenever anything changes."""

    def __init__(
        self,
        authenticator: Authenticator,
        waker: Waker,
        meter: Meter,
        clock: Clock,
        settings: Settings | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._meter = meter
        self._clock = clock
        self._settings = settings if settings is not None else Settings()
        self._fleet = Fleet(waker, clock, self._settings)
        self._directory = Directory({})
        self._lengths: Lengths | None = None
        self._upstream: Upstream | None = None
        self._serving: Serving | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._in_hand: set[InHand] = set()
        self._body_bytes = 0
        self._checkpoint_at = 0.0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.metrics = Metrics(self.demand)
        self.app = self._app

    # What the host calls

    async def start(self) -> None:
        """Open what needs the running event loop."""
        self._lengths = Lengths(self._settings)
        self._upstream = Upstream(self._settings)
        self._serving = Serving(self._fleet, self._upstream, self._clock, self._settings)
        self._ticker = asyncio.create_task(self._tick_forever())

    def apply(self, routes: Mapping[FunctionId, Route]) -> None:
        """All functions as they are now; releases what can be released. Call it in the event loop of `app`."""
        self._directory = Directory(dict(routes))
        self._fleet.apply(self._directory.routes)
        if self._lengths is not None:
            for route in routes.values():
                self._lengths.prepare(route)

    def demand(self) -> Mapping[FunctionId, Demand]:
        """Every function's work in hand."""
        return self._fleet.demand()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109 - a bound on running streams, then they are ended
        """Refuse new requests and let those in hand finish for `timeout` seconds; then end them with an error.

        True: all finished by themselves.
        """
        self._draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            self._end_all()
            await self._idle.wait()
            return False
        return True

    async def close(self) -> None:
        """End what is left and release every resource."""
        self._draining = True
        self._end_all()
        await self._idle.wait()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        if self._upstream is not None:
            await self._upstream.close()
        if self._lengths is not None:
            self._lengths.close()

    def tick(self) -> None:
        """Heartbeats, deadlines, retries of suspects, checkpoints; called by the activator's own timer."""
        self._fleet.tick()
        self._end_stalled()
        now = self._clock.monotonic()
        if now - self._checkpoint_at >= self._settings.checkpoint_seconds:
            self._checkpoint_at = now
            running = [request.usage(now) for request in self._in_hand if request.lane is not None]
            if running:
                self._meter.checkpoint(running)

    # ASGI

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":  # the host starts and closes the activator itself
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        channel = Channel(receive, send, f"req-{uuid.uuid4().hex}")
        try:
            await self._handle(scope, channel)
        except RefusedError as refusal:
            await channel.refuse(refusal, (), self._settings)
        except ClientGoneError:
            return
        except Exception:  # noqa: BLE001 - the client is told, the log has it, the others go on
            _log.exception("request %s failed", channel.id)
            await channel.refuse(errors.internal(), (), self._settings)

    async def _handle(self, scope: Scope, channel: Channel) -> None:
        where = place(scope["method"], scope["path"])
        caller = self._authenticate(scope)
        if self._draining:
            raise errors.draining(self._settings.drain_retry_seconds)
        if where.endpoint is None:
            await self._models(where, caller, channel)
            return
        counted = [0]  # bytes of this body in memory
        try:
            await self._complete(scope, channel, where, where.endpoint, caller, counted)
        finally:
            self._body_bytes -= counted[0]

    async def _models(self, where: Place, caller: Caller, channel: Channel) -> None:
        if where.model:
            answer = models.single(self._directory, caller, where.model, where.function)
        else:
            answer = models.listing(self._directory, caller, where.function)
        await channel.answer(200, [JSON], json.dumps(answer).encode())

    async def _complete(
        self, scope: Scope, channel: Channel, where: Place, endpoint: Endpoint, caller: Caller, counted: list[int]
    ) -> None:
        raw = await self._read(scope, channel, counted)
        parsed = parse(endpoint, raw, self._settings)
        del raw
        target = self._target(where, parsed, caller)
        request = await self._admit(scope, channel.id, target, parsed, caller)
        self._count(len(parsed.rest) - counted[0], counted)
        del parsed, scope
        await self._carry(request, channel)

    # Steps before a request is in hand

    def _authenticate(self, scope: Scope) -> Caller:
        presented = header(scope, b"authorization") or ""
        scheme, _, secret = presented.partition(" ")
        secret = secret.strip()
        caller = self._authenticator.authenticate(secret) if scheme.lower() == "bearer" and secret else None
        if caller is None:
            raise errors.unauthorized(bool(presented))
        return caller

    async def _read(self, scope: Scope, channel: Channel, counted: list[int]) -> bytes:
        def count(size: int) -> None:
            self._count(size, counted)
            if self._body_bytes > self._settings.held_bytes:
                raise errors.memory_full(self._settings.held_bytes, self._settings.overload_retry_seconds)

        return await channel.read(scope, self._settings, count)

    def _count(self, size: int, counted: list[int]) -> None:
        counted[0] += size
        self._body_bytes += size

    def _target(self, where: Place, parsed: Parsed, caller: Caller) -> Target:
        if where.function is not None:
            return self._directory.resolve_within(where.function, parsed.model, caller)
        if parsed.model is None:
            raise errors.missing("model")
        return self._directory.resolve(parsed.model, caller)

    async def _admit(self, scope: Scope, request: str, target: Target, parsed: Parsed, caller: Caller) -> InHand:
        """Everything that can be said without the engine; a refusal from here on has its ledger row."""
        route = target.route
        arrived = self._clock.monotonic()
        try:
            if parsed.endpoint.task != route.task:
                raise errors.wrong_task(route, parsed.endpoint.value)
            check_max_tokens(route, parsed.max_tokens_field, parsed.max_tokens)
            text = header(scope, b"x-request-deadline")
            deadline = None if text is None else remaining(text, self._clock.now())
            assert self._lengths is not None
            await self._lengths.check(route, parsed.prompt)
            waited = self._clock.monotonic() - arrived
            admitted = self._decide(route, None if deadline is None else deadline - waited)
        except RefusedError as refusal:
            self._refused(request, caller, route, refusal)
            raise
        progress = (header(scope, b"x-pilotlight-progress") or "").strip().lower() != "off"
        return self._take(request, target, parsed, caller, admitted, arrived, progress=progress and parsed.stream)

    def _decide(self, route: Route, deadline: float | None) -> Admit:
        """Raises `RefusedError`. Lateness wakes the function, or its `Retry-After` would be a lie."""
        state = self._fleet.arrival(route.function)
        if self._draining:
            raise errors.draining(self._settings.drain_retry_seconds)
        if state is None:
            raise errors.deleted(route.function)
        decision = admit(state.route, self._fleet.load(state, self._body_bytes), deadline, self._settings)
        if isinstance(decision, RefusedError):
            if decision.code == "deadline_exceeded":
                self._fleet.wake(state)
            raise decision
        return decision

    def _take(
        self,
        request: str,
        target: Target,
        parsed: Parsed,
        caller: Caller,
        admitted: Admit,
        arrived: float,
        *,
        progress: bool,
    ) -> InHand:
        taken = InHand(
            self._fleet.states[target.route.function],
            id=request,
            key=caller.key,
            endpoint=parsed.endpoint,
            model=target.model,
            rest=parsed.rest,
            stream=parsed.stream,
            wants=parsed.wants,
            single=parsed.single,
            progress=progress,
            arrived=arrived,
            admitted_at=self._clock.now(),
            hold_seconds=admitted.hold_seconds,
            beat_at=arrived + self._settings.heartbeat_first_seconds,
        )
        self._meter.admitted(taken.usage(arrived))
        return taken

    def _refused(self, request: str, caller: Caller, route: Route, refusal: RefusedError) -> None:
        usage = Usage(
            request=request,
            key=caller.key,
            function=route.function,
            revision=route.revision,
            admitted_at=self._clock.now(),
            outcome="rejected",
            status=refusal.status,
            reason=refusal.message[:_REASON],
        )
        self._finish(usage)

    # A request in hand

    async def _carry(self, request: InHand, channel: Channel) -> None:
        """See an admitted request to its end, whichever it is; exactly one row is written of it."""
        self._in_hand.add(request)
        self._idle.clear()
        try:
            self._fleet.enter(request)
            assert self._serving is not None
            await self._serving.serve(request, channel)
            request.end("ok", 200)
        except RefusedError as refusal:
            request.end(refusal.outcome, refusal.status, refusal.message[:_REASON])
            self._depart(request)
            await channel.refuse(refusal, headers.known(request), self._settings)
        except (ClientGoneError, asyncio.CancelledError) as error:
            request.end("cancelled", 499, "the client left")
            if isinstance(error, asyncio.CancelledError):
                raise
        except BaseException as error:
            request.end("failed", 500, repr(error)[:200])
            raise
        finally:
            self._depart(request)

    def _depart(self, request: InHand) -> None:
        """Free its place and write its row, once."""
        if request not in self._in_hand:
            return
        self._in_hand.discard(request)
        if not self._in_hand:
            self._idle.set()
        now = self._clock.monotonic()
        if request.served_from is not None and request.served_until is None:
            request.served_until = now
        self._fleet.leave(request, self._clock.now())
        if request.served_from is not None:
            self.metrics.held(request.state.route.function, request.waited)
        self._finish(request.usage(now))

    def _finish(self, usage: Usage) -> None:
        self.metrics.ended(usage)
        self._meter.finished(usage)

    def _end_stalled(self) -> None:
        """A client that reads nothing for long may not keep its slot."""
        since = self._clock.monotonic() - self._settings.stall_seconds
        for request in self._in_hand:
            if request.watch is not None and request.writing_since is not None and request.writing_since <= since:
                request.watch.interrupt(ClientGoneError())

    def _end_all(self) -> None:
        refusal = errors.interrupted(self._settings.drain_retry_seconds)
        for request in list(self._in_hand):
            if request.watch is not None and request.lane is not None:
                request.watch.interrupt(refusal)
            else:
                request.refuse(refusal)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.tick_seconds)
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - one bad tick must not end all heartbeats
                _log.exception("a tick failed; the next one is due in %s s", self._settings.tick_seconds)
