"""How many requests the platform's processes make of the API server, as the API server itself counts them.

Its metrics say nothing of who asked, but its flow control counts by FlowSchema, and a FlowSchema may be for one service
account and one kind of request. Those made here name the priority level that the requests have without them, so that
they are only counted. A watch counts once, when it begins. With several API servers, the one that answers tells of
itself alone.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator, Mapping

from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.kinds import Kind, Object

FLOW_SCHEMA = Kind("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema", "flowschemas", namespaced=False)
PRIORITY = "workload-low"
"""Of service accounts, unless a cluster was configured otherwise."""
PRECEDENCE = 8000
"""Before the one of all service accounts."""
ACCOUNTS = ("pilotlight-operator", "pilotlight-activator")
_EVERY = {"apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
CLASSES: Mapping[str, Mapping[str, object]] = {
    "leases": {**_EVERY, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
    "watches": {**_EVERY, "verbs": ["watch"]},
    "others": {**_EVERY, "verbs": ["*"]},
}
"""The first that fits counts."""
_COUNT = re.compile(r'^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="([^"]+)".*\} (\S+)$', re.MULTILINE)


@contextlib.contextmanager
def counted(api: Api, namespace: str) -> Iterator[None]:
    """From here on the requests of our accounts in that namespace are told apart."""
    schemas = [
        _schema(account, name, rule, PRECEDENCE + number, namespace)
        for account in ACCOUNTS
        for number, (name, rule) in enumerate(CLASSES.items())
    ]
    try:
        for schema in schemas:
            api.apply(FLOW_SCHEMA, schema)
        yield
    finally:
        for schema in schemas:
            api.delete(FLOW_SCHEMA, "", schema["metadata"]["name"])


def read(kubectl: tuple[str, ...]) -> dict[str, float]:
    """Requests so far, by `ACCOUNT CLASS`."""
    command = [*kubectl, "get", "--raw", "/metrics"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    counts = {name: float(value) for name, value in _COUNT.findall(text)}
    return {f"{account} {name}": counts.get(_name(account, name), 0.0) for account in ACCOUNTS for name in CLASSES}


def _name(account: str, class_: str) -> str:
    return f"bench-{account}-{class_}"


def _schema(account: str, class_: str, rule: Mapping[str, object], precedence: int, namespace: str) -> Object:
    subject = {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": account}}
    return {
        "metadata": {"name": _name(account, class_)},
        "spec": {
            "priorityLevelConfiguration": {"name": PRIORITY},
            "matchingPrecedence": precedence,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [subject], "resourceRules": [rule]}],
        },
    }
