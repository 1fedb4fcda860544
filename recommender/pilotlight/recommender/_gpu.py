"""Sizing for vLLM on NVIDIA GPUs, by bytes, so that several replicas can share one device.

vLLM 0.32: the start fails where less than `gpu_memory_utilization` of the device is free; a given
`kv_cache_memory_bytes` is allocated as it is, without profiling against the neighbours' use.
"""

from __future__ import annotations

import math
import re

from pilotlight.recommender import _options
from pilotlight.recommender._kv import KvDemand, KvPlan, Part, plan
from pilotlight.recommender._pool import pool
from pilotlight.recommender._steps import activation_bytes, most_slots, step_tokens
from pilotlight.recommender._units import ENGINE_WIDTHS, GIB, human
from pilotlight.recommender.errors import DoesNotFit, OptionRefused
from pilotlight.recommender.facts import ModelFacts
from pilotlight.recommender.values import Device, Machine, Sizing, SizingRequest

BLOCK_TOKENS = 16  # vLLM's default on CUDA
UTILIZATION = 0.92  # vLLM's default share of a device
CONTEXT_BYTES = GIB  # estimate, not measured: CUDA context, cuBLAS and attention workspaces
GRAPH_BYTES = GIB  # estimate, not measured: CUDA graphs of all batch sizes
COLLECTIVE_BYTES = GIB  # estimate, not measured: NCCL's buffers per device, tensor parallel only
HOST_BYTES = 4 * GIB  # estimate, not measured: API server, engine and one worker in the machine's memory
ASYNCHRONOUS = 2  # steps in flight: vLLM schedules the next one while one runs, and frees blocks only after it
SLOTS = 64  # default in-flight cap, before anything is observed
LARGE_DEVICE = 70 * GIB  # from here vLLM's server takes 8192 tokens per step, below 2048 (engine/arg_utils.py)


def size_gpu(model: ModelFacts, machine: Machine, request: SizingRequest) -> Sizing:
    devices = matching(machine, request.accelerator or "")
    _check_count(model, machine, request, devices)
    smallest = min(devices, key=lambda device: device.memory_bytes)
    demand = _demand(model, request, smallest)
    outcome = plan(demand)
    memory = _host_memory(machine, request)
    sums = f"{' + '.join(map(str, demand.fixed))} + KV cache {human(outcome.cache_bytes)}"
    return Sizing(
        options=_engine_options(model, request, smallest, outcome),
        environment={},
        slots=outcome.slots,
        memory_bytes=memory,
        device_bytes=outcome.total,
        cpus=request.cpu or float(min(machine.cpus, 2 + request.count)),
        context=outcome.context,
        reasons=(
            *outcome.reasons,
            f"{human(outcome.total)} on each of {request.count} x {smallest.name}: {sums}",
            f"memory {human(memory)}" + (": resources.memory" if request.memory_bytes else ": the engine's processes"),
            *model.estimates,
        ),
        devices=tuple(device.uuid for device in devices),
    )


def matching(machine: Machine, accelerator: str) -> tuple[Device, ...]:
    """Devices whose name has every word of `accelerator`: `nvidia-h100` finds "NVIDIA H100 80GB HBM3"."""
    words = set(_words(accelerator))
    return tuple(device for device in machine.devices if words <= set(_words(device.name)))


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def _check_count(model: ModelFacts, machine: Machine, request: SizingRequest, devices: tuple[Device, ...]) -> None:
    if not devices:
        there = ", ".join(sorted({device.name for device in machine.devices})) or "none"
        raise OptionRefused(
            "resources.accelerator",
            f"resources.accelerator is {request.accelerator}, but this machine has none of that name; it has: {there}",
        )
    if request.count > len(devices):
        raise OptionRefused(
            "resources.count",
            f"resources.count is {request.count}, but this machine has {len(devices)} x {devices[0].name}",
        )
    parallel = _options.integer(request.overrides, "tensor_parallel_size") or request.count
    if parallel != request.count:
        raise OptionRefused(
            "engine.tensorParallelSize",
            f"engine.tensorParallelSize is {parallel}, but resources.count is {request.count}; leave it out",
        )
    if model.heads and model.heads % parallel:
        raise OptionRefused(
            "resources.count",
            f"resources.count is {parallel}, but the model's {model.heads} attention heads cannot be split so",
        )


def _demand(model: ModelFacts, request: SizingRequest, device: Device) -> KvDemand:
    overrides, tensor_parallel = request.overrides, request.count
    dtype = _options.text(overrides, "dtype") or "auto"
    width = 2 if dtype == "auto" else ENGINE_WIDTHS.get(dtype, 2)  # vLLM runs float32 checkpoints at 16 bits here
    slots = _options.integer(overrides, "max_num_seqs")
    most = most_slots(request, SLOTS)
    share = _options.number(overrides, "gpu_memory_utilization")
    step = step_tokens(model, request, usual_tokens(device.memory_bytes))
    return KvDemand(
        pool=pool(model, overrides, width, BLOCK_TOKENS, ASYNCHRONOUS * max(step, most), tensor_parallel),
        context=_options.integer(overrides, "max_model_len") or model.context,
        context_given="max_model_len" in overrides,
        slots=most,
        slots_given=slots is not None,
        fixed=(
            Part("weights", model.rank_weight_bytes(tensor_parallel, width, head=request.task != "embed")),
            Part("CUDA context", CONTEXT_BYTES + (COLLECTIVE_BYTES if tensor_parallel > 1 else 0)),
            Part("activations", activation_bytes(model, step, most, width)),
            Part("graphs", 0 if overrides.get("enforce_eager") is True else GRAPH_BYTES),
        ),
        limit=int(device.memory_bytes * (share or UTILIZATION)),
        limit_name=f"{share or UTILIZATION:.0%} of a {device.name}",
        fill=share is not None,
        cache_bytes=_options.integer(overrides, "kv_cache_memory_bytes"),
    )


def usual_tokens(memory_bytes: int) -> int:
    """Tokens of a step that vLLM's server takes on a device of this size."""
    return 8192 if memory_bytes >= LARGE_DEVICE else 2048


def _host_memory(machine: Machine, request: SizingRequest) -> int:
    wanted = request.memory_bytes or HOST_BYTES + (request.count - 1) * GIB
    if wanted > machine.memory_bytes:
        raise DoesNotFit(
            f"the engine's processes take {human(wanted)}, but this machine's memory for replicas is "
            f"{human(machine.memory_bytes)}; lower resources.memory or take a larger machine",
            wanted,
            machine.memory_bytes,
        )
    return wanted


def _engine_options(model: ModelFacts, request: SizingRequest, device: Device, outcome: KvPlan) -> dict[str, object]:
    share = min(1.0, math.ceil(outcome.total / device.memory_bytes * 10_000) / 10_000)
    options: dict[str, object] = {
        "gpu_memory_utilization": share,
        "max_num_seqs": outcome.slots,
        "max_num_batched_tokens": max(step_tokens(model, request, usual_tokens(device.memory_bytes)), outcome.slots),
    }
    if outcome.cache_bytes:
        options["kv_cache_memory_bytes"] = outcome.cache_bytes
    if request.count > 1:
        options["tensor_parallel_size"] = request.count
    if outcome.context < model.context:
        options["max_model_len"] = outcome.context
    if request.task == "embed":
        options["runner"] = "pooling"
    return {**options, **request.overrides}
