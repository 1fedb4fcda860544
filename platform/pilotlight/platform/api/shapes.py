"""What the control API takes and gives: the one source of its validation and of its OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
Name = Annotated[str, Field(pattern=f"^{_LABEL}$", max_length=63)]
FullName = Annotated[str, Field(pattern=f"^{_LABEL}/{_LABEL}$", max_length=127)]


class Shape(BaseModel):
    """Immutable, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Items(Shape, Generic[T]):
    """A list."""

    items: tuple[T, ...]


class FunctionOut(Shape):
    """A function as it is now."""

    namespace: str
    name: str
    task: str
    model: str
    digest: str
    revision: str
    url: str
    """Path of its OpenAI-compatible API."""
    min: int
    max: int
    keep_alive_seconds: float
    ready: int
    """Replicas that take requests."""
    starting: int
    queued: int
    in_flight: int
    failure: str
    """Why the last replica failed, while none serves; empty: one does, or none failed."""
    waits: str
    """Why a wanted replica has no place; empty: none waits."""
    created_at: float
    updated_at: float


class AppliedOut(Shape):
    """What became of one manifest."""

    namespace: str
    name: str
    revision: str
    change: Literal["created", "updated", "unchanged"]
    reasons: tuple[str, ...]
    """How its sizes were arrived at."""


class RevisionOut(Shape):
    """An immutable engine configuration."""

    namespace: str
    function: str
    name: str
    number: int
    model: str
    digest: str
    task: str
    kind: str
    options: dict[str, Any]
    slots: int
    context: int
    weight_bytes: int
    memory_bytes: int
    device_bytes: int
    devices: int
    accelerator: str
    cpus: float
    adapters: tuple[str, ...]
    reasons: tuple[str, ...]
    created_at: float


class PhaseOut(Shape):
    """One phase of a start; Unix times."""

    name: str
    start: float
    end: float | None
    progress: float | None


class ReplicaOut(Shape):
    """One engine."""

    id: str
    namespace: str
    function: str
    revision: str
    state: str
    message: str
    phases: tuple[PhaseOut, ...]
    in_flight: int
    memory_bytes: int
    cpus: tuple[int, ...]
    devices: tuple[str, ...]
    supervisor_pid: int
    engine_pid: int
    caused_by: str
    """Key whose request caused the start; empty: none did."""
    created_at: float
    ended_at: float | None


class DecisionOut(Shape):
    """Why something was scaled, placed or evicted."""

    at: float
    namespace: str
    function: str
    revision: str
    desired: int
    reason: str
    sentence: str
    inputs: dict[str, Any]


class RecommendationOut(Shape):
    """A setting that should be another, by what replicas and requests have shown; a manifest applies it."""

    namespace: str
    function: str
    revision: str
    option: str
    """As the manifest has it below `spec`."""
    now: int | None
    """None: not set."""
    proposed: int
    low: int
    """Of the 95 % interval of what would be best."""
    high: int
    reason: str
    at: float
    """Unix time since which it is proposed."""


class DescriptionOut(Shape):
    """All of one function."""

    function: FunctionOut
    manifest: dict[str, Any]
    revision: RevisionOut
    start_eta_seconds: dict[str, float]
    """Expected seconds of each phase of the next start."""
    cap: int | None
    """Requests that a replica of `revision` has in flight at most, as learned; null: nothing was learned."""
    recommendations: tuple[RecommendationOut, ...]
    replicas: tuple[ReplicaOut, ...]
    """Live ones, and the last that ended."""
    decisions: tuple[DecisionOut, ...]


class KeyOut(Shape):
    """A key without its secret."""

    id: str
    name: str
    admin: bool
    namespaces: tuple[str, ...] | None
    functions: tuple[str, ...] | None
    created_at: float
    revoked_at: float | None


class KeyMadeOut(KeyOut):
    """A new key; the secret is shown this once."""

    secret: str


class KeyIn(Shape):
    """A key to make; without admin it needs a scope."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    admin: bool = False
    namespaces: Annotated[tuple[Name, ...], Field(min_length=1, max_length=256)] | None = None
    """None: every namespace."""
    functions: Annotated[tuple[FullName, ...], Field(min_length=1, max_length=1024)] | None = None
    """None: every function of its namespaces."""


class UsageOut(Shape):
    """The ledger, summed up."""

    group: str
    """The key's id (empty: replicas that no request caused), `namespace/name`, or the day (UTC)."""
    requests: int
    cold: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    queue_seconds: float
    start_seconds: float
    serve_seconds: float
    ok: int
    cancelled: int
    rejected: int
    failed: int
    unknown: int
    replica_starting_seconds: float
    """Of the group's replicas between `since` and `until`; by day: 0."""
    replica_serving_seconds: float
    replica_idle_seconds: float


class UsageRowOut(Shape):
    """One request."""

    request: str
    key: str
    namespace: str
    function: str
    revision: str
    replica: str
    admitted_at: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    queue_seconds: float
    start_seconds: float
    serve_seconds: float
    ttft_seconds: float | None
    cold: bool
    outcome: str
    status: int
    reason: str


class AuditOut(Shape):
    """One administrative action."""

    at: float
    key: str
    action: str
    target: str
    detail: dict[str, Any]


class ModelOut(Shape):
    """One tag of the registry."""

    reference: str
    """As a manifest names it."""
    digest: str
    modified: float


class ErrorBody(Shape):
    """What is wrong, and what to do."""

    message: str
    type: str
    code: str
    param: str | None = None
    details: tuple[str, ...] = ()


class ErrorOut(Shape):
    """Every error, in OpenAI's shape."""

    error: ErrorBody


class NoQuery(Shape):
    """No parameters."""


class ListQuery(Shape):
    """Which functions' objects."""

    function: FullName | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class LimitQuery(Shape):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class LogQuery(Shape):
    follow: bool = False
    """Go on with new lines until the replica ends."""
    tail: Annotated[int, Field(ge=0, le=100_000)] = 200
    """How many of the last lines."""
    replica: Annotated[str, Field(max_length=100)] = ""
    """Which; empty: the newest."""


class UsageQuery(Shape):
    by: Literal["key", "function", "day"] = "function"
    function: FullName | None = None
    key: Annotated[str, Field(max_length=60)] = ""
    since: Annotated[float, Field(ge=0, le=1e11)] = 0.0
    """Unix time of admission."""
    until: Annotated[float, Field(ge=0, le=1e11)] | None = None


class UsageRowsQuery(Shape):
    function: FullName | None = None
    key: Annotated[str, Field(max_length=60)] = ""
    since: Annotated[float, Field(ge=0, le=1e11)] = 0.0
    until: Annotated[float, Field(ge=0, le=1e11)] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
