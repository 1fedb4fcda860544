"""One look at a cluster. What cannot be read is left out and said why; nothing is changed but the probe's own pod."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pilotlight.platform.doctor.facts import Facts, Permission, Probe, Settings
from pilotlight.platform.doctor.permissions import FORBIDDEN, attributes, granted, to_install
from pilotlight.platform.doctor.podprobe import probe
from pilotlight.platform.install.discovery import Kinds
from pilotlight.platform.install.installer import SYSTEM
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import KubernetesError, NotFoundError, UnreachableError
from pilotlight.platform.kubernetes.kinds import (
    CONFIG_MAP,
    CRD,
    DEPLOYMENT,
    FUNCTION,
    LEASE,
    NODE,
    Kind,
    Object,
    key_of,
)

KNATIVE = "knative-serving"
CONFIGS = frozenset({"config-autoscaler", "config-defaults", "config-deployment", "config-features", "config-network"})
ACCOUNTS = ("pilotlight-operator", "pilotlight-activator")
OWN_REVIEW = Kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False)
REVIEW = Kind("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False)
NODE_LEASES = "kube-node-lease"

T = TypeVar("T")
U = TypeVar("U")


class Gatherer:
    """Blocking."""

    def __init__(self, api: Api, objects: Sequence[Object]) -> None:
        """`objects`: what an installation would apply, to compare with; empty: they could not be rendered."""
        self._api = api
        self._objects = objects
        self._unread: dict[str, str] = {}

    def facts(self, with_probe: bool = True) -> Facts:
        """Raises UnreachableError when the API server does not answer at all."""
        version = str(self._api.raw("/version").get("gitVersion", ""))
        server, local = self._or("server_time", self._clocks, (0.0, 0.0))
        system = self._or("system", self._ours, None)
        crd = self._or("crd", self._kind, None)
        return Facts(
            version=version,
            knative=self._or("knative", lambda: self._api.list(DEPLOYMENT, KNATIVE).items, None),
            config=self._or("config", self._config, None),
            nodes=self._or("nodes", lambda: self._api.list(NODE).items, None),
            heartbeats=self._or("heartbeats", self._heartbeats, None),
            server_time=server,
            local_time=local,
            functions=self._or("functions", lambda: self._api.list(FUNCTION).items, None) if crd else (),
            crd=crd,
            crd_wanted=next((found for found in self._objects if found["kind"] == CRD.kind), None),
            system=system,
            denied=self._compared("denied", self._denied),
            accounts=self._compared("accounts", self._accounts) if system else {},
            probe=self._or("probe", lambda: self._probe(system or ()), None) if with_probe else None,
            unread=self._unread,
        )

    def _or(self, name: str, read: Callable[[], T], otherwise: U) -> T | U:
        try:
            return read()
        except UnreachableError as error:
            self._unread[name] = error.message
        except KubernetesError as error:
            self._unread[name] = str(error)
        return otherwise

    def _compared(self, name: str, read: Callable[[], T]) -> T | None:
        """With the manifests; without them nothing can be said to be as it should."""
        if not self._objects:
            self._unread[name] = "the manifests could not be rendered: is kubectl on the PATH?"
            return None
        return self._or(name, read, None)

    def _clocks(self) -> tuple[float, float]:
        """The answer was dated somewhere between the two readings of our own clock."""
        before = time.time()
        server = self._api.date()
        return server, (before + time.time()) / 2

    def _config(self) -> Mapping[str, Settings]:
        found = self._api.list(CONFIG_MAP, KNATIVE).items
        return {name: each.get("data") or {} for each in found if (name := each["metadata"]["name"]) in CONFIGS}

    def _heartbeats(self) -> Mapping[str, float]:
        leases = self._api.list(LEASE, NODE_LEASES).items
        return {key_of(each).name: datetime.fromisoformat(each["spec"]["renewTime"]).timestamp() for each in leases}

    def _ours(self) -> tuple[Object, ...]:
        return self._api.list(DEPLOYMENT, SYSTEM, labels="app.kubernetes.io/part-of=pilotlight").items

    def _kind(self) -> Object | None:
        try:
            return self._api.get(CRD, "", f"{FUNCTION.plural}.{FUNCTION.group}")
        except NotFoundError:
            return None

    def _denied(self) -> tuple[Permission, ...]:
        wanted = to_install(self._objects, self._plurals())
        return tuple(each for each in wanted if not self._allowed(OWN_REVIEW, each, {}))

    def _plurals(self) -> Mapping[tuple[str, str], str]:
        kinds = Kinds(self._api)
        found: dict[tuple[str, str], str] = {}
        for each in self._objects:
            try:
                found[each["apiVersion"], each["kind"]] = kinds.of(each).plural
            except (NotFoundError, LookupError):
                continue  # the check of what is installed says so
        return found

    def _accounts(self) -> Mapping[str, tuple[Sequence[Permission], Sequence[Permission]]]:
        found: dict[str, tuple[Sequence[Permission], Sequence[Permission]]] = {}
        for account in ACCOUNTS:
            user = {"user": f"system:serviceaccount:{SYSTEM}:{account}", "groups": ["system:authenticated"]}
            wanted = granted(self._objects, account)
            missing = tuple(each for each in wanted if not self._allowed(REVIEW, each, user))
            beyond = tuple(each for each in FORBIDDEN if each not in wanted and self._allowed(REVIEW, each, user))
            found[account] = missing, beyond
        return found

    def _allowed(self, kind: Kind, permission: Permission, who: Mapping[str, Any]) -> bool:
        spec = {**who, "resourceAttributes": attributes(permission)}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}, "spec": spec}
        return bool(self._api.create(kind, body)["status"].get("allowed"))

    def _probe(self, system: Sequence[Object]) -> Probe | None:
        operator = next((found for found in system if found["metadata"]["name"] == ACCOUNTS[0]), None)
        return probe(self._api, operator) if operator else None
