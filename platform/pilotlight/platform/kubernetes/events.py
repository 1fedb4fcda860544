"""Events of Function objects, for `kubectl describe`: what was decided, and what was refused."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.records import Records
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import ConflictError, KubernetesError
from pilotlight.platform.kubernetes.kinds import EVENT, FUNCTION, MANAGED_BY, Object
from pilotlight.platform.kubernetes.status import timestamp
from pilotlight.platform.values import DecisionRecord

MESSAGE_LIMIT = 1024
NAME_LIMIT = 40
"""Of the function's name, characters that an event's name begins with."""
WAITING = 1000
"""Events that wait to be written at most; of more the newest are not told."""
COMPONENT = "pilotlight-operator"
TROUBLE = frozenset({"back_off", "no_room"})
"""Reasons that Kubernetes shows as a warning."""

log = structlog.get_logger(__name__)


class Events:
    """Written in a thread of their own: the control loop must not wait for an API server that is away.

    An event that cannot be written is logged and forgotten: the decision itself is in the database.
    """

    def __init__(self, api: Api, find: Callable[[str, str], Object | None]) -> None:
        """`find` gives a Function object by namespace and name."""
        self._api = api
        self._find = find
        self._room = threading.BoundedSemaphore(WAITING)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events")

    def decided(self, record: DecisionRecord) -> None:
        """Returns at once."""
        function = self._find(*record.function)
        if function is not None:
            kind = "Warning" if record.reason in TROUBLE else "Normal"
            text = f"{record.desired} replicas: {record.sentence}"
            self._tell(event(function, kind, _camel(record.reason), text, record.at))

    def refused(self, function: Object, verdict: Mapping[str, Any], at: float) -> None:
        """A condition of the function that has become false; `at`: Unix time. Returns at once."""
        self._tell(event(function, "Warning", verdict["reason"], verdict["message"], at))

    def close(self) -> None:
        """What still waits is not told."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _tell(self, told: Object) -> None:
        if self._room.acquire(blocking=False):
            self._thread.submit(self._write, told)
        else:
            log.warning("too many events wait; this one is not told", function=told["involvedObject"]["name"])

    def _write(self, told: Object) -> None:
        try:
            self._api.create(EVENT, told)
        except ConflictError:
            pass  # told already
        except KubernetesError as error:
            log.warning("event could not be written", name=told["metadata"]["name"], error=str(error))
        except Exception:
            log.exception("event could not be written", name=told["metadata"]["name"])
        finally:
            self._room.release()


def event(function: Object, kind: str, reason: str, message: str, at: float) -> Object:
    """The same words in the same second are the same event; `kind`: Normal or Warning."""
    metadata = function["metadata"]
    identity = hashlib.sha256(f"{metadata['uid']} {reason} {message} {at:.0f}".encode()).hexdigest()[:16]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {
            "namespace": metadata["namespace"],
            "name": f"{metadata['name'][:NAME_LIMIT].rstrip('-')}.{identity}",
            "labels": dict(MANAGED_BY),
        },
        "involvedObject": {
            "apiVersion": FUNCTION.api_version,
            "kind": FUNCTION.kind,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message[:MESSAGE_LIMIT],
        "firstTimestamp": timestamp(at),
        "lastTimestamp": timestamp(at),
        "count": 1,
        "source": {"component": COMPONENT},
    }


class ToldRecords(Records):
    """Decisions are events as well."""

    def __init__(self, database: Database, events: Events) -> None:
        super().__init__(database)
        self._events = events

    def decided(self, records: Sequence[DecisionRecord]) -> None:
        super().decided(records)
        for record in records:
            self._events.decided(record)


def _camel(reason: str) -> str:
    return "".join(word.capitalize() for word in reason.split("_"))
