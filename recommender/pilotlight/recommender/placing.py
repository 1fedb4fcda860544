"""A model on an accelerator: how its memory is cut up, and what the roofline needs to know of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from pilotlight.recommender._gpu import LARGE_DEVICE, UTILIZATION
from pilotlight.recommender._kv import SHORTEST_CONTEXT
from pilotlight.recommender.accelerators import Accelerator
from pilotlight.recommender.errors import OptionRefused
from pilotlight.recommender.facts import ModelFacts
from pilotlight.recommender.lengths import TAIL, whole_context
from pilotlight.recommender.memory import (
    MemoryPlan,
    MemoryRequest,
    engine_width,
    fixed_parts,
    plan_memory,
    pool_of,
    resident,
)
from pilotlight.recommender.quantization import pair_bits
from pilotlight.recommender.roofline import PROCESSORS, Rates, Setup
from pilotlight.recommender.shape import shape_of
from pilotlight.recommender.workload import FREE, USUAL, Constraints, Workload

_FLOAT_BYTES = 4
_MOST, _MOST_SMALL, _MOST_CPU = 1024, 256, 64  # most sequences: vLLM's defaults by device; on processors fewer


class Split(NamedTuple):
    """How a model is spread over accelerators."""

    ranks: int = 1
    """Over which each layer is split."""
    stages: int = 1
    """Over which layers are spread, each of so many ranks."""


WHOLE = Split()


@dataclass(frozen=True)
class Placed:
    """One way to run a model, before it is known how many requests it should run at once."""

    facts: ModelFacts
    accelerator: Accelerator
    workload: Workload
    plan: MemoryPlan
    """For as many sequences as memory holds."""
    setup: Setup

    @property
    def accelerators(self) -> int:
        """Of one replica."""
        return self.plan.request.accelerators


def place(
    facts: ModelFacts,
    accelerator: Accelerator,
    workload: Workload = USUAL,
    constraints: Constraints = FREE,
    split: Split = WHOLE,
) -> Placed:
    """A model on so many accelerators.

    Raises `DoesNotFit` and `OptionRefused`, as `plan_memory`, the latter also where there are not so many.
    """
    _check_count(accelerator, split)
    request = _request(facts, accelerator, workload, constraints, split)
    plan = plan_memory(facts, accelerator, request)
    return Placed(facts, accelerator, workload, plan, _setup(facts, accelerator, workload, request))


def setup_for(
    facts: ModelFacts, accelerator: Accelerator, workload: Workload = USUAL, constraints: Constraints = FREE
) -> Setup:
    """What `performance.expected` and `performance.fitted` start from. Raises as `place`."""
    return place(facts, accelerator, workload, constraints, given(constraints)).setup


def given(constraints: Constraints) -> Split:
    """What is fixed already, and one where nothing is."""
    return Split(constraints.tensor_parallel or 1, constraints.pipeline_parallel or 1)


def _check_count(accelerator: Accelerator, split: Split) -> None:
    wanted = split.ranks * split.stages
    if accelerator.count is not None and wanted > accelerator.count:
        raise OptionRefused(
            "resources.count",
            f"a replica on {wanted} x {accelerator.name} is asked for, but there are {accelerator.count}",
        )


def _request(
    facts: ModelFacts, accelerator: Accelerator, workload: Workload, constraints: Constraints, split: Split
) -> MemoryRequest:
    processors = accelerator.kind == "cpu"
    request = MemoryRequest(
        ranks=split.ranks,
        stages=split.stages,
        dtype=constraints.dtype,
        kv_dtype=constraints.kv_dtype,
        utilization=constraints.utilization or (1.0 if processors else UTILIZATION),
        step_tokens=constraints.step_tokens,
        sequences=constraints.max_num_seqs or _most(accelerator),
        lengths=workload.together,
        task=constraints.task,
        processors=processors,
        count=accelerator.count,
    )
    context = constraints.context or _context(facts, accelerator, request, workload)
    return replace(request, context=context)


def _most(accelerator: Accelerator) -> int:
    if accelerator.kind == "cpu":
        return _MOST_CPU
    return _MOST if accelerator.memory_bytes >= LARGE_DEVICE else _MOST_SMALL


def _context(facts: ModelFacts, accelerator: Accelerator, request: MemoryRequest, workload: Workload) -> int:
    """What nearly all requests need, or the model's own where that is unknown; and no more than the cache can hold."""
    wanted = facts.context
    if workload.distributed and not facts.encoder:
        tail = whole_context(workload.together.at(TAIL))
        wanted = min(facts.context, max(tail, SHORTEST_CONTEXT))
    room = int(accelerator.memory_bytes * request.utilization)
    room -= sum(part.bytes for part in fixed_parts(facts, accelerator, request))
    return max(pool_of(facts, accelerator, request).longest(room, wanted), min(wanted, SHORTEST_CONTEXT))


def _setup(facts: ModelFacts, accelerator: Accelerator, workload: Workload, request: MemoryRequest) -> Setup:
    width = engine_width(request)
    generated = 1.0 if facts.encoder or request.task == "embed" else workload.answer.mean
    longest = request.context or facts.context
    tokens = min(longest, math.ceil(workload.prompt.mean + generated))
    return Setup(
        shape=shape_of(facts, width),
        accelerator=accelerator,
        prompt=min(workload.prompt.mean, longest),
        answer=generated,
        tensor_parallel=request.ranks,
        pipeline=request.stages,
        kv_bytes=pair_bits(request.kv_dtype, width) / 16,
        number_format="fp32" if width == _FLOAT_BYTES else facts.arithmetic,
        resident=max(1.0, resident(facts, accelerator, request, tokens)),
        rates=PROCESSORS if request.processors else Rates(),
    )
