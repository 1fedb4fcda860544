"""The kinds of objects that we read and write, and how their addresses are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Object = Mapping[str, Any]
"""A Kubernetes object as the API server gives it."""


class Key(NamedTuple):
    """An object's name; the namespace of cluster-scoped ones is empty."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True)
class Kind:
    """One resource of the API."""

    group: str
    """Empty: the core group."""
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Without a namespace: across all of them."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/" + "/".join(parts)


FUNCTION = Kind("pilotlight.dev", "v1alpha1", "Function", "functions")
KNATIVE_SERVICE = Kind("serving.knative.dev", "v1", "Service", "services")
CONFIGURATION = Kind("serving.knative.dev", "v1", "Configuration", "configurations")
KNATIVE_ROUTE = Kind("serving.knative.dev", "v1", "Route", "routes")
REVISION = Kind("serving.knative.dev", "v1", "Revision", "revisions")
POD_AUTOSCALER = Kind("autoscaling.internal.knative.dev", "v1alpha1", "PodAutoscaler", "podautoscalers")
SERVERLESS_SERVICE = Kind("networking.internal.knative.dev", "v1alpha1", "ServerlessService", "serverlessservices")
INGRESS = Kind("networking.internal.knative.dev", "v1alpha1", "Ingress", "ingresses")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
EVENT = Kind("", "v1", "Event", "events")
POD = Kind("", "v1", "Pod", "pods")
SECRET = Kind("", "v1", "Secret", "secrets")
SERVICE = Kind("", "v1", "Service", "services")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
NODE = Kind("", "v1", "Node", "nodes", namespaced=False)
CRD = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)

FUNCTION_LABEL = "pilotlight.dev/function"
"""On everything that is made for a function."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "pilotlight"}


def key_of(found: Object) -> Key:
    metadata = found["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def labels_of(found: Object) -> Mapping[str, str]:
    return found["metadata"].get("labels") or {}


def annotations_of(found: Object) -> Mapping[str, str]:
    return found["metadata"].get("annotations") or {}


def condition(found: Object, type_: str) -> Mapping[str, Any]:
    """The condition of that type in an object's status; empty: it has none yet."""
    conditions = found.get("status", {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == type_), {})


def owner_reference(owner: Object, kind: Kind) -> dict[str, Any]:
    """So that what carries it goes when the owner goes."""
    metadata = owner["metadata"]
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
