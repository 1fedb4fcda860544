"""Asking pods how far they are: their supervisors answer long before Kubernetes calls them ready.

Whoever wants to know what their engines count goes on asking ready ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp

from pilotlight.runtime.codec import BadDocumentError, parse_status
from pilotlight.runtime.podspec import STATUS_PORT
from pilotlight.runtime.spec import ReplicaState, ReplicaStatus

POLL_SECONDS = 0.1
"""Between two questions to one pod: part of every cold start."""
ANSWER_SECONDS = 1.0
STATUS_LIMIT = 2**18


@dataclass(frozen=True)
class Target:
    """A pod."""

    ip: str
    engine_key: str


class Prober:
    """Tell it the pods to ask with `aim`; read `said`. `changed` is called when an answer says something new."""

    def __init__(self, changed: Callable[[], None], again_seconds: float | None = None) -> None:
        """`again_seconds`: between two questions to a pod that is ready; None: it is asked no more."""
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

    async def _ask_until_ready(self, name: str, target: Target) -> None:
        while True:
            status = await self._ask(target)
            if status is not None and status != self._said.get(name):
                self._said[name] = status
                self._changed()
                if status.state is not ReplicaState.STARTING:
                    return
            await asyncio.sleep(POLL_SECONDS)

    async def _ask_on(self, name: str, target: Target) -> None:
        await self._ask_until_ready(name, target)
        while self._again_seconds is not None:
            await asyncio.sleep(self._again_seconds)
            if status := await self._ask(target):
                self._said[name] = status  # no news: whoever looks once a second sees it soon enough

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
