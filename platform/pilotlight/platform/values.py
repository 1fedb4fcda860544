"""The platform's nouns: what the database keeps and the control loop works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pilotlight.activator.values import FunctionId


@dataclass(frozen=True)
class Policy:
    """How a function scales and whom it serves; changing it needs no new engine."""

    minimum: int = 0
    maximum: int = 1
    keep_alive_seconds: float = 300.0
    slo_class: str = "interactive"
    deadline_seconds: float | None = None
    ttft_seconds: float | None = None
    """Promised time to the first token of a warm function; None: none."""
    itl_seconds: float | None = None
    """Promised time from one token to the next; None: none."""


@dataclass(frozen=True)
class Template:
    """All that makes an engine what it is; two equal templates are the same revision."""

    model: str
    """The reference as the manifest has it."""
    digest: str
    """`sha256:...` that the reference stood for at apply."""
    store: str
    """Address of the model's store: `file:///folder` or `s3://bucket`."""
    task: str
    kind: str
    """`vllm` or `simulated`."""
    options: Mapping[str, object]
    environment: Mapping[str, str]
    slots: int
    context: int
    """Tokens; 0: not known, length is left to the engine."""
    weight_bytes: int
    memory_bytes: int
    device_bytes: int
    """Of each device."""
    devices: int
    """Accelerators per replica; 0: CPU."""
    accelerator: str
    cpus: float
    device_pool: tuple[str, ...] = ()
    """UUIDs of the accelerators that it may be put on."""
    tokenizer: str = ""
    """Folder; empty: none."""
    adapters: tuple[tuple[str, str], ...] = ()
    """(name, digest) of each."""
    autoscaler: str = "pilotlight"
    """Who brings about the number of replicas in a cluster: `pilotlight` or `kpa`."""
    pod: Mapping[str, object] = field(default_factory=dict)
    """The manifest's `spec.pod`; empty outside of clusters."""


@dataclass(frozen=True)
class Revision:
    """An immutable template under a name."""

    function: FunctionId
    name: str
    number: int
    created_at: float
    engine_key: str = field(repr=False)
    template: Template
    reasons: tuple[str, ...] = ()
    """How the sizes were arrived at."""


@dataclass(frozen=True)
class Function:
    """What the user declared, and the revision that stands for it."""

    id: FunctionId
    manifest: Mapping[str, object]
    policy: Policy
    revision: str
    created_at: float
    updated_at: float
    deleted: bool = False


class Desired(StrEnum):
    """What the control loop wants of a replica."""

    RUNNING = "running"
    DRAINED = "drained"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ReplicaRecord:
    """One replica as the database knows it."""

    id: str
    function: FunctionId
    revision: str
    created_at: float
    desired: Desired = Desired.RUNNING
    state: str = "starting"
    message: str = ""
    cpus: tuple[int, ...] = ()
    devices: tuple[str, ...] = ()
    caused_by: str = ""
    """Public id of the key whose request caused the start; empty: the minimum or a rollout did."""
    ended_at: float | None = None


@dataclass(frozen=True)
class Interval:
    """One stretch of a replica's life in one state; (replica, start) is its identity."""

    replica: str
    function: FunctionId
    revision: str
    state: str  # starting | serving | idle
    start: float
    end: float
    caused_by: str = ""


@dataclass(frozen=True)
class KeyRecord:
    """An API key without its secret."""

    id: str
    name: str
    hash: str = field(repr=False)
    created_at: float
    namespaces: tuple[str, ...] | None = None
    """None: every namespace."""
    functions: tuple[FunctionId, ...] | None = None
    """None: every function of its namespaces."""
    admin: bool = False
    revoked_at: float | None = None


@dataclass(frozen=True)
class DecisionRecord:
    """Why something was scaled, placed, evicted or refused."""

    at: float
    function: FunctionId
    revision: str
    desired: int
    reason: str
    sentence: str
    inputs: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class RecommendationRecord:
    """A setting of a revision that should be another; applied by whoever declares the function."""

    function: FunctionId
    revision: str
    option: str
    """As the manifest's path below `spec`."""
    at: float
    """Unix time since which it is proposed as it is."""
    now: int | None
    """None: not set."""
    proposed: int
    low: int
    """Of the 95 % interval of what would be best."""
    high: int
    reason: str


@dataclass(frozen=True)
class AuditRecord:
    """Who changed what."""

    at: float
    key: str
    action: str
    target: str
    detail: Mapping[str, object] = field(default_factory=dict)
