"""A copy of the API server's objects of one kind, kept current by list and watch in a thread of its own.

Level-triggered: after any trouble (a watch that is too old, a server that was away) the whole list replaces the copy,
so that a deletion that nobody told us of is seen as well. While the server is away the last copy stays.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from pilotlight.platform.kubernetes.api import Api, Event
from pilotlight.platform.kubernetes.errors import GoneError, KubernetesError, NotFoundError, UnreachableError
from pilotlight.platform.kubernetes.kinds import Key, Kind, Object, key_of

RETRY_SECONDS = 0.5
RETRY_MOST_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Objects(Protocol):
    """What is read of a mirror."""

    @property
    def objects(self) -> Mapping[Key, Object]:
        """All of them, as they are now."""

    def get(self, namespace: str, name: str) -> Object | None:
        """None: there is none such."""


class Mirror:
    """Read `objects` at any time; `changed` is called from the mirror's thread with the key of each change."""

    def __init__(
        self,
        api: Api,
        kind: Kind,
        changed: Callable[[Key], None],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
    ) -> None:
        self.kind = kind
        self._api = api
        self._changed = changed
        self._where = {"namespace": namespace, "labels": labels, "fields": fields}
        self._lock = threading.Lock()
        self._objects: dict[Key, Object] = {}
        self._synced = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mirror {kind.plural}", daemon=True)

    @property
    def objects(self) -> Mapping[Key, Object]:
        """As they are now; a copy, so that it may be iterated while changes come in."""
        with self._lock:
            return dict(self._objects)

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get(Key(namespace, name))

    @property
    def synced(self) -> bool:
        """Whether the whole list has been seen once."""
        return self._synced.is_set()

    def start(self) -> None:
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Until it is synced."""
        return self._synced.wait(seconds)

    def close(self) -> None:
        """It ends with its next event or try; nothing is told from here on."""
        self._ended.set()

    def _run(self) -> None:
        failures = 0
        while not self._ended.is_set():
            try:
                version = self._list()
                if failures:
                    log.info("mirror is current again", kind=self.kind.plural)
                failures = 0
                self._follow(version)
            except KubernetesError as error:
                if failures == 0:
                    log.warning("mirror has lost its source", kind=self.kind.plural, error=str(error))
                failures += 1
                self._ended.wait(_pause(failures))
            except Exception:  # without this thread nothing would ever be seen again
                log.exception("mirror failed; it lists again", kind=self.kind.plural)
                failures += 1
                self._ended.wait(_pause(failures))

    def _list(self) -> str:
        try:
            listing = self._api.list(self.kind, **self._where)
        except NotFoundError as error:
            raise UnreachableError(error.doing, error.status, error.reason, "the kind is not installed") from error
        fresh = {key_of(found): found for found in listing.items}
        with self._lock:
            before, self._objects = self._objects, fresh
        self._synced.set()
        for key in before.keys() | fresh.keys():
            if _version(before.get(key)) != _version(fresh.get(key)):
                self._tell(key)
        return listing.version

    def _follow(self, version: str) -> None:
        """Until the watch's history is gone."""
        while not self._ended.is_set():
            try:
                for event in self._api.watch(self.kind, version, **self._where):
                    version = event.object["metadata"]["resourceVersion"]
                    self._take(event)
                    if self._ended.is_set():
                        return
            except GoneError:
                return

    def _take(self, event: Event) -> None:
        if event.type == "BOOKMARK":
            return
        key = key_of(event.object)
        with self._lock:
            if event.type == "DELETED":
                self._objects.pop(key, None)
            else:
                self._objects[key] = event.object
        self._tell(key)

    def _tell(self, key: Key) -> None:
        if not self._ended.is_set():
            self._changed(key)


def _version(found: Object | None) -> str:
    return found["metadata"]["resourceVersion"] if found is not None else ""


def _pause(failures: int) -> float:
    """Seconds; spread, so that many mirrors do not come back in one moment."""
    return random.uniform(0.5, 1.0) * min(RETRY_MOST_SECONDS, RETRY_SECONDS * 2.0 ** min(failures, 6))  # noqa: S311
