"""What an engine is told: one figure for each setting, with its formula and its inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pilotlight.recommender import roofline
from pilotlight.recommender._choice import Choice, Figure
from pilotlight.recommender._cpu import NO_CACHE_BYTES
from pilotlight.recommender._units import human
from pilotlight.recommender.lengths import ANSWER_SHARE, TAIL, needed_bytes
from pilotlight.recommender.memory import engine_width, step_tokens

_LEAST_STEP = 256  # tokens: below, steps are too short to be worth their fixed costs


def settings(choice: Choice) -> Iterator[Figure]:
    """All that apply."""
    yield from _parallel(choice)
    yield _context(choice)
    yield _sequences(choice)
    yield _step_tokens(choice)
    yield from _memory(choice)
    if not choice.embeds and choice.placed.workload.answer.distributed:
        yield _answer_limit(choice)


def options(told: Mapping[str, Figure], choice: Choice) -> dict[str, object]:
    """The engine's options, by vLLM's names."""
    names = ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization")
    made: dict[str, object] = {name: told[name].value for name in names if name in told}
    made["kv_cache_memory_bytes"] = told["kv_cache_memory_bytes"].value or NO_CACHE_BYTES
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        if told[name].value != 1:
            made[name] = told[name].value
    if choice.constraints.kv_dtype != "auto":
        made["kv_cache_dtype"] = choice.constraints.kv_dtype
    if choice.constraints.dtype != "auto":
        made["dtype"] = choice.constraints.dtype
    elif choice.placed.plan.request.processors:
        made |= {"dtype": "float32", "enforce_eager": True}
    if choice.embeds:
        made["runner"] = "pooling"
    return made


def checks(choice: Choice) -> Iterator[str]:
    """Of number formats that change answers."""
    kv_dtype, request = choice.constraints.kv_dtype, choice.placed.plan.request
    if kv_dtype != "auto":
        yield (
            f"kv_cache_dtype {kv_dtype} changes answers: greedy answers to a sample of this function's prompts have to"
            " agree with those of kv_cache_dtype auto, or its task score has to be as high"
        )
    if choice.constraints.dtype != "auto" and engine_width(request) < choice.placed.facts.stored_width:
        yield (
            f"dtype {choice.constraints.dtype} is narrower than the stored {choice.placed.facts.dtype}: greedy answers"
            f" have to agree with those of dtype {choice.placed.facts.dtype}, or the task score has to be as high"
        )


def _parallel(choice: Choice) -> Iterator[Figure]:
    placed, request = choice.placed, choice.placed.plan.request
    weights = human(placed.plan.weight_bytes)
    inputs = {"weight_bytes_each": placed.plan.weight_bytes, "memory_bytes_each": placed.accelerator.memory_bytes}
    if choice.constraints.tensor_parallel:
        reason = "as given"
    elif placed.accelerators == 1:
        reason = f"{weights} of weights fit on one, and more bring little for each"
    else:
        reason = f"fewer serve much less for each, or hold neither it nor the bounds; {weights} of weights on each"
    yield Figure("tensor_parallel_size", request.ranks, "accelerators", reason, inputs)
    if choice.constraints.pipeline_parallel:
        reason = "as given"
    elif request.stages == 1:
        reason = "every layer has its place without"
    else:
        reason = f"no number of accelerators that one layer can be split over holds all layers; {weights} on each"
    yield Figure("pipeline_parallel_size", request.stages, "stages", reason, inputs)


def _context(choice: Choice) -> Figure:
    facts, plan, workload = choice.placed.facts, choice.placed.plan, choice.placed.workload
    tail = workload.together.at(TAIL)
    inputs: dict[str, object] = {"model_context": facts.context}
    if choice.constraints.context:
        reason = "as given"
    elif plan.context == facts.context:
        reason = "the model's own"
    elif workload.distributed and plan.context >= tail:
        reason = f"{TAIL:.1%} of requests have at most {tail:.0f} tokens, rounded up"
        inputs["tail_tokens"] = tail
    else:
        reason = "the longest request that the KV cache holds"
        inputs["kv_cache_bytes"] = plan.cache_bytes
    return Figure("max_model_len", plan.context, "tokens", reason, inputs)


def _sequences(choice: Choice) -> Figure:
    batch = choice.batch
    if choice.constraints.max_num_seqs:
        reason = "as given"
    elif choice.hard > batch.chosen:
        reason = "what the requests in flight may grow to where latencies are at the lower ends of their intervals"
    else:
        reason = batch.because
    inputs = {"concurrency": batch.chosen, "hopeful": batch.hopeful, "memory": choice.placed.plan.sequences}
    return Figure("max_num_seqs", choice.hard, "sequences", reason, inputs)


def _step_tokens(choice: Choice) -> Figure:
    """Prompts of others delay a token by one bound of ITL at most; but no less is computed than arrives."""
    placed = choice.placed
    usual = step_tokens(placed.facts, placed.accelerator, placed.plan.request)
    name, unit = "max_num_batched_tokens", "tokens"
    if choice.constraints.step_tokens:
        return Figure(name, usual, unit, "as given")
    if choice.slo.itl is None or choice.embeds:
        return Figure(name, usual, unit, "the engine's own: no bound of ITL asks for shorter steps")
    seconds = _prompt_token_seconds(choice)
    arriving = 2 * choice.batch.chosen * (placed.setup.prompt / choice.answer + 1)
    inputs = {"itl": choice.slo.itl, "seconds_per_prompt_token": seconds, "tokens_arriving_twice": arriving}
    held = 2 ** math.floor(math.log2(max(choice.slo.itl / seconds, 1)))
    floors = {
        "shorter steps are not worth their fixed costs": _LEAST_STEP,
        "every request has a token in each step": choice.hard,
        "shorter steps compute less than twice what arrives": 2 ** math.ceil(math.log2(max(arriving, 1))),
    }
    why = max(floors, key=lambda each: floors[each])
    steps = min(usual, max(held, floors[why]))
    if steps * seconds <= choice.slo.itl:
        reason = "prompts of others delay a token by one bound of ITL at most"
    else:
        reason = f"{why}; prompts of others delay a token by more than one bound of ITL"
    return Figure(name, steps, unit, f"the engine's own: {reason}" if steps == usual else reason, inputs)


def _prompt_token_seconds(choice: Choice) -> float:
    """The roofline's, by as much as what was measured differs from it."""
    setup, batch = choice.placed.setup, choice.batch.chosen
    ratio = choice.load.itl(batch).value / roofline.itl(setup, batch)
    return ratio * roofline.prefill(setup, setup.prompt) / setup.prompt


def _memory(choice: Choice) -> Iterator[Figure]:
    plan, accelerator = choice.placed.plan, choice.placed.accelerator
    sums = " + ".join(map(str, plan.parts))
    inputs: dict[str, object] = {part.name: part.bytes for part in plan.parts}
    cache = plan.cache_bytes
    held = f"{plan.sequences} sequences at once"
    if plan.request.processors:
        cache = min(cache, needed_bytes(plan.pool, choice.hard, choice.placed.workload.together, plan.context))
        whole = sum(part.bytes for part in plan.parts) + cache
        yield Figure("memory_bytes", whole, "bytes", f"{sums} + KV cache {human(cache)}", inputs)
    else:
        share = math.ceil((sum(part.bytes for part in plan.parts) + cache) / accelerator.memory_bytes * 1e4) / 1e4
        reason = f"{sums} + KV cache {human(cache)} of {human(accelerator.memory_bytes)}"
        yield Figure("gpu_memory_utilization", min(1.0, share), "share", reason, inputs)
    reason = f"{held} at these lengths" if plan.request.processors else "what is left on each accelerator"
    yield Figure("kv_cache_memory_bytes", cache, "bytes", reason if plan.pool.groups else "it keeps none", inputs)
    kv_dtype = choice.constraints.kv_dtype
    reason = "the model's own: another changes answers" if kv_dtype == "auto" else "as given; see the checks"
    yield Figure("kv_cache_dtype", kv_dtype, "", reason, {"bytes_per_token": plan.pool.token_bytes})


def _answer_limit(choice: Choice) -> Figure:
    lengths = choice.placed.workload.answer
    tokens = min(choice.placed.plan.context, math.ceil(lengths.at(ANSWER_SHARE)))
    reason = f"{ANSWER_SHARE:.0%} of answers are no longer: for callers to ask for, as the engine knows only a limit"
    return Figure("max_tokens", tokens, "tokens", reason, {"median": lengths.at(0.5)})
