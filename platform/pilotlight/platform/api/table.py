"""Every operation of the control API."""

from __future__ import annotations

from pilotlight.platform.api.function_handlers import FunctionHandlers
from pilotlight.platform.api.operations import SMALL_BODY, Operation
from pilotlight.platform.api.recommending_handlers import RecommendingHandlers
from pilotlight.platform.api.recommending_shapes import RecommendedOut, RecommendIn
from pilotlight.platform.api.record_handlers import RecordHandlers
from pilotlight.platform.api.services import Services
from pilotlight.platform.api.shapes import (
    AppliedOut,
    AuditOut,
    DecisionOut,
    DescriptionOut,
    FunctionOut,
    Items,
    KeyIn,
    KeyMadeOut,
    KeyOut,
    LimitQuery,
    ListQuery,
    LogQuery,
    ModelOut,
    RecommendationOut,
    ReplicaOut,
    RevisionOut,
    UsageOut,
    UsageQuery,
    UsageRowOut,
    UsageRowsQuery,
)

MANIFEST_BYTES = 2**20
_MANIFESTS = ("application/yaml", "application/json")
_ONE = "/functions/{namespace}/{name}"


def operations(services: Services) -> tuple[Operation, ...]:
    """The table; `api.operations` makes routes of it, `api.openapi` the document."""
    return (
        *_functions(FunctionHandlers(services)),
        *_records(RecordHandlers(services)),
        Operation(
            "POST",
            "/recommendations",
            RecommendingHandlers(services).recommend,
            "Recommend how to run a model",
            body=RecommendIn,
            answer=Items[RecommendedOut],
            body_bytes=SMALL_BODY,
        ),
    )


def _functions(functions: FunctionHandlers) -> tuple[Operation, ...]:
    return (
        Operation("GET", "/functions", functions.list, "List functions", answer=Items[FunctionOut]),
        Operation(
            "POST",
            "/functions",
            functions.apply,
            "Apply manifests, all or none",
            answer=Items[AppliedOut],
            body_media=_MANIFESTS,
            body_bytes=MANIFEST_BYTES,
        ),
        Operation("GET", _ONE, functions.get, "Show a function", answer=FunctionOut),
        Operation("DELETE", _ONE, functions.delete, "Delete a function; its usage stays"),
        Operation("GET", f"{_ONE}/describe", functions.describe, "Show all of a function", answer=DescriptionOut),
        Operation(
            "GET", f"{_ONE}/logs", functions.logs, "Read or follow an engine's log", query=LogQuery, media="text/plain"
        ),
        Operation(
            "GET", "/revisions", functions.revisions, "List revisions", query=ListQuery, answer=Items[RevisionOut]
        ),
        Operation("GET", "/replicas", functions.replicas, "List replicas", query=ListQuery, answer=Items[ReplicaOut]),
        Operation(
            "GET",
            "/decisions",
            functions.decisions,
            "List scaling decisions, newest first",
            query=ListQuery,
            answer=Items[DecisionOut],
        ),
        Operation(
            "GET",
            "/recommendations",
            functions.recommendations,
            "List settings that should be others",
            query=ListQuery,
            answer=Items[RecommendationOut],
        ),
    )


def _records(records: RecordHandlers) -> tuple[Operation, ...]:
    return (
        Operation("GET", "/models", records.models, "List the registry's tags", answer=Items[ModelOut]),
        Operation("GET", "/keys", records.keys, "List keys", answer=Items[KeyOut], admin=True),
        Operation(
            "POST",
            "/keys",
            records.create_key,
            "Create a key",
            body=KeyIn,
            answer=KeyMadeOut,
            admin=True,
            body_bytes=SMALL_BODY,
        ),
        Operation("DELETE", "/keys/{key}", records.revoke_key, "Revoke a key", admin=True),
        Operation("GET", "/usage", records.usage, "Sum up the ledger", query=UsageQuery, answer=Items[UsageOut]),
        Operation(
            "GET",
            "/usage/rows",
            records.usage_rows,
            "List the ledger's rows, newest first",
            query=UsageRowsQuery,
            answer=Items[UsageRowOut],
        ),
        Operation(
            "GET",
            "/audit",
            records.audit,
            "List administrative actions, newest first",
            query=LimitQuery,
            answer=Items[AuditOut],
            admin=True,
        ),
    )
