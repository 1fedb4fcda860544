"""A small API server in memory, scripted to fail, and plain holders where the platform reads mirrors."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from pilotlight.platform.kubernetes.api import Listing
from pilotlight.platform.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import Key, Kind, Object, key_of, labels_of
from pilotlight.runtime.codec import dump
from pilotlight.runtime.podspec import STATUS_PORT
from pilotlight.runtime.spec import ReplicaStatus

Body = Mapping[str, Any]


@dataclass
class Holder:
    """Implements `Objects`."""

    objects: dict[Key, Object] = field(default_factory=dict)

    def get(self, namespace: str, name: str) -> Object | None:
        return self.objects.get(Key(namespace, name))

    def put(self, found: Object) -> None:
        self.objects[key_of(found)] = found


@dataclass
class ScriptedApi:
    """Stands in for the server behind `Api`: versions, uids, conflicts and merge patches, and failures on demand."""

    calls: list[tuple[str, str, str]] = field(default_factory=list)
    """Verb, plural with its subresource, and name of everything that was asked for."""
    failing: dict[str, KubernetesError] = field(default_factory=dict)
    """By verb."""
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    """By verb: run once before the next call, as if somebody else had been faster, or the server slow."""
    stored: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    versions: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        self._called("get", kind, name)
        with self.lock:
            return self._there(kind, namespace, name)

    def list(self, kind: Kind, namespace: str = "", labels: str = "", fields: str = "") -> Listing:
        self._called("list", kind, fields)
        name = fields.removeprefix("metadata.name=")
        with self.lock:
            found = [
                each
                for (plural, where, called), each in self.stored.items()
                if plural == _id(kind) and where == namespace and name in ("", called) and labels in labels_of(each)
            ]
        return Listing(tuple(found), str(self.versions))

    def create(self, kind: Kind, body: Body) -> Object:
        self._called("create", kind, body["metadata"]["name"])
        with self.lock:
            if self._place(kind, body) in self.stored:
                raise ConflictError("POST", 409, "AlreadyExists", "it already exists")
            return self._store(kind, body)

    def apply(self, kind: Kind, body: Body, dry_run: bool = False) -> Object:
        self._called("dry run" if dry_run else "apply", kind, body["metadata"]["name"])
        return body if dry_run else self._store(kind, body)

    def patch(self, kind: Kind, namespace: str, name: str, body: Any, subresource: str = "") -> Object:
        self._called("patch", kind, name, subresource)
        with self.lock:
            there = self._there(kind, namespace, name)
            if not isinstance(body, Mapping):
                return there
            version = body.get("metadata", {}).get("resourceVersion", there["metadata"]["resourceVersion"])
            if version != there["metadata"]["resourceVersion"]:
                raise ConflictError("PATCH", 409, "Conflict", "the object has been modified")
            return self._store(kind, _merged(there, body))

    def delete(
        self, kind: Kind, namespace: str, name: str, foreground: bool = False, grace_seconds: int | None = None
    ) -> None:
        how = "foreground" if foreground else "" if grace_seconds is None else f"{grace_seconds} s"
        self._called("delete", kind, name, how)
        with self.lock:
            self.stored.pop((_id(kind), namespace, name), None)

    def made(self, kind: Kind) -> Sequence[dict[str, Any]]:
        """All there are of a kind."""
        return [found for place, found in self.stored.items() if place[0] == _id(kind)]

    def _called(self, verb: str, kind: Kind, name: str, more: str = "") -> None:
        if first := self.before.pop(verb, None):
            first()
        self.calls.append((verb, f"{kind.plural}/{more}" if more else kind.plural, name))
        if verb in self.failing:
            raise self.failing[verb]

    def _there(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        try:
            return self.stored[_id(kind), namespace, name]
        except KeyError:
            raise NotFoundError("GET", 404, "NotFound", f"{kind.plural} {name} not found") from None

    def _store(self, kind: Kind, body: Body) -> dict[str, Any]:
        with self.lock:
            self.versions += 1
            place = self._place(kind, body)
            old = self.stored.get(place, {"metadata": {"uid": f"uid-{self.versions}", "generation": 0}})
            generation = old["metadata"]["generation"] + (body.get("spec", {}) != old.get("spec"))
            known = {
                **body["metadata"],
                "uid": old["metadata"]["uid"],
                "generation": generation,
                "resourceVersion": str(self.versions),
            }
            self.stored[place] = {**body, "metadata": known}
            return self.stored[place]

    def _place(self, kind: Kind, body: Body) -> tuple[str, str, str]:
        return (_id(kind), body["metadata"].get("namespace", ""), body["metadata"]["name"])


def _id(kind: Kind) -> str:
    return f"{kind.group}/{kind.plural}"


def _merged(there: Body, patch: Body) -> dict[str, Any]:
    """RFC 7396."""
    merged = dict(there)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = _merged(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
def holder() -> Callable[..., Holder]:
    """holder(*objects)"""

    def make(*found: Object) -> Holder:
        return Holder({key_of(each): each for each in found})

    return make


@dataclass
class Supervisor:
    """Answers at a pod's address as the process in it does."""

    status: ReplicaStatus
    refuses: bool = False
    key: str = "engine-key"
    asked: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["authorization"] == f"Bearer {self.key}"
        self.asked += 1
        return web.Response(status=401) if self.refuses else web.Response(body=dump(self.status))


@pytest.fixture
async def supervisor() -> AsyncIterator[Callable[..., Awaitable[Supervisor]]]:
    """await supervisor(ip, status, refuses=False, key="engine-key"); `ip`: a free one of loopback."""
    async with AsyncExitStack() as ending:

        async def make(ip: str, status: ReplicaStatus, **more: Any) -> Supervisor:
            made, app = Supervisor(status, **more), web.Application()
            app.router.add_get("/status", made.answer)
            runner = web.AppRunner(app)
            await runner.setup()
            ending.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, ip, STATUS_PORT).start()
            return made

        yield make
