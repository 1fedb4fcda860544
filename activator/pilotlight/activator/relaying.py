"""A running stream on its way from engine to client: metered, and rid of what was asked for ourselves."""

from __future__ import annotations

from pilotlight.activator import events
from pilotlight.activator.inhand import InHand
from pilotlight.activator.values import Clock


class Relay:
    """Takes reads of the engine's stream, gives what the client is to get of them.

    After an error event of the engine nothing more is given: `error` has it, and the caller words the end.
    """

    __slots__ = ("_clock", "_request", "_splitter", "begun", "done", "error", "opened")

    def __init__(self, request: InHand, clock: Clock, event_bytes: int) -> None:
        self._request = request
        self._clock = clock
        self._splitter = events.Splitter(event_bytes)
        self.begun = False  # something was made for this request, whether or not the client gets to see it
        self.opened = False  # the client has got what goes before the first event
        self.done = False
        self.error: dict[str, object] | None = None

    def feed(self, data: bytes) -> bytes:
        """Raises `EventTooLargeError`."""
        out: list[bytes] = []
        for event in self._splitter.feed(data):
            passed = self._pass(event)
            if self.error is not None:
                break
            if passed is not None:
                out.append(passed)
        return b"\n\n".join((*out, b"")) if out else b""

    def _pass(self, event: bytes) -> bytes | None:
        if event == events.DONE:
            self.done = self.begun = True
            return event
        chunk = events.parse(event)
        if chunk is None:
            return event
        self.error = events.error_of(chunk)
        if self.error is not None:
            return None
        self.begun = True
        request = self._request
        events.count(request, chunk)
        if request.ttft is None and request.completion_tokens:
            request.ttft = self._clock.monotonic() - request.arrived
        changed = events.strip(chunk, request.wants)
        if changed is None:
            return None
        return events.render(chunk) if changed else event
