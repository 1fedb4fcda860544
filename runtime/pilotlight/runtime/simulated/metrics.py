"""The engine's counters under vLLM's names, as Prometheus text."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .sequence import Sequence

# Bucket bounds are vLLM 0.32's (v1/metrics/buckets.py), seconds and tokens.
_LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
)  # fmt: skip
_INTER_TOKEN = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)  # fmt: skip
_STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)
_LABELS = ("model_name", "engine")
FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")


class Metrics:
    """One registry per engine, so that several can live in one process."""

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        self._values = (model, "0")
        self.generation_tokens = self._counter("generation_tokens")
        self._prompt_tokens = self._counter("prompt_tokens")
        self._cache_queries = self._counter("prefix_cache_queries")
        self._cache_hits = self._counter("prefix_cache_hits")
        self._cached = self._counter("prompt_tokens_cached")
        for never in ("external_prefix_cache_queries", "external_prefix_cache_hits", "num_preemptions"):
            self._counter(never)
        sources = self._counters("prompt_tokens_by_source", "source")
        self._computed, self._hit, _ = (
            sources.labels(*self._values, source)
            for source in ("local_compute", "local_cache_hit", "external_kv_transfer")
        )
        success = self._counters("request_success", "finished_reason")
        self._success = {reason: success.labels(*self._values, reason) for reason in FINISHED_REASONS}
        self.first_token = self._histogram("time_to_first_token_seconds", _FIRST_TOKEN)
        self.inter_token = self._histogram("inter_token_latency_seconds", _INTER_TOKEN)
        self._per_token = self._histogram("request_time_per_output_token_seconds", _INTER_TOKEN)
        self._end_to_end = self._histogram("e2e_request_latency_seconds", _LATENCY)
        self._queue = self._histogram("request_queue_time_seconds", _LATENCY)
        self._inference = self._histogram("request_inference_time_seconds", _LATENCY)
        self._prefill = self._histogram("request_prefill_time_seconds", _LATENCY)
        self._decode = self._histogram("request_decode_time_seconds", _LATENCY)
        self._preemptions = self._histogram("request_num_preemptions", _PREEMPTIONS)
        self.step_tokens = self._histogram("iteration_tokens_total", _STEP_TOKENS)

    def watch(self, running: Callable[[], float], waiting: Callable[[], float], kv_usage: Callable[[], float]) -> None:
        """Read the gauges from the engine whenever they are asked for."""
        self._gauge("num_requests_running").set_function(running)
        self._gauge("num_requests_waiting").set_function(waiting)
        self._gauge("kv_cache_usage_perc").set_function(kv_usage)
        reasons = self._gauges("num_requests_waiting_by_reason", "reason")
        reasons.labels(*self._values, "capacity").set_function(waiting)
        reasons.labels(*self._values, "deferred").set(0)
        sleep = self._gauges("engine_sleep_state", "sleep_state")
        for state in ("awake", "weights_offloaded", "discard_all"):
            sleep.labels(*self._values, state).set(state == "awake")

    def describe_cache(self, block_size: int, blocks: int) -> None:
        labels = {"engine": "0", "block_size": str(block_size), "num_gpu_blocks": str(blocks)}
        info = Gauge("vllm:cache_config_info", "Information of the KV cache", tuple(labels), registry=self._registry)
        info.labels(**labels).set(1)

    def first(self, sequence: Sequence) -> None:
        """A sequence has made its first token, so its prompt is done."""
        prompt, cached = len(sequence.prompt), sequence.cached
        self.first_token.observe(sequence.first_at - sequence.arrived_at)
        self._queue.observe(sequence.admitted_at - sequence.arrived_at)
        self._prefill.observe(sequence.first_at - sequence.admitted_at)
        self._prompt_tokens.inc(prompt)
        self._cache_queries.inc(prompt)
        self._cache_hits.inc(cached)
        self._cached.inc(cached)
        self._hit.inc(cached)
        self._computed.inc(prompt - cached)

    def finished(self, sequence: Sequence) -> None:
        """A sequence has ended by itself."""
        decode = sequence.last_at - sequence.first_at
        self._success[sequence.finish_reason or "stop"].inc()
        self._end_to_end.observe(sequence.last_at - sequence.arrived_at)
        self._inference.observe(sequence.last_at - sequence.admitted_at)
        self._decode.observe(decode)
        self._preemptions.observe(0)
        if sequence.count > 1:
            self._per_token.observe(decode / (sequence.count - 1))

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def _counters(self, name: str, *labels: str) -> Counter:
        return Counter(f"vllm:{name}", _words(name), (*_LABELS, *labels), registry=self._registry)

    def _counter(self, name: str) -> Counter:
        return self._counters(name).labels(*self._values)

    def _gauges(self, name: str, *labels: str) -> Gauge:
        return Gauge(f"vllm:{name}", _words(name), (*_LABELS, *labels), registry=self._registry)

    def _gauge(self, name: str) -> Gauge:
        return self._gauges(name).labels(*self._values)

    def _histogram(self, name: str, buckets: tuple[float, ...]) -> Histogram:
        made = Histogram(f"vllm:{name}", _words(name), _LABELS, buckets=buckets, registry=self._registry)
        return made.labels(*self._values)


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
