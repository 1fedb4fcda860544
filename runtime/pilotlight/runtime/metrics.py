"""What we read of an engine's metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

LIMIT = 8 << 20
"""Largest metrics page that is read, bytes."""


class BadMetricsError(ValueError):
    """A page that is not in Prometheus' text format, or without vLLM's metrics."""


@dataclass(frozen=True)
class EngineMetrics:
    """One snapshot; counters are since the engine's start. None: the engine does not tell."""

    running: int
    waiting: int
    kv_usage: float | None  # 0..1
    prompt_tokens: int
    generation_tokens: int
    requests: int  # finished in any way
    preemptions: int = 0
    first_tokens: int | None = None
    """Requests whose first token has come."""
    first_token_seconds: float | None = None
    """Their times to it, all together."""
    gaps: int | None = None
    """Times between two tokens of one request."""
    gap_seconds: float | None = None


def scrape(text: str) -> EngineMetrics:
    """Sum over the engine's labels. Raises BadMetricsError."""
    totals: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples if family.name.startswith("vllm:") else ():
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    except ValueError as error:
        raise BadMetricsError(f"engine metrics cannot be read: {error}") from None
    if broken := sorted(name for name, value in totals.items() if not math.isfinite(value)):
        raise BadMetricsError(f"engine metrics are no numbers: {', '.join(broken[:5])}")
    if "vllm:num_requests_running" not in totals or "vllm:num_requests_waiting" not in totals:
        raise BadMetricsError("engine metrics name no running and waiting requests")
    return EngineMetrics(
        running=int(totals["vllm:num_requests_running"]),
        waiting=int(totals["vllm:num_requests_waiting"]),
        kv_usage=totals.get("vllm:kv_cache_usage_perc"),
        prompt_tokens=int(totals.get("vllm:prompt_tokens_total", 0.0)),
        generation_tokens=int(totals.get("vllm:generation_tokens_total", 0.0)),
        requests=int(totals.get("vllm:request_success_total", 0.0)),
        preemptions=int(totals.get("vllm:num_preemptions_total", 0.0)),
        first_tokens=_whole(totals.get("vllm:time_to_first_token_seconds_count")),
        first_token_seconds=totals.get("vllm:time_to_first_token_seconds_sum"),
        gaps=_whole(totals.get("vllm:inter_token_latency_seconds_count")),
        gap_seconds=totals.get("vllm:inter_token_latency_seconds_sum"),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
