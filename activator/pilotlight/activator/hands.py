"""Requests in hand: each is carried to its end, whichever it is, and leaves exactly one row."""

from __future__ import annotations

import asyncio

from pilotlight.activator import headers
from pilotlight.activator.channel import Channel
from pilotlight.activator.errors import RefusedError, interrupted, ledger_unwritable
from pilotlight.activator.fleet import Fleet
from pilotlight.activator.inhand import InHand
from pilotlight.activator.metrics import Metrics
from pilotlight.activator.parking import ClientGoneError
from pilotlight.activator.serving import Serving
from pilotlight.activator.settings import Settings
from pilotlight.activator.values import Caller, Clock, Meter, Route, Usage

_REASON = 500  # characters of a row's reason: an engine may quote a whole prompt


class Hands:
    """Owns the set of admitted requests that have not ended."""

    def __init__(
        self, fleet: Fleet, serving: Serving, meter: Meter, metrics: Metrics, clock: Clock, settings: Settings
    ) -> None:
        self._fleet = fleet
        self._serving = serving
        self._meter = meter
        self._metrics = metrics
        self._clock = clock
        self._settings = settings
        self._requests: set[InHand] = set()
        self._checkpoint_at = 0.0
        self.idle = asyncio.Event()
        self.idle.set()

    def admit(self, request: InHand) -> None:
        """Write the durable line; from here on `carry` must follow. Raises `RefusedError` when it cannot be written."""
        try:
            self._meter.admitted(request.usage(request.arrived))
        except OSError as error:  # a full disk, most often: nothing may run that is not accounted for
            raise ledger_unwritable(self._settings.overload_retry_seconds) from error
        self._requests.add(request)
        self.idle.clear()

    async def carry(self, request: InHand, channel: Channel) -> None:
        """Hold it, forward it, answer it, and write its row; raises only what is nobody's answer."""
        try:
            self._fleet.enter(request)
            await self._serving.serve(request, channel)
            request.end("ok", 200)
        except RefusedError as refusal:
            request.end(refusal.outcome, refusal.status, refusal.message[:_REASON])
            self._depart(request)  # its place is free before a slow client has read why
            await channel.refuse(refusal, headers.late(request), self._settings)
        except ClientGoneError:
            request.end("cancelled", 499, "the client left")
        except asyncio.CancelledError:
            request.end("cancelled", 499, "the server ended the request")
            raise
        except BaseException as error:
            request.end("failed", 500, repr(error)[:_REASON])
            raise
        finally:
            self._depart(request)

    def refused(self, request: str, caller: Caller, route: Route, refusal: RefusedError) -> None:
        """The row of a request that was not admitted."""
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

    def checkpoint(self) -> None:
        """Once per interval: the counts of what runs."""
        now = self._clock.monotonic()
        if now - self._checkpoint_at < self._settings.checkpoint_seconds:
            return
        self._checkpoint_at = now
        running = [request.usage(now) for request in self._requests if request.lane is not None]
        if running:
            self._meter.checkpoint(running)

    def end_stalled(self) -> None:
        """A client that reads nothing for long may not keep its slot."""
        since = self._clock.monotonic() - self._settings.stall_seconds
        for request in self._requests:
            if request.watch is not None and request.writing_since is not None and request.writing_since <= since:
                request.watch.interrupt(ClientGoneError())

    def end_all(self) -> None:
        """Shutting down: tell everybody who still waits or streams."""
        refusal = interrupted(self._settings.drain_retry_seconds)
        for request in list(self._requests):
            self._fleet.refuse(request, refusal)
            if request.watch is not None:
                request.watch.interrupt(refusal)

    def _depart(self, request: InHand) -> None:
        """Free its place and write its row, once."""
        if request not in self._requests:
            return
        self._requests.discard(request)
        if not self._requests:
            self.idle.set()
        now = self._clock.monotonic()
        if request.served_from is not None:
            request.served_until = now if request.served_until is None else request.served_until
            self._metrics.held(request.state.route.function, request.waited)
        try:
            self._fleet.leave(request, self._clock.now())  # tells the waker of those that still wait
        finally:
            self._finish(request.usage(now))

    def _finish(self, usage: Usage) -> None:
        self._metrics.ended(usage)
        self._meter.finished(usage)
