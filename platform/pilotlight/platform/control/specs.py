"""From a record and its revision to what a supervisor is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from pilotlight.platform.values import ReplicaRecord, Revision
from pilotlight.runtime.spec import AdapterSpec, EngineSpec, ReplicaSpec


@dataclass(frozen=True)
class SpecSettings:
    """What is the same for every replica of this machine."""

    cache_folder: str
    cache_bytes: int = 20 * 2**30
    """Disk budget of the model cache."""
    start_seconds: float = 1800.0
    """A start that takes longer is failed: half an hour covers the largest models from a slow store."""
    drain_seconds: float = 120.0
    orphan_seconds: float = 30.0


def replica_spec(record: ReplicaRecord, revision: Revision, settings: SpecSettings) -> ReplicaSpec:
    """The spec of one replica; its engine key comes from the revision."""
    template = revision.template
    return ReplicaSpec(
        replica=record.id,
        function=str(record.function),
        revision=record.revision,
        task=template.task,
        store=template.store,
        model=template.digest,
        served_names=(record.function.name,),
        engine=EngineSpec(template.kind, template.options, template.environment, revision.engine_key),
        adapters=tuple(AdapterSpec(name, digest) for name, digest in template.adapters),
        cpus=record.cpus,
        threads=len(record.cpus) or max(1, floor(template.cpus)),
        devices=record.devices,
        cache_folder=settings.cache_folder,
        cache_bytes=settings.cache_bytes,
        created_at=record.created_at,
        start_seconds=settings.start_seconds,
        drain_seconds=settings.drain_seconds,
        orphan_seconds=settings.orphan_seconds,
    )
