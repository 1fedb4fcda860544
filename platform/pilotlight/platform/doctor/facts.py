"""What is known of a cluster; what could not be read is told apart from what is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pilotlight.platform.kubernetes.kinds import Object

Settings = Mapping[str, str]


@dataclass(frozen=True)
class Permission:
    """A question to the API server's authorizer. An empty namespace: in all of them."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        what = "/".join(filter(None, (self.resource, self.subresource))) + (f".{self.group}" if self.group else "")
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {what}" + (f" {self.name}" if self.name else "") + where


@dataclass(frozen=True)
class Probe:
    """What a pod in the cluster could reach; empty: it reached it."""

    s3: str
    database: str


@dataclass(frozen=True)
class Facts:
    """One look at a cluster. None: it could not be read, `unread` says why."""

    version: str = ""
    """Of Kubernetes, as `v1.35.4`."""
    knative: Sequence[Object] | None = ()
    """Deployments in Knative's namespace."""
    config: Mapping[str, Settings] | None = field(default_factory=dict)
    """Knative's ConfigMaps by name; settings at their defaults are not in them."""
    nodes: Sequence[Object] | None = ()
    heartbeats: Mapping[str, float] | None = field(default_factory=dict)
    """When each node last renewed its lease by its own clock, Unix time."""
    server_time: float = 0.0
    """The API server's clock, and this machine's at the same moment, Unix time."""
    local_time: float = 0.0
    functions: Sequence[Object] | None = ()
    crd: Object | None = None
    crd_wanted: Object | None = None
    """As this version's manifests have it."""
    system: Sequence[Object] | None = ()
    """Our own Deployments; empty: not installed."""
    denied: Sequence[Permission] | None = ()
    """What an installation needs and whoever asks may not."""
    accounts: Mapping[str, tuple[Sequence[Permission], Sequence[Permission]]] | None = field(default_factory=dict)
    """By ServiceAccount: what it lacks, and what it may beyond its need."""
    probe: Probe | None = None
    unread: Mapping[str, str] = field(default_factory=dict)
    """Reason by the name of the fact."""
