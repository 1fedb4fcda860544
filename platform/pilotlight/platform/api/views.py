"""From what the platform knows to what the API shows. No secret leaves here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pilotlight.activator.values import Demand, Usage
from pilotlight.platform.api.shapes import (
    AuditOut,
    DecisionOut,
    FunctionOut,
    KeyOut,
    PhaseOut,
    RecommendationOut,
    ReplicaOut,
    RevisionOut,
    UsageOut,
    UsageRowOut,
)
from pilotlight.platform.control.state import Live, Memory
from pilotlight.platform.database.usage import OUTCOMES, SUMMED
from pilotlight.platform.values import (
    AuditRecord,
    DecisionRecord,
    Function,
    KeyRecord,
    RecommendationRecord,
    ReplicaRecord,
    Revision,
)
from pilotlight.runtime.spec import ReplicaState

_NO_DEMAND = Demand(0, 0, 0, 0.0)


def function_out(
    function: Function, revision: Revision, live: Iterable[Live], demand: Demand | None, memory: Memory | None
) -> FunctionOut:
    states = [replica.state() for replica in live]
    work = demand or _NO_DEMAND
    return FunctionOut(
        namespace=function.id.namespace,
        name=function.id.name,
        task=revision.template.task,
        model=revision.template.model,
        digest=revision.template.digest,
        revision=function.revision,
        url=f"/f/{function.id}/v1",
        min=function.policy.minimum,
        max=function.policy.maximum,
        keep_alive_seconds=function.policy.keep_alive_seconds,
        ready=states.count(ReplicaState.READY),
        starting=states.count(ReplicaState.STARTING),
        queued=work.queued,
        in_flight=work.in_flight,
        failure=memory.state.back_off.message if memory and ReplicaState.READY not in states else "",
        waits=memory.waits if memory else "",
        created_at=function.created_at,
        updated_at=function.updated_at,
    )


def revision_out(revision: Revision) -> RevisionOut:
    template = revision.template
    return RevisionOut(
        namespace=revision.function.namespace,
        function=revision.function.name,
        name=revision.name,
        number=revision.number,
        model=template.model,
        digest=template.digest,
        task=template.task,
        kind=template.kind,
        options=dict(template.options),
        slots=template.slots,
        context=template.context,
        weight_bytes=template.weight_bytes,
        memory_bytes=template.memory_bytes,
        device_bytes=template.device_bytes,
        devices=template.devices,
        accelerator=template.accelerator,
        cpus=template.cpus,
        adapters=tuple(name for name, _ in template.adapters),
        reasons=revision.reasons,
        created_at=revision.created_at,
    )


def live_out(live: Live, demand: Demand | None) -> ReplicaOut:
    status = live.status
    phases = status.phases if status else ()
    return ReplicaOut(
        id=live.record.id,
        namespace=live.record.function.namespace,
        function=live.record.function.name,
        revision=live.record.revision,
        state=live.state().value,
        message=status.message if status else "",
        phases=tuple(PhaseOut(name=p.name.value, start=p.start, end=p.end, progress=p.progress) for p in phases),
        in_flight=dict(demand.per_replica).get(live.record.id, 0) if demand else 0,
        memory_bytes=live.revision.template.memory_bytes,
        cpus=live.record.cpus,
        devices=live.record.devices,
        supervisor_pid=status.supervisor_pid if status else 0,
        engine_pid=status.engine_pid if status else 0,
        caused_by=live.record.caused_by,
        created_at=live.record.created_at,
        ended_at=None,
    )


def ended_out(record: ReplicaRecord) -> ReplicaOut:
    return ReplicaOut(
        id=record.id,
        namespace=record.function.namespace,
        function=record.function.name,
        revision=record.revision,
        state=record.state,
        message=record.message,
        phases=(),
        in_flight=0,
        memory_bytes=0,
        cpus=record.cpus,
        devices=record.devices,
        supervisor_pid=0,
        engine_pid=0,
        caused_by=record.caused_by,
        created_at=record.created_at,
        ended_at=record.ended_at,
    )


def recommendation_out(record: RecommendationRecord) -> RecommendationOut:
    values = {name: value for name, value in vars(record).items() if name != "function"}
    return RecommendationOut(namespace=record.function.namespace, function=record.function.name, **values)


def decision_out(record: DecisionRecord) -> DecisionOut:
    return DecisionOut(
        at=record.at,
        namespace=record.function.namespace,
        function=record.function.name,
        revision=record.revision,
        desired=record.desired,
        reason=record.reason,
        sentence=record.sentence,
        inputs=dict(record.inputs),
    )


def key_values(record: KeyRecord) -> dict[str, Any]:
    functions = record.functions
    return {
        "id": record.id,
        "name": record.name,
        "admin": record.admin,
        "namespaces": record.namespaces,
        "functions": None if functions is None else tuple(map(str, functions)),
        "created_at": record.created_at,
        "revoked_at": record.revoked_at,
    }


def key_out(record: KeyRecord) -> KeyOut:
    return KeyOut(**key_values(record))


def audit_out(record: AuditRecord) -> AuditOut:
    return AuditOut(
        at=record.at, key=record.key, action=record.action, target=record.target, detail=dict(record.detail)
    )


def usage_row_out(row: Usage) -> UsageRowOut:
    return UsageRowOut(
        request=row.request,
        key=row.key,
        namespace=row.function.namespace,
        function=row.function.name,
        revision=row.revision,
        replica=row.replica,
        admitted_at=row.admitted_at,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=row.cached_tokens,
        queue_seconds=row.queue_seconds,
        start_seconds=row.start_seconds,
        serve_seconds=row.serve_seconds,
        ttft_seconds=row.ttft_seconds,
        cold=row.cold,
        outcome=row.outcome,
        status=row.status,
        reason=row.reason,
    )


def usage_out(
    rows: Iterable[Mapping[str, Any]], by: str, seconds: Mapping[tuple[str, str], float]
) -> tuple[UsageOut, ...]:
    """Requests and replica-seconds (by group and state); a group may have only one of the two."""
    requests = {f"{row['namespace']}/{row['function']}" if by == "function" else str(row[by]): row for row in rows}
    groups = sorted(requests.keys() | {group for group, _ in seconds})
    return tuple(_usage_of(group, requests.get(group, {}), seconds) for group in groups)


def _usage_of(group: str, row: Mapping[str, Any], seconds: Mapping[tuple[str, str], float]) -> UsageOut:
    return UsageOut(
        group=group,
        **{name: row.get(name, 0) for name in ("requests", "cold", *SUMMED, *OUTCOMES)},
        replica_starting_seconds=seconds.get((group, "starting"), 0.0),
        replica_serving_seconds=seconds.get((group, "serving"), 0.0),
        replica_idle_seconds=seconds.get((group, "idle"), 0.0),
    )
