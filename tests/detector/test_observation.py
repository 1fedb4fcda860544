"""One window of a revision's metrics from scrapes that come late, twice or not at all."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.detector.metrics import METRICS, NAMES, Kind
from pilotlight.detector.observation import Scrape, observe


def scraped(at: float, started: float | None = 0.0, **told: Any) -> Scrape:
    """`told`: counters by name, gauges as `g_NAME`."""
    gauges = {name.removeprefix("g_"): value for name, value in told.items() if name.startswith("g_")}
    counters = {name: value for name, value in told.items() if not name.startswith("g_")}
    return Scrape(at, started, gauges, counters)


def seen(scrapes: dict[str, list[Scrape]], name: str, end: float = 160.0) -> float | None:
    return observe(scrapes, 100, end).values[NAMES.index(name)]


def test_every_place_of_the_vector_has_a_name_of_its_own() -> None:
    assert len(set(NAMES)) == len(METRICS)
    assert all(len(metric.reads) == 2 for metric in METRICS if metric.kind is Kind.RATIO)
    assert all(0 < metric.quantile < 1 for metric in METRICS if metric.kind is Kind.QUANTILE)


def test_without_scrapes_nothing_is_known() -> None:
    assert set(observe({}, 100, 160).values) == {None}
    assert set(observe({"a": [scraped(50)]}, 100, 160).values) == {None}


def test_rates_and_gauges_sum_over_replicas_and_kv_use_is_the_highest() -> None:
    replicas = {
        name: [
            scraped(100, generation_tokens=0, g_num_requests_running=2, g_kv_cache_usage_perc=0.1),
            scraped(160, generation_tokens=600 * place, g_num_requests_running=4, g_kv_cache_usage_perc=0.2 * place),
        ]
        for place, name in enumerate("ab", 1)
    }

    assert seen(replicas, "generation_tokens") == pytest.approx(30)
    assert seen(replicas, "running") == pytest.approx(6)
    assert seen(replicas, "kv_usage") == pytest.approx(0.25)


def test_requests_wait_at_the_activator_and_in_engines() -> None:
    assert (
        seen({"activator": [scraped(120, g_queued=3)], "a": [scraped(130, g_num_requests_waiting=2)]}, "waiting") == 5
    )


def test_a_replica_that_is_not_heard_makes_the_sum_unknown() -> None:
    heard = [scraped(100, generation_tokens=0), scraped(160, generation_tokens=60)]
    late = [scraped(100, generation_tokens=0), scraped(110, generation_tokens=10)]

    assert seen({"a": heard}, "generation_tokens") == 1
    assert seen({"a": heard, "b": late}, "generation_tokens") is None


def test_a_replica_that_started_in_the_window_counts_from_its_start() -> None:
    assert seen({"a": [scraped(158, started=140, generation_tokens=90)]}, "generation_tokens") == pytest.approx(1.5)


def test_a_restart_loses_nothing_that_was_told() -> None:
    told = [(100, 0, 1000), (130, 0, 1300), (160, 131, 290)]
    scrapes = [scraped(at, started=started, prompt_tokens=value) for at, started, value in told]

    assert seen({"a": scrapes}, "prompt_tokens") == pytest.approx((300 + 290) / 60)


def test_the_hit_rate_is_of_this_window_and_unknown_without_queries() -> None:
    def told(hits: float, queries: float) -> dict[str, list[Scrape]]:
        first = scraped(100, prefix_cache_hits=50, prefix_cache_queries=100)
        return {"a": [first, scraped(160, prefix_cache_hits=50 + hits, prefix_cache_queries=100 + queries)]}

    assert seen(told(3, 4), "prefix_hits") == pytest.approx(0.75)
    assert seen(told(0, 4), "prefix_hits") == 0
    assert seen(told(0, 0), "prefix_hits") is None


def test_latencies_are_those_of_the_window() -> None:
    def told(at: float, fast: float, slow: float) -> Scrape:
        buckets = {0.1: fast, 1.0: fast + slow, math.inf: fast + slow}
        return Scrape(at, 0, histograms={"time_to_first_token_seconds": buckets})

    scrapes = {"a": [told(100, 1000, 0), told(160, 1000, 10)]}
    assert seen(scrapes, "ttft_p50") == pytest.approx(0.55)
    assert seen({"a": [told(100, 5, 0), told(160, 5, 0)]}, "ttft_p50") is None


@given(st.integers(15, 600), st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_steady_rate_is_seen_whatever_the_window_and_the_scrapes(length: int, every: int, random: Any) -> None:
    scrapes = [scraped(at, arrivals=2.0 * at) for at in range(60, 760, every)]
    random.shuffle(scrapes)

    assert seen({"activator": scrapes}, "arrivals", end=100.0 + length) == pytest.approx(2)


ANY = st.floats(allow_nan=True, allow_infinity=True)
TOLD = st.dictionaries(st.sampled_from(sorted({name for metric in METRICS for name in metric.reads})), ANY, max_size=4)
BUCKETS = st.dictionaries(st.floats(0, 10) | st.just(math.inf), ANY, max_size=3)
SCRAPES = st.builds(
    Scrape,
    at=st.floats(0, 300),
    started=st.none() | st.floats(0, 300),
    gauges=TOLD,
    counters=TOLD,
    histograms=st.dictionaries(st.sampled_from(["time_to_first_token_seconds", "x"]), BUCKETS, max_size=1),
)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(SCRAPES, max_size=4), max_size=3))
def test_torn_and_absurd_scrapes_give_finite_values_of_at_least_zero_or_none(scrapes: dict[str, list[Scrape]]) -> None:
    values = observe(scrapes, 100, 160).values

    assert all(value is None or (value >= 0 and math.isfinite(value)) for value in values)


def test_a_window_has_a_length() -> None:
    with pytest.raises(ValueError, match="after 100"):
        observe({}, 100, 100)
