"""Reading an engine's metrics page."""

from __future__ import annotations

import pytest

from pilotlight.runtime.metrics import BadMetricsError, EngineMetrics, scrape

_PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="chat"} 2.0
vllm:num_requests_running{engine="1",model_name="chat"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="chat"} 4.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="chat"} 0.25
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{engine="0",model_name="chat"} 100.0
vllm:prompt_tokens_created{engine="0",model_name="chat"} 1.79e+09
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0",model_name="chat"} 30.0
# TYPE vllm:request_success counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="chat"} 5.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="chat"} 6.0
# TYPE vllm:inter_token_latency_seconds histogram
vllm:inter_token_latency_seconds_bucket{engine="0",le="+Inf",model_name="chat"} 20.0
vllm:inter_token_latency_seconds_count{engine="0",model_name="chat"} 20.0
vllm:inter_token_latency_seconds_sum{engine="0",model_name="chat"} 0.5
# TYPE python_gc_objects_collected counter
python_gc_objects_collected_total{generation="0"} 9.0
"""


def test_counts_are_summed_over_engines_and_reasons() -> None:
    assert scrape(_PAGE) == EngineMetrics(
        running=3,
        waiting=4,
        kv_usage=0.25,
        prompt_tokens=100,
        generation_tokens=30,
        requests=11,
        gaps=20,
        gap_seconds=0.5,
    )


@pytest.mark.parametrize(
    "page",
    ["", "<html>", "vllm:num_requests_running 1\n", "vllm:num_requests_running x\n", _PAGE.replace("100.0", "NaN")],
)
def test_a_page_without_the_counts_is_refused_instead_of_read_as_idle(page: str) -> None:
    with pytest.raises(BadMetricsError):
        scrape(page)
