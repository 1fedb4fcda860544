"""Which resource of the API an object belongs to, as the API server says."""

from __future__ import annotations

from pilotlight.platform.kubernetes.api import Api
from pilotlight.platform.kubernetes.kinds import Kind, Object


class Kinds:
    """Asks once for each group and version."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[tuple[str, str], Kind] = {}

    def of(self, found: Object) -> Kind:
        """Raises KubernetesError (NotFoundError: the cluster has no such group), LookupError (no such kind in it)."""
        wanted = (found["apiVersion"], found["kind"])
        if wanted not in self._known:
            self._ask(found["apiVersion"])
        if wanted not in self._known:
            raise LookupError(f"the cluster has no kind {found['kind']} in {found['apiVersion']}")
        return self._known[wanted]

    def _ask(self, api_version: str) -> None:
        group, _, version = api_version.rpartition("/")
        for resource in self._api.raw(f"/apis/{api_version}" if group else f"/api/{version}")["resources"]:
            if "/" not in resource["name"]:
                kind = Kind(group, version, resource["kind"], resource["name"], resource["namespaced"])
                self._known[api_version, resource["kind"]] = kind
