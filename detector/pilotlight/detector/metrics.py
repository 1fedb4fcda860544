"""The metric vector: what is observed of a revision in a window, always in this order.

The names that metrics are read from are vLLM's, without `vllm:` and `_total`, for what engines tell; those of the
activator and of the machine are this module's own, and whoever collects translates to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a metric is made of what its sources tell."""

    RATE = "rate"
    """A counter's increase per second, summed over sources."""
    RATIO = "ratio"
    """One counter's increase by another's."""
    QUANTILE = "quantile"
    """Of a histogram's increase, summed over sources."""
    SUM = "sum"
    """A gauge's mean in time, summed over sources."""
    HIGHEST = "highest"
    """A gauge's mean in time, the highest of the sources: one replica in trouble is not averaged away."""


class Role(StrEnum):
    """What a metric says about trouble."""

    LOAD = "load"
    """What is asked of the revision: a condition of the model, never an anomaly."""
    PRESSURE = "pressure"
    """High when there is too much work for the replicas."""
    HEALTH = "health"
    """How the work that is there gets done."""


@dataclass(frozen=True)
class Metric:
    """One place of the vector."""

    name: str
    unit: str
    kind: Kind
    role: Role
    reads: tuple[str, ...]
    """Counters, gauges or histograms that it is made from; for a ratio what is divided and by what."""
    quantile: float = 0.0


METRICS: tuple[Metric, ...] = (
    Metric("arrivals", "1/s", Kind.RATE, Role.LOAD, ("arrivals",)),
    Metric("prompt_tokens", "1/s", Kind.RATE, Role.LOAD, ("prompt_tokens",)),
    Metric("replicas", "1", Kind.SUM, Role.LOAD, ("replicas",)),
    Metric("running", "1", Kind.SUM, Role.PRESSURE, ("num_requests_running",)),
    Metric("waiting", "1", Kind.SUM, Role.PRESSURE, ("num_requests_waiting", "queued")),
    Metric("generation_tokens", "1/s", Kind.RATE, Role.HEALTH, ("generation_tokens",)),
    Metric("finished_stop", "1/s", Kind.RATE, Role.HEALTH, ("request_success:stop",)),
    Metric("finished_length", "1/s", Kind.RATE, Role.HEALTH, ("request_success:length",)),
    Metric("finished_abort", "1/s", Kind.RATE, Role.HEALTH, ("request_success:abort",)),
    Metric("finished_error", "1/s", Kind.RATE, Role.HEALTH, ("request_success:error",)),
    Metric("ttft_p50", "s", Kind.QUANTILE, Role.HEALTH, ("time_to_first_token_seconds",), 0.5),
    Metric("ttft_p95", "s", Kind.QUANTILE, Role.HEALTH, ("time_to_first_token_seconds",), 0.95),
    Metric("itl_p50", "s", Kind.QUANTILE, Role.HEALTH, ("inter_token_latency_seconds",), 0.5),
    Metric("itl_p95", "s", Kind.QUANTILE, Role.HEALTH, ("inter_token_latency_seconds",), 0.95),
    Metric("queue_p50", "s", Kind.QUANTILE, Role.PRESSURE, ("request_queue_time_seconds",), 0.5),
    Metric("queue_p95", "s", Kind.QUANTILE, Role.PRESSURE, ("request_queue_time_seconds",), 0.95),
    Metric("kv_usage", "0..1", Kind.HIGHEST, Role.PRESSURE, ("kv_cache_usage_perc",)),
    Metric("preemptions", "1/s", Kind.RATE, Role.PRESSURE, ("num_preemptions",)),
    Metric("prefix_hits", "0..1", Kind.RATIO, Role.HEALTH, ("prefix_cache_hits", "prefix_cache_queries")),
    Metric("restarts", "1/s", Kind.RATE, Role.HEALTH, ("restarts",)),
    Metric("cpu", "1", Kind.RATE, Role.HEALTH, ("cpu_seconds",)),
    Metric("memory", "B", Kind.HIGHEST, Role.HEALTH, ("memory_bytes",)),
    Metric("gpu", "0..1", Kind.HIGHEST, Role.HEALTH, ("gpu_usage",)),
    Metric("gpu_memory", "B", Kind.HIGHEST, Role.HEALTH, ("gpu_memory_bytes",)),
)
NAMES: tuple[str, ...] = tuple(metric.name for metric in METRICS)
