"""The figures of a recommendation: one function for each, with its formula, its inputs and its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pilotlight.recommender import roofline
from pilotlight.recommender._batch import PROMPT_SHARE, Batch, Load
from pilotlight.recommender._cpu import NO_CACHE_BYTES
from pilotlight.recommender._units import human
from pilotlight.recommender.curve import Estimate
from pilotlight.recommender.eta import start_eta
from pilotlight.recommender.lengths import needed_bytes
from pilotlight.recommender.memory import engine_width, step_tokens
from pilotlight.recommender.placing import TAIL, Placed
from pilotlight.recommender.workload import Constraints, Slo

UTILISATION = 0.8
"""Share of a replica's capacity that is planned with: the rest takes up what arrivals vary."""
ANSWER_SHARE = 0.99
"""Share of answers that a default `max_tokens` does not cut off."""
_LEAST_STEP = 256  # tokens: below, steps are too short to be worth their fixed costs
_ROUND = 8  # sequences: engines capture graphs for multiples of it
_HOUR, _MILLION = 3600, 1_000_000


@dataclass(frozen=True)
class Figure:
    """One number, or one word, that is recommended or expected."""

    name: str
    value: float | int | str
    unit: str
    reason: str
    inputs: Mapping[str, object] = field(default_factory=dict)
    """What it came from, by name."""
    low: float | None = None
    """Lower end of the 95 % interval; None: it is exact, or a choice."""
    high: float | None = None


@dataclass(frozen=True)
class Choice:
    """A placed model and how many requests it runs at once."""

    placed: Placed
    load: Load
    batch: Batch
    hard: int
    """`max_num_seqs`."""
    slo: Slo
    constraints: Constraints

    @property
    def per_accelerator(self) -> float:
        """Tokens per second."""
        return self.load.throughput(self.batch.chosen).value / self.placed.accelerators

    @property
    def embeds(self) -> bool:
        return self.constraints.task == "embed"

    @property
    def answer(self) -> float:
        """Tokens that are generated for a request; an embedder's vector counts as one."""
        return self.placed.setup.answer


def rounded(batch: Batch, placed: Placed) -> int:
    """The engine's own limit: what the cap may grow to as latencies turn out better, in steps of eight."""
    most = max(1, placed.plan.sequences)
    hopeful = -(-batch.hopeful // _ROUND) * _ROUND if batch.hopeful > _ROUND else batch.hopeful
    return max(batch.chosen, min(most, hopeful))


def figures(choice: Choice, starts: Sequence[Mapping[str, float]]) -> Iterator[Figure]:
    """All that apply."""
    yield from _parallel(choice)
    yield _context(choice)
    yield _sequences(choice)
    yield _step_tokens(choice)
    yield from _memory(choice)
    if not choice.embeds and choice.placed.workload.answer.distributed:
        yield _answer_limit(choice)
    yield _concurrency(choice)
    yield _target(choice)
    yield from _latencies(choice)
    yield from _rates(choice)
    if choice.placed.workload.rate is not None:
        yield _replicas(choice, choice.placed.workload.rate)
    if choice.placed.accelerator.price is not None:
        yield _cost(choice, choice.placed.accelerator.price)
    yield _start(choice, starts)


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


def notes(choice: Choice) -> Iterator[str]:
    """What was guessed."""
    yield from choice.placed.facts.estimates
    workload, performance = choice.placed.workload, choice.load.performance
    if not workload.distributed:
        yield "lengths: only a usual length is known, so the longest request and answer are not bounded by it"
    if not performance.itl.measured:
        yield "latencies: nothing was measured, so they are the roofline's, and may be off by two times either way"
    elif choice.batch.safe == 1 and choice.batch.likely > 1:
        yield "latencies: their intervals are wide enough that only one request at once is sure to keep the bounds"


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
    """Prompts of others delay a token by one bound of ITL at most, and no less is computed than arrives."""
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
    wanted = max(_LEAST_STEP, choice.hard, 2 ** math.floor(math.log2(max(choice.slo.itl / seconds, arriving, 1))))
    if wanted >= usual:
        return Figure(name, usual, unit, "the engine's own: prompts of others delay a token by less than ITL", inputs)
    return Figure(name, wanted, unit, "prompts of others delay a token by one bound of ITL at most", inputs)


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
    reason = f"{ANSWER_SHARE:.0%} of answers are no longer; a request may ask for more"
    return Figure("max_tokens", tokens, "tokens", reason, {"median": lengths.at(0.5)})


def _concurrency(choice: Choice) -> Figure:
    batch, performance = choice.batch, choice.load.performance
    value = min(choice.hard, batch.chosen)
    if performance.itl.measured:
        reason = f"the bounds hold at the upper ends of the latencies' intervals; {batch.because}"
    else:
        reason = f"the bounds hold at the expected latencies; {batch.because}"
    inputs = {"slo": str(choice.slo), "measurements": performance.itl.measured, "safe": batch.safe}
    low, high = sorted((min(batch.safe, value), max(batch.hopeful, value)))
    return Figure("concurrency", value, "requests", reason, inputs, low, high)


def _target(choice: Choice) -> Figure:
    value = min(choice.hard, choice.batch.chosen)
    reason = f"{UTILISATION:.0%} of the requests in flight, so that bursts find room while a replica starts"
    return Figure("target", max(1.0, UTILISATION * value), "requests", reason, {"concurrency": value})


def _latencies(choice: Choice) -> Iterator[Figure]:
    batch, load = choice.batch.chosen, choice.load
    inputs = {"concurrency": batch, "measurements": load.performance.itl.measured}
    if not choice.embeds:
        yield _estimated("itl", load.itl(batch), "s", f"at {batch} requests in flight", inputs)
    reason = f"at {batch} requests in flight, for a prompt of {load.longest:.0f} tokens"
    if choice.placed.workload.prompt.distributed:
        reason += f": {PROMPT_SHARE:.0%} are no longer"
    yield _estimated("ttft", load.ttft(batch), "s", reason, {**inputs, "prompt_tokens": load.longest})


def _rates(choice: Choice) -> Iterator[Figure]:
    batch, rate = choice.batch.chosen, choice.load.throughput(choice.batch.chosen)
    inputs = {"concurrency": batch, "answer_tokens": choice.answer, "prompt_tokens": choice.load.prompt}
    each = choice.load.prompt if choice.embeds else 1.0
    what = "prompt tokens of all requests" if choice.embeds else "generated by all requests together"
    yield _estimated("tokens_per_second", _times(rate, each), "tokens/s", what, inputs)
    reason = "requests in flight by the seconds of one (Little's law)"
    yield _estimated("requests_per_second", _times(rate, 1 / choice.answer), "requests/s", reason, inputs)


def _replicas(choice: Choice, wanted: float) -> Figure:
    rate = choice.load.throughput(choice.batch.chosen)
    each = _times(rate, UTILISATION / choice.answer)
    reason = f"ceil({wanted:g} requests/s / ({UTILISATION:.0%} of what one serves))"
    counts = [math.ceil(wanted / side) for side in (each.value, each.high, each.low)]
    inputs = {"rate": wanted, "requests_per_second": each.value / UTILISATION}
    return Figure("replicas", max(1, counts[0]), "replicas", reason, inputs, max(1, counts[1]), max(1, counts[2]))


def _cost(choice: Choice, price: float) -> Figure:
    """A price is per accelerator, and the time of all of a replica's is paid."""
    accelerator = choice.placed.accelerator
    rate = choice.load.throughput(choice.batch.chosen)
    each = choice.load.prompt if choice.embeds else 1.0
    sums = [
        price * choice.placed.accelerators / _HOUR * _MILLION / (side * each)
        for side in (rate.value, rate.high, rate.low)
    ]
    inputs = {"price": price, "source": accelerator.price_source, "accelerators": choice.placed.accelerators}
    reason = f"{price:g} US$ per hour and accelerator, all of it busy"
    return Figure("cost_per_million_tokens", sums[0], "US$", reason, inputs, sums[1], sums[2])


def _start(choice: Choice, starts: Sequence[Mapping[str, float]]) -> Figure:
    phases = start_eta(starts, choice.placed.facts.weight_bytes)
    seen = len(starts)
    reason = f"medians of the last {seen} starts" if seen else "usual times, and the weights by a store's usual rate"
    return Figure("start_seconds", sum(phases.values()), "s", reason, phases)


def _estimated(name: str, estimate: Estimate, unit: str, reason: str, inputs: Mapping[str, object]) -> Figure:
    return Figure(name, estimate.value, unit, reason, inputs, estimate.low, estimate.high)


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(estimate.value * factor, estimate.low * factor, estimate.high * factor)
