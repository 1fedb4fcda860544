"""Sizing for vLLM on processors.

Sources, vLLM 0.32: `--kv-cache-memory-bytes` is taken to the byte on CPU (v1/worker/cpu_worker.py) and spares the
start its check that 92 % of the memory is free, as well as the warm-up run; block size 128 (platforms/cpu.py).
"""

from __future__ import annotations

from pilotlight.recommender import _options
from pilotlight.recommender._kv import KvDemand, KvPlan, Part, plan
from pilotlight.recommender._pool import pool
from pilotlight.recommender._steps import activation_bytes, most_slots, step_tokens
from pilotlight.recommender._units import ENGINE_WIDTHS, GIB, MIB, ceil_div, human
from pilotlight.recommender.errors import DoesNotFit, OptionRefused
from pilotlight.recommender.facts import ModelFacts
from pilotlight.recommender.values import Machine, Sizing, SizingRequest

# Measured (proportional set size of all its processes, weights, KV cache and activations taken off): API server 0.83,
# engine 0.76, worker 1.07 GiB with SmolLM2-135M in float32; 2.33 GiB together with all-MiniLM-L6-v2.
ENGINE_BYTES = int(2.7 * GIB)
BLOCK_TOKENS = 128
BATCHED_TOKENS = 2048  # vLLM's default for its server on CPU (engine/arg_utils.py)
# Decoding on processors is bound by memory bandwidth and then by arithmetic: more streams only slow each other.
SLOTS_SMALL, SLOTS_LARGE, LARGE_CPUS = 8, 16, 8
MOST_CPUS = 8  # of one replica, unless the manifest asks for more: leaves room for the others
# An engine without a KV cache still wants to be told a size, or checks the machine's free memory instead.
NO_CACHE_BYTES = 16 * MIB


def size_cpu(model: ModelFacts, machine: Machine, request: SizingRequest) -> Sizing:
    cpus = _cpus(machine, request)
    dtype = _options.text(request.overrides, "dtype") or "float32"
    demand = _demand(model, machine, request, dtype, cpus)
    outcome = plan(demand)
    memory = request.memory_bytes or ceil_div(outcome.total, MIB) * MIB
    return Sizing(
        options=_engine_options(model, request, dtype, outcome),
        environment={},
        slots=outcome.slots,
        memory_bytes=memory,
        device_bytes=0,
        cpus=cpus,
        context=outcome.context,
        reasons=(
            _dtype_reason(request, dtype),
            *outcome.reasons,
            f"memory {human(memory)}: {' + '.join(map(str, demand.fixed))} + KV cache {human(outcome.cache_bytes)}",
            f"{cpus:g} of {machine.cpus} processors" + (": resources.cpu" if request.cpu else ""),
            *model.estimates,
        ),
    )


def _cpus(machine: Machine, request: SizingRequest) -> float:
    if request.cpu is None:
        return float(min(machine.cpus, MOST_CPUS))
    if request.cpu > machine.cpus:
        raise OptionRefused(
            "resources.cpu", f"resources.cpu is {request.cpu:g}, but this machine has {machine.cpus} processors"
        )
    return request.cpu


def _demand(model: ModelFacts, machine: Machine, request: SizingRequest, dtype: str, cpus: float) -> KvDemand:
    overrides = request.overrides
    width = _width(model, dtype)
    slots = _options.integer(overrides, "max_num_seqs")
    most = most_slots(request, SLOTS_LARGE if cpus >= LARGE_CPUS else SLOTS_SMALL)
    limit, limit_name = _limit(machine, request)
    step = step_tokens(model, request, BATCHED_TOKENS)
    return KvDemand(
        pool=pool(model, overrides, width, BLOCK_TOKENS, max(step, most)),
        context=_options.integer(overrides, "max_model_len") or model.context,
        context_given="max_model_len" in overrides,
        slots=most,
        slots_given=slots is not None,
        fixed=(
            Part("weights", model.rank_weight_bytes(1, width, head=request.task != "embed")),
            Part("engine", ENGINE_BYTES),
            Part("activations", activation_bytes(model, step, most, width)),
        ),
        limit=limit,
        limit_name=limit_name,
        fill=request.memory_bytes is not None,
        cache_bytes=_options.integer(overrides, "kv_cache_memory_bytes"),
    )


def _limit(machine: Machine, request: SizingRequest) -> tuple[int, str]:
    if request.memory_bytes is None:
        return machine.memory_bytes, "this machine's memory for replicas"
    if request.memory_bytes > machine.memory_bytes:
        raise DoesNotFit(
            f"resources.memory is {human(request.memory_bytes)}, but this machine's memory for replicas is "
            f"{human(machine.memory_bytes)}; lower resources.memory or take a larger machine",
            request.memory_bytes,
            machine.memory_bytes,
        )
    return request.memory_bytes, "resources.memory"


def _width(model: ModelFacts, dtype: str) -> int:
    return ENGINE_WIDTHS.get(model.dtype if dtype == "auto" else dtype, 4)


def _engine_options(model: ModelFacts, request: SizingRequest, dtype: str, outcome: KvPlan) -> dict[str, object]:
    options: dict[str, object] = {
        "dtype": dtype,
        "enforce_eager": True,
        "kv_cache_memory_bytes": outcome.cache_bytes or NO_CACHE_BYTES,
        "max_num_seqs": outcome.slots,
        "max_num_batched_tokens": max(step_tokens(model, request, BATCHED_TOKENS), outcome.slots),
    }
    if outcome.context < model.context:
        options["max_model_len"] = outcome.context
    if request.task == "embed":
        options["runner"] = "pooling"
    return {**options, **request.overrides}


def _dtype_reason(request: SizingRequest, dtype: str) -> str:
    if "dtype" in request.overrides:
        return f"number format {dtype}: engine.dtype"
    return "number format float32: vLLM's bfloat16 attention gives wrong answers on processors with AMX"
