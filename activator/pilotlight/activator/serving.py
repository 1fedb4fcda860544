"""One admitted request, from its place in the queue to its last byte."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pilotlight.activator import events, headers, progress, proxies
from pilotlight.activator.channel import EVENT_STREAM, Channel, Header
from pilotlight.activator.errors import RefusedError, answer_too_large, engine_error, replica_lost, replica_silent
from pilotlight.activator.forwarding import Answer, ReplicaLostError, SilentError, Upstream, is_dead
from pilotlight.activator.inhand import InHand, Several
from pilotlight.activator.parking import Watch
from pilotlight.activator.relaying import Relay
from pilotlight.activator.requests import upstream_body
from pilotlight.activator.settings import Settings
from pilotlight.activator.state import RevisionState
from pilotlight.activator.values import Clock

_ERROR_BYTES = 1024 * 1024  # an engine quotes what it refuses


class Lanes(Protocol):
    """What serving asks of the activator around it."""

    def lost(self, request: InHand, error: ReplicaLostError) -> None:
        """The request's replica failed: close its lane for a while, tell the waker."""

    def put_back(self, request: InHand) -> None:
        """The request gives up its slot and waits again, first in line."""

    def answered(self, request: InHand) -> None:
        """The engine's first byte has arrived."""

    def too_late(self, request: InHand) -> RefusedError:
        """What a request is told whose time to wait has passed."""


class Serving:
    """Holds, forwards, retries before the engine's first byte, and meters what passes."""

    def __init__(self, lanes: Lanes, upstream: Upstream, clock: Clock, settings: Settings) -> None:
        self._lanes = lanes
        self._upstream = upstream
        self._clock = clock
        self._settings = settings
        self._behind: dict[InHand, Channel] = {}  # streams that a service holds: it has not answered

    async def serve(self, request: InHand, channel: Channel) -> None:
        """Answer the client. Raises `RefusedError` when an error is still to be told, `ClientGoneError`."""
        while True:
            await self._hold(request, channel)
            try:
                await self._forward(request, channel)
                return
            except ReplicaLostError as error:
                self._lanes.lost(request, error)
                self._retry(request, error)
            except SilentError as error:  # it may be at work on it still: never made twice
                seconds = self._silence(request, 0.0)
                self._lanes.lost(request, ReplicaLostError(f"it said nothing for {seconds:g} s", sent=True))
                raise replica_silent(request.state.route.function, seconds) from error

    def _silence(self, request: InHand, patience: float) -> float:
        """`patience`: seconds that it may still wait for a replica beyond the one it was given to."""
        return patience + (self._settings.silence_seconds if request.stream else self._settings.answer_seconds)

    async def _hold(self, request: InHand, channel: Channel) -> None:
        while True:
            if request.refusal is not None:
                raise request.refusal
            if request.lane is not None:
                return
            now = self._clock.monotonic()
            if request.progress and request.beat_at <= now:
                await self._beat(request, channel, now)
            await request.parking.park(channel.receive)

    async def _beat(self, request: InHand, channel: Channel, now: float) -> None:
        request.beat_at = now + self._settings.heartbeat_every_seconds
        if not channel.started:
            await channel.start(200, [*EVENT_STREAM, *headers.early(request)])
        await channel.write(_comment(request.state, now))
        request.channel = channel

    def remind(self, due: Iterable[InHand]) -> None:
        """Heartbeats. A stream that has begun gets its own without waking its task: thousands are due in a second."""
        now = self._clock.monotonic()
        comments: dict[RevisionState, bytes] = {}
        for request in due:
            if request.channel is None or not request.parking.parked:
                request.parking.poke()
                continue
            if request.state not in comments:
                comments[request.state] = _comment(request.state, now)
            request.beat_at = now + self._settings.heartbeat_every_seconds
            request.channel.offer(comments[request.state])
        for request, channel in list(self._behind.items()):
            self._remind_behind(request, channel, now)

    def _remind_behind(self, request: InHand, channel: Channel, now: float) -> None:
        """The same for a stream that waits behind a service, and its end when that takes too long."""
        if request.expires <= now and request.watch is not None:
            request.watch.interrupt(self._lanes.too_late(request))
        elif request.progress and request.beat_at <= now:
            request.beat_at = now + self._settings.heartbeat_every_seconds
            if channel.offer_start([*EVENT_STREAM, *headers.early(request)]):
                channel.offer(progress.BEHIND_SERVICE)

    def _retry(self, request: InHand, error: ReplicaLostError) -> None:
        """Wait again, unless the engine's first byte was here or too many engines have had it."""
        route = request.state.route
        request.attempts += error.sent
        if request.begun:
            raise replica_lost(route.function, error.reason, None)
        if request.attempts >= self._settings.attempts:
            raise replica_lost(route.function, error.reason, route.start_eta_seconds)
        self._lanes.put_back(request)

    async def _forward(self, request: InHand, channel: Channel) -> None:
        if request.via_service and request.stream:
            self._behind[request] = channel
        try:
            async with Watch(channel.receive) as watch:
                request.watch = watch
                async with self._exchange(request) as answer:
                    await self._taken(request, answer)
                    whole = await self._passed(request, channel, answer)
                request.served_until = self._clock.monotonic()
                request.writing_since = request.served_until  # a client that takes nothing holds its slot to the end
                if whole is None:
                    await channel.finish()
                else:
                    await channel.answer(200, *whole)
        finally:
            self._behind.pop(request, None)

    def _exchange(self, request: InHand) -> AbstractAsyncContextManager[Answer]:
        assert request.lane is not None
        body = upstream_body(request.model, request.rest)
        patience = max(0.0, request.expires - self._clock.monotonic()) if request.via_service else 0.0
        silence = self._silence(request, patience)
        return self._upstream.exchange(request.lane.replica, request.endpoint.value, body, request.id, silence)

    async def _taken(self, request: InHand, answer: Answer) -> None:
        """An engine has it, and nobody holds it any longer; raises what was said in place of an answer."""
        self._behind.pop(request, None)
        if answer.status != 200:
            await self._raise_error(request, answer)
        request.reached(self._clock.monotonic())

    async def _passed(self, request: InHand, channel: Channel, answer: Answer) -> tuple[list[Header], bytes] | None:
        """Pass a stream on, or give an answer in one piece, headers and body."""
        if not request.stream:
            return await self._whole(request, answer)
        await self._stream(request, channel, answer)
        return None

    async def _whole(self, request: InHand, answer: Answer) -> tuple[list[Header], bytes]:
        """Without streaming the engine's answer passes as it is; its usage is in it.

        The engine is asked without streaming as well: putting log-probabilities, tool calls and choices together again
        would change answers. The price: an engine that dies takes the counts of an unfinished answer along.
        """
        body = bytearray()
        async for data in answer.chunks():
            self._begin(request)
            body += data
            if len(body) > self._settings.answer_bytes:
                raise answer_too_large(self._settings.answer_bytes)
        events.count_answer(request, bytes(body))
        kind = (answer.header("Content-Type") or "application/json").encode("latin-1")
        return [(b"content-type", kind), *headers.late(request)], bytes(body)

    async def _stream(self, request: InHand, channel: Channel, answer: Answer) -> None:
        request.token_ids = events.new_token_ids() if request.single else None
        request.several = None if request.single else Several(request.choices)
        relay = Relay(request, self._clock, self._settings.event_bytes)
        try:
            await self._relay(request, relay, channel, answer)
        except ReplicaLostError:
            if not relay.done:  # a connection that breaks behind `[DONE]` takes nothing of the answer along
                raise
        if not relay.done:
            raise ReplicaLostError("its stream ended early", sent=True)

    async def _relay(self, request: InHand, relay: Relay, channel: Channel, answer: Answer) -> None:
        async for data in answer.chunks():
            out = _fed(relay, data)
            if relay.begun:
                self._begin(request)
            if out:
                request.writing_since = self._clock.monotonic()
                await channel.write(await self._opening(request, relay, channel) + out)
                request.writing_since = None
            if relay.error is not None:
                self._raise_event(relay.error)

    async def _opening(self, request: InHand, relay: Relay, channel: Channel) -> bytes:
        """What goes before a stream's first event: headers, or the comment that completes those that were sent."""
        if relay.opened:
            return b""
        relay.opened = True
        if channel.started:
            return progress.released(headers.facts(request))
        await channel.start(200, [*EVENT_STREAM, *headers.late(request)])
        return b""

    def _begin(self, request: InHand) -> None:
        if not request.begun:
            request.begun = True
            self._lanes.answered(request)

    async def _raise_error(self, request: InHand, answer: Answer) -> None:
        """The engine refused, or is not well, or a proxy speaks in its place."""
        body = await answer.read(_ERROR_BYTES)
        verdict = proxies.verdict(answer.status, body, request.state.route, self._settings.overload_retry_seconds)
        if verdict is not None:
            raise verdict
        if answer.status >= 500 and is_dead(body):
            raise ReplicaLostError("its engine has died", sent=True)
        retry_after = self._settings.overload_retry_seconds if answer.status in (429, 503) else None
        raise engine_error(answer.status, events.error_in(body), retry_after)

    def _raise_event(self, error: dict[str, object]) -> None:
        """The same for an engine that had sent 200 before it knew."""
        code = error.get("code")
        status = code if isinstance(code, int) else 500
        if status >= 500 and is_dead(json.dumps(error).encode()):  # others may quote the client's own words
            raise ReplicaLostError("its engine has died", sent=True)
        raise engine_error(status, error, None)


def _comment(state: RevisionState, now: float) -> bytes:
    return progress.waiting(state.route, state.queue.queued, state.route_age(now))


def _fed(relay: Relay, data: bytes) -> bytes:
    try:
        return relay.feed(data)
    except events.EventTooLargeError as error:
        raise answer_too_large(error.limit) from error
