"""From a manifest and a model to a revision's template: facts, sizes and refusals, before anything starts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pilotlight.platform.control.errors import RefusedError
from pilotlight.platform.manifest import Function as Manifest
from pilotlight.platform.manifest import HubReference, Pod
from pilotlight.platform.registry.rights import Caller
from pilotlight.platform.shelf import Found, Shelf
from pilotlight.platform.values import Policy, Template
from pilotlight.recommender import (
    Machine,
    ModelFacts,
    RecommenderError,
    Sizing,
    SizingRequest,
    read_facts,
    size,
)

KPA = "warning: scale.autoscaler kpa is Knative's and counts in a cluster; here Pilotlight's own scaler decides"
POD = "warning: spec.pod is about pods and counts in a cluster; it does not apply here"
SIMULATED_BYTES = 256 * 2**20
"""Memory of a simulated engine."""
SIMULATED_SLOTS = 256
SIMULATED_CONTEXT = 4096


@dataclass(frozen=True)
class Sized:
    """A template, and how it was arrived at."""

    template: Template
    reasons: tuple[str, ...]


def build(manifest: Manifest, shelf: Shelf, machine: Machine, caller: Caller, *, in_cluster: bool = False) -> Sized:
    """Raises RefusedError and what `Shelf.find` raises.

    Args:
        manifest: What was declared.
        shelf: Where models are.
        machine: What replicas may use.
        caller: Whose rights to models count.
        in_cluster: Whether replicas are pods; else what is about pods is said not to apply.
    """
    sized = (
        _simulated(manifest) if manifest.spec.engine.kind == "simulated" else _real(manifest, shelf, machine, caller)
    )
    _check_minimum(manifest, sized.template, machine)
    return _of_pods(manifest, sized) if in_cluster else replace(sized, reasons=(*sized.reasons, *_ignored(manifest)))


def _of_pods(manifest: Manifest, sized: Sized) -> Sized:
    """A pod fetches its model itself, and what the kernel keeps of the files counts towards its limit.

    The engine measures how much of the limit is free before it takes its KV cache, and fails without that room.
    """
    pod = manifest.spec.pod.model_dump(mode="json", exclude_defaults=True)
    files = sized.template.weight_bytes
    template = replace(
        sized.template,
        memory_bytes=sized.template.memory_bytes + files,
        autoscaler=manifest.spec.scale.autoscaler,
        pod=pod,
    )
    reason = f"pod: limit of {_gib(template.memory_bytes)}, {_gib(files)} of it for the model's files"
    return replace(sized, template=template, reasons=(*sized.reasons, reason) if files else sized.reasons)


def _ignored(manifest: Manifest) -> Iterator[str]:
    """What counts in clusters only."""
    if manifest.spec.scale.autoscaler == "kpa":
        yield KPA
    if manifest.spec.pod != Pod():
        yield POD


def policy(manifest: Manifest) -> Policy:
    """What scaling and admission need of a manifest."""
    scale, slo = manifest.spec.scale, manifest.spec.slo
    return Policy(
        minimum=scale.min,
        maximum=scale.max,
        keep_alive_seconds=scale.keep_alive.seconds,
        slo_class=slo.class_,
        deadline_seconds=slo.deadline.seconds if slo.deadline else None,
        ttft_seconds=slo.ttft.seconds if slo.ttft else None,
        itl_seconds=slo.itl.seconds if slo.itl else None,
    )


def _real(manifest: Manifest, shelf: Shelf, machine: Machine, caller: Caller) -> Sized:
    spec = manifest.spec
    found = shelf.find(spec.model, caller)
    if found.manifest.remote_code and not spec.engine.trust_remote_code:
        raise RefusedError(
            _about(manifest, f"{found.reference} brings Python code; read it, then set engine.trustRemoteCode: true")
        )
    adapters = tuple((a.name, shelf.find(a.model, caller, "adapter").digest) for a in spec.adapters)
    try:
        facts = read_facts(shelf.config(found), found.tensors())
        sizing = size(facts, machine, _request(manifest))
    except RecommenderError as error:
        raise RefusedError(_about(manifest, str(error))) from error
    return Sized(_template(manifest, found, facts, sizing, adapters, shelf.tokenizer(found)), sizing.reasons)


def _request(manifest: Manifest) -> SizingRequest:
    resources = manifest.spec.resources
    return SizingRequest(
        task=manifest.spec.task,
        cpu=resources.cpu,
        memory_bytes=resources.memory.bytes if resources.memory else None,
        accelerator=resources.accelerator,
        count=resources.count,
        overrides=manifest.spec.engine.overrides(),
    )


def _template(
    manifest: Manifest,
    found: Found,
    facts: ModelFacts,
    sizing: Sizing,
    adapters: tuple[tuple[str, str], ...],
    tokenizer: str,
) -> Template:
    resources = manifest.spec.resources
    return Template(
        model=found.reference,
        digest=found.digest,
        store=found.store,
        task=manifest.spec.task,
        kind=manifest.spec.engine.kind,
        options=dict(sizing.options),
        environment=dict(sizing.environment),
        slots=sizing.slots,
        context=sizing.context,
        weight_bytes=facts.weight_bytes,
        memory_bytes=sizing.memory_bytes,
        device_bytes=sizing.device_bytes,
        devices=resources.count if resources.accelerator else 0,
        accelerator=resources.accelerator or "",
        cpus=sizing.cpus,
        device_pool=sizing.devices,
        tokenizer=tokenizer,
        adapters=adapters,
    )


def _simulated(manifest: Manifest) -> Sized:
    """No model is fetched for it, so none needs to be there; its name stands for it."""
    spec = manifest.spec
    options = spec.engine.overrides()
    slots, context = spec.engine.max_num_seqs or SIMULATED_SLOTS, spec.engine.max_model_len or SIMULATED_CONTEXT
    memory = spec.resources.memory.bytes if spec.resources.memory else SIMULATED_BYTES
    template = Template(
        model=str(spec.model),
        digest="sha256:" + hashlib.sha256(str(spec.model).encode()).hexdigest(),
        store=f"s3://{'hub' if isinstance(spec.model, HubReference) else spec.model.bucket}",
        task=spec.task,
        kind="simulated",
        options={**options, "max_num_seqs": slots, "max_model_len": context},
        environment={},
        slots=slots,
        context=context,
        weight_bytes=0,
        memory_bytes=memory,
        device_bytes=0,
        devices=0,
        accelerator="",
        cpus=spec.resources.cpu or 1.0,
        adapters=tuple((adapter.name, "sha256:" + "0" * 64) for adapter in spec.adapters),
    )
    return Sized(template, (f"simulated engine: {slots} requests at once, {context} tokens of context",))


def _check_minimum(manifest: Manifest, template: Template, machine: Machine) -> None:
    """A replica that never fits must be refused here, not waited for."""
    least = max(1, manifest.spec.scale.min)
    needed = least * template.memory_bytes
    if needed > machine.memory_bytes:
        raise RefusedError(
            _about(
                manifest,
                f"{least} x {_gib(template.memory_bytes)} of memory are {_gib(needed)}, but replicas may use"
                f" {_gib(machine.memory_bytes)} on this machine; lower resources.memory or scale.min,"
                " or start `pilotlight up` with a larger --memory",
            )
        )


def _about(manifest: Manifest, text: str) -> str:
    return f"{manifest.full_name}: {text}"


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
