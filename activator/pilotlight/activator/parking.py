"""How one task waits for its client and for us at once, without a second task or a timer for each held request.

Both tools work as `asyncio.timeout` does: cancel the task, catch the cancellation at a known place, uncancel. A
cancellation by anyone else passes through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientGoneError(Exception):
    """The client closed its connection."""


class Parking:
    """A held request's own task, waiting in `receive()` until the client leaves or somebody pokes it."""

    __slots__ = ("_parked", "_poked", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._parked = False
        self._poked = False

    @property
    def parked(self) -> bool:
        """The task waits, and does nothing else with its client."""
        return self._parked

    def poke(self) -> None:
        """Make the task look at its state again; many pokes before it does are one."""
        self._poked = True
        if self._parked and self._task is not None:
            self._parked = False
            self._task.cancel()

    async def park(self, receive: Receive) -> None:
        """Return when poked; raise `ClientGoneError` when the client left."""
        task = self._task = asyncio.current_task()
        assert task is not None
        while not self._poked:
            self._parked = True
            try:
                message = await receive()
            except asyncio.CancelledError:
                if self._parked or task.uncancel() > 0:
                    raise
                break
            finally:
                self._parked = False
            if message["type"] == "http.disconnect":
                raise ClientGoneError
        self._poked = False


class Watch:
    """A block that ends early, with a given error, when the client leaves or when `interrupt()` is called.

    Costs a task, so it is for running requests only: their number is bounded by the replicas' slots.
    """

    __slots__ = ("_error", "_receive", "_task", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[Any] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._error: Exception | None = None

    async def __aenter__(self) -> Watch:
        self._task = asyncio.current_task()
        self._watcher = asyncio.create_task(self._until_gone())
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, raised: BaseException | None, _trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._watcher is not None:
            self._watcher.cancel()
        if self._error is None or task is None:
            return
        if task.uncancel() == 0 or not isinstance(raised, asyncio.CancelledError):
            raise self._error from raised

    def interrupt(self, error: Exception) -> None:
        """End the block with `error`; does nothing when it has ended."""
        if self._task is not None and self._error is None:
            self._error = error
            self._task.cancel()

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.interrupt(ClientGoneError())
