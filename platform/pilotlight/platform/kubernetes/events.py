"""Events of Function objects, for `kubectl describe`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import structlog

from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.records import Records
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import ConflictError, KubernetesError
from pilotlight.platform.kubernetes.kinds import EVENT, FUNCTION, MANAGED_BY, Object
from pilotlight.platform.kubernetes.status import timestamp
from pilotlight.platform.values import DecisionRecord

MESSAGE_LIMIT = 1024
COMPONENT = "pilotlight-operator"
TROUBLE = frozenset({"back_off", "no_room"})
"""Reasons that Kubernetes shows as a warning."""

log = structlog.get_logger(__name__)


class Events:
    """Blocking; an event that cannot be written is logged and forgotten: the decision itself is in the database."""

    def __init__(self, api: Api, find: Callable[[str, str], Object | None]) -> None:
        """`find` gives a Function object by namespace and name."""
        self._api = api
        self._find = find

    def decided(self, record: DecisionRecord) -> None:
        kind = "Warning" if record.reason in TROUBLE else "Normal"
        text = f"{record.desired} replicas: {record.sentence}"
        self.tell(record.function.namespace, record.function.name, kind, _camel(record.reason), text, record.at)

    def tell(self, namespace: str, name: str, kind: str, reason: str, message: str, at: float) -> None:
        """`kind`: Normal or Warning."""
        function = self._find(namespace, name)
        if function is None:
            return
        try:
            self._api.create(EVENT, event(function, kind, reason, message, at))
        except ConflictError:
            pass  # told already
        except KubernetesError as error:
            log.warning("event could not be written", function=f"{namespace}/{name}", reason=reason, error=str(error))


def event(function: Object, kind: str, reason: str, message: str, at: float) -> Object:
    """The same words in the same second are the same event."""
    metadata = function["metadata"]
    identity = hashlib.sha256(f"{metadata['uid']} {reason} {message} {at:.0f}".encode()).hexdigest()[:16]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {
            "namespace": metadata["namespace"],
            "name": f"{metadata['name'][:40]}.{identity}",
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
