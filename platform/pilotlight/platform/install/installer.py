"""Applies the objects of an overlay and waits until what they describe runs."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilotlight.platform.install.discovery import Kinds
from pilotlight.platform.install.errors import InstallError
from pilotlight.platform.install.rendering import deployments
from pilotlight.platform.install.rollout import Rollout, rollout, selector
from pilotlight.platform.install.secrets import Plan, needed, plan, secret
from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from pilotlight.platform.kubernetes.kinds import CRD, DEPLOYMENT, NAMESPACE, POD, SECRET, SERVICE, Object, condition

SYSTEM = "pilotlight-system"
LOOK_SECONDS = 1.0
ESTABLISH_SECONDS = 30.0
_SERVERS = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid")
"""Metadata that is the API server's."""


@dataclass(frozen=True)
class Applied:
    """What became of one object."""

    kind: str
    namespace: str
    name: str
    outcome: str
    """created, changed, unchanged, kept (a Secret that was there), or unchecked (a dry run without its namespace)."""


class Installer:
    """Blocking. Every method raises KubernetesError or InstallError."""

    def __init__(self, api: Api, objects: Sequence[Object], dry_run: bool = False, namespace: str = SYSTEM) -> None:
        """`namespace`: where the objects' Deployments and Secrets are."""
        self._api = api
        self._objects = objects
        self._dry_run = dry_run
        self._namespace = namespace
        self._kinds = Kinds(api)

    def secrets(self) -> Plan:
        """What there is to do about Secrets. Raises InstallError when one is missing that is not ours to make."""
        found = {name: keys for name in needed(self._objects) if (keys := self._keys(name)) is not None}
        wanted = plan(self._objects, found)
        if wanted.problems:
            raise InstallError(
                f"Secrets in {self._namespace} are incomplete; make them (the namespace first) after "
                "manifests/base/secrets.template.yaml and install again",
                wanted.problems,
            )
        return wanted

    def apply(self, wanted: Plan) -> Iterator[Applied]:
        """Namespaces first, then Secrets, so that no pod waits for one, then the rest, in the order given."""
        for found in self._objects:
            if found["kind"] == NAMESPACE.kind:
                yield self._apply(found)
        yield from self._make(wanted)
        for found in self._objects:
            if found["kind"] != NAMESPACE.kind:
                yield self._apply(found)

    def wait(self, seconds: float, told: Callable[[Rollout], None]) -> tuple[Rollout, ...]:
        """Until every Deployment is available; `told` hears of each change.

        Raises InstallError after `seconds`, with what keeps those that are not.
        """
        deadline = time.monotonic() + seconds
        names = [found["metadata"]["name"] for found in deployments(self._objects)]
        last: dict[str, Rollout] = {}
        while True:
            for name in names:
                seen = self._look(name)
                if str(last.get(name)) != str(seen):
                    told(seen)
                last[name] = seen
            if all(seen.done for seen in last.values()):
                return tuple(last.values())
            if time.monotonic() > deadline:
                raise self._late(last.values(), seconds)
            time.sleep(LOOK_SECONDS)

    def url(self) -> str:
        """Where clients outside of the cluster reach it; empty: only through a port-forward."""
        status = self._api.get(SERVICE, self._namespace, "pilotlight-activator").get("status", {})
        ingress = status.get("loadBalancer", {}).get("ingress") or ()
        address = next((each.get("hostname") or each.get("ip") for each in ingress), "")
        return f"http://{address}" if address else ""

    def admin_key(self) -> str:
        data = self._api.get(SECRET, self._namespace, "pilotlight-admin")["data"]
        return base64.b64decode(data["key"]).decode()

    def _keys(self, name: str) -> Collection[str] | None:
        try:
            return tuple(self._api.get(SECRET, self._namespace, name).get("data") or ())
        except NotFoundError:
            return None

    def _make(self, wanted: Plan) -> Iterator[Applied]:
        for name in wanted.keep:
            yield Applied("Secret", self._namespace, name, "kept")
        for name, values in wanted.make.items():
            outcome = "created"
            try:
                if not self._dry_run:
                    self._api.create(SECRET, secret(self._namespace, name, values))
            except ConflictError:
                outcome = "kept"  # another installation was faster
            yield Applied("Secret", self._namespace, name, outcome)

    def _apply(self, found: Object) -> Applied:
        metadata = found["metadata"]
        namespace = metadata.get("namespace", "")
        try:
            kind = self._kinds.of(found)
        except (NotFoundError, LookupError) as error:
            raise InstallError(
                f"the cluster has no {found['kind']} of {found['apiVersion']}; `pilotlight doctor` says what it lacks"
            ) from error
        before = self._find(kind.path(namespace, metadata["name"]))
        try:
            after = self._api.apply(kind, found, dry_run=self._dry_run)
        except NotFoundError as error:
            if not self._dry_run:
                raise InstallError(f"the namespace {namespace} is not there: install Knative Serving first") from error
            return Applied(kind.kind, namespace, metadata["name"], "unchecked")
        if kind == CRD and not self._dry_run:
            self._establish(metadata["name"])
        return Applied(kind.kind, namespace, metadata["name"], _outcome(before, after))

    def _find(self, path: str) -> Object | None:
        try:
            return self._api.raw(path)
        except NotFoundError:
            return None

    def _establish(self, name: str) -> None:
        deadline = time.monotonic() + ESTABLISH_SECONDS
        while condition(self._api.get(CRD, "", name), "Established").get("status") != "True":
            if time.monotonic() > deadline:
                raise InstallError(f"the API server does not serve {name} after {ESTABLISH_SECONDS:.0f} s")
            time.sleep(LOOK_SECONDS / 5)

    def _look(self, name: str) -> Rollout:
        found = self._api.get(DEPLOYMENT, self._namespace, name)
        pods = self._api.list(POD, self._namespace, labels=selector(found)).items
        return rollout(found, pods, time.time())

    def _late(self, seen: Collection[Rollout], seconds: float) -> InstallError:
        details = [str(each) + self._last_line(each.pod) for each in seen if not each.done]
        return InstallError(
            f"not available after {seconds:.0f} s; `kubectl -n {self._namespace} get pods`", tuple(details)
        )

    def _last_line(self, pod: str) -> str:
        """What its container said last, where that can be read."""
        if not pod:
            return ""
        try:
            found = self._api.get(POD, self._namespace, pod)
            container = _troubled(found)
            lines = list(self._api.log(self._namespace, pod, container, tail=1, follow=False))
        except KubernetesError:
            return ""
        return f"; {container} said: {lines[-1].decode('utf-8', 'replace').strip()[:300]}" if lines else ""


def _troubled(pod: Object) -> str:
    """The container that has not become ready: init containers run first."""
    status: Mapping[str, Any] = pod["status"]
    waiting = [each for each in status.get("initContainerStatuses") or () if not each.get("ready")]
    waiting += [each for each in status.get("containerStatuses") or () if not each.get("ready")]
    return str(waiting[0]["name"]) if waiting else str(pod["spec"]["containers"][0]["name"])


def _outcome(before: Object | None, after: Object) -> str:
    if before is None:
        return "created"
    return "unchanged" if _told(before) == _told(after) else "changed"


def _told(found: Object) -> Object:
    """An object without what the API server adds and others report."""
    metadata = {key: value for key, value in found["metadata"].items() if key not in _SERVERS}
    return {**{key: value for key, value in found.items() if key != "status"}, "metadata": metadata}
