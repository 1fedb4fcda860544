"""What one replica is told to be, and what it says of itself.

The platform writes a `ReplicaSpec` to `<replica folder>/spec.json` (mode 0600, it carries the engine key) and starts
`python -m pilotlight.runtime.supervisor <replica folder>`. The supervisor answers on the Unix socket
`<replica folder>/control.sock` and keeps `<replica folder>/status.json` current, which outlives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

STATUS_VERSION = 1
"""Of the statuses that this release tells. A new field raises it and has a default, which is what older ones mean;
older platforms leave it out of what they read. New states and phases are refused by them all the same."""


class Phase(StrEnum):
    """The steps of a cold start, in order."""

    SCHEDULE = "schedule"
    FETCH = "fetch"
    IMPORT = "import"
    LOAD = "load"
    WARMUP = "warmup"
    READY = "ready"


class ReplicaState(StrEnum):
    """Where a replica is in its life; only READY takes new work."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class AdapterSpec:
    """One LoRA adapter that the engine serves beside its base model."""

    name: str
    digest: str
    """`sha256:...` of the adapter's manifest in the registry."""


@dataclass(frozen=True)
class EngineSpec:
    """How the engine is started.

    `options` are vLLM's own long options in snake_case (`max_model_len`, `kv_cache_memory_bytes`, ...); `True` is a
    bare flag, `None` and `False` leave it out. The simulated engine reads the ones it knows and ignores the rest.
    """

    kind: str  # "vllm" | "simulated"
    options: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    """The revision's engine key; reaches the engine by its environment, never by an argument."""


@dataclass(frozen=True)
class ReplicaSpec:
    """Everything a supervisor needs to bring one replica up and down again."""

    replica: str
    function: str  # "namespace/name"
    revision: str
    task: str  # "generate" | "embed"
    store: str
    """`file:///absolute/folder` or `s3://bucket`; credentials and endpoint come by the AWS environment names."""
    model: str  # "sha256:..." of the model's manifest
    served_names: tuple[str, ...]
    engine: EngineSpec
    adapters: tuple[AdapterSpec, ...] = ()
    cpus: tuple[int, ...] = ()
    """Processors to pin the engine to; empty: not pinned."""
    threads: int = 1
    devices: tuple[str, ...] = ()
    """GPU UUIDs; empty: CPU."""
    cache_folder: str = ""
    cache_bytes: int = 20 * 2**30
    """Disk budget of the node's model cache, bytes."""
    created_at: float = 0.0
    """Unix time at which the platform decided to start it: the start of the phase `schedule`."""
    start_seconds: float = 600.0
    """A start that takes longer is failed."""
    drain_seconds: float = 120.0
    """How long running streams may take to finish after SIGTERM."""
    orphan_seconds: float = 30.0
    """Ends itself when nobody has asked for its status for so long."""


@dataclass(frozen=True)
class PhaseReport:
    """One phase: Unix times, progress 0..1 where it can be told."""

    name: Phase
    start: float
    end: float | None = None
    progress: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class EngineCounters:
    """What the engine has counted since its start, at one moment; the difference of two is what happened between."""

    at: float
    """Seconds, of the machine's clock that does not go back."""
    looks: int
    """Seconds in which the supervisor found requests in the engine."""
    in_flight: int
    """Requests found in all of them together."""
    prompts: int | None = None
    """Requests whose first token has come. None, here and below: the engine does not tell."""
    prompt_tokens: int | None = None
    first_token_seconds: float | None = None
    gaps: int | None = None
    """Times between two tokens of one request."""
    gap_seconds: float | None = None


@dataclass(frozen=True)
class ReplicaStatus:
    """What a supervisor answers to `GET /status`."""

    replica: str
    revision: str
    state: ReplicaState
    phases: tuple[PhaseReport, ...] = ()
    endpoint: str = ""
    """`http://127.0.0.1:PORT` of the engine; empty until it is known."""
    supervisor_pid: int = 0
    engine_pid: int = 0
    running: int | None = None
    """Requests inside the engine as it says itself; None: unknown."""
    counters: EngineCounters | None = None
    """As of the last few seconds in which it had work; None: it had none yet, or they could not be read."""
    message: str = ""
    """Why it failed or stopped, one sentence."""
    log_tail: tuple[str, ...] = ()
    """Last lines of the engine's log when the start failed."""
    version: int = STATUS_VERSION
    """Of these fields: whoever knows older ones only leaves out the rest."""
