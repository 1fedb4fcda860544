"""Asking pods how far they are: their supervisors answer long before Kubernetes calls them ready.

Whoever wants to know what their engines count goes on asking ready ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import aiohttp

from pilotlight.runtime.codec import BadDocumentError, parse_status
from pilotlight.runtime.podspec import STATUS_PORT
from pilotlight.runtime.spec import ReplicaState, ReplicaStatus

POLL_SECONDS = 0.1
"""Between two questions to a pod that starts: part of every cold start."""
ANSWER_SECONDS = 1.0
STATUS_LIMIT = 2**18


@dataclass(frozen=True)
class Target:
    """A pod."""

    ip: str
    engine_key: str
    ready: bool = False
    """Kubernetes calls it ready: no start waits for its answer, nor is one missed that it does not give."""


class Prober:
    """Tell it the pods to ask with `aim`; read `said`. `changed` is called when an answer says something new."""

    def __init__(self, changed: Callable[[], None], again_seconds: float | None = None) -> None:
        """`again_seconds`: between two questions to a pod that has started; None: it is asked no more."""
        self._changed = changed
        self._again_seconds = again_seconds
        self._tasks: dict[str, tuple[Target, asyncio.Task[None]]] = {}
        self._said: dict[str, ReplicaStatus] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def said(self) -> Mapping[str, ReplicaStatus]:
        """The last word of each pod, by name; kept for as long as it is aimed at or until `forget`."""
        return self._said

    def aim(self, targets: Mapping[str, Target]) -> None:
        """From now on these, and no others; call it in the event loop."""
        for name in self._tasks.keys() - targets.keys():
            self._tasks.pop(name)[1].cancel()
        for name, target in targets.items():
            known = self._tasks.get(name)
            if known is None or known[0] != target:
                if known is not None:
                    known[1].cancel()
                self._tasks[name] = (target, asyncio.create_task(self._ask_on(name, target)))

    def forget(self, name: str) -> None:
        self._said.pop(name, None)

    async def close(self) -> None:
        self.aim({})
        if self._session is not None:
            await self._session.close()

    async def _ask_on(self, name: str, target: Target) -> None:
        while True:
            status = await self._ask(target)
            if status is not None:
                self._take(name, status)
            starts = not target.ready and (status is None or status.state is ReplicaState.STARTING)
            pause = POLL_SECONDS if starts else self._again_seconds
            if pause is None:
                return
            await asyncio.sleep(pause)

    def _take(self, name: str, status: ReplicaStatus) -> None:
        before, self._said[name] = self._said.get(name), status
        if before is None or _without_counts(before) != _without_counts(status):
            self._changed()

    async def _ask(self, target: Target) -> ReplicaStatus | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS))
        host = f"[{target.ip}]" if ":" in target.ip else target.ip
        headers = {"Authorization": f"Bearer {target.engine_key}"}
        try:
            async with self._session.get(f"http://{host}:{STATUS_PORT}/status", headers=headers) as answer:
                if answer.status != 200:
                    return None
                return parse_status(await answer.content.read(STATUS_LIMIT))
        except (aiohttp.ClientError, TimeoutError, OSError, BadDocumentError):
            return None


def _without_counts(status: ReplicaStatus) -> ReplicaStatus:
    """What is news: whoever looks at counts once a second sees them soon enough."""
    return replace(status, running=None, counters=None)
