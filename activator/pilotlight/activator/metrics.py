"""The activator's Prometheus metrics, in a registry of their own that the host mounts at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pilotlight.activator.values import Demand, FunctionId, Usage

_HOLD_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600)
_TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


class Metrics:
    """Labels are functions and outcomes only: both sets are bounded, keys and requests are not."""

    def __init__(self, demand: Callable[[], Mapping[FunctionId, Demand]]) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "pilotlight_activator_requests",
            "Requests that ended, by outcome.",
            ["function", "outcome"],
            registry=self.registry,
        )
        self._tokens = Counter(
            "pilotlight_activator_tokens",
            "Tokens metered, by kind: prompt, cached (of the prompt), completion.",
            ["function", "kind"],
            registry=self.registry,
        )
        self._hold = Histogram(
            "pilotlight_activator_hold_seconds",
            "Wait of a request until it got its slot.",
            ["function"],
            buckets=_HOLD_BUCKETS,
            registry=self.registry,
        )
        self._ttft = Histogram(
            "pilotlight_activator_time_to_first_token_seconds",
            "From admission to the first token.",
            ["function"],
            buckets=_TTFT_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(_Demands(demand))

    def ended(self, usage: Usage) -> None:
        function = str(usage.function)
        self._requests.labels(function, usage.outcome).inc()
        for kind, tokens in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
        ):
            if tokens:
                self._tokens.labels(function, kind).inc(tokens)
        if usage.ttft_seconds is not None:
            self._ttft.labels(function).observe(usage.ttft_seconds)

    def held(self, function: FunctionId, seconds: float) -> None:
        self._hold.labels(str(function)).observe(seconds)


class _Demands(Collector):
    """Queued and in flight, read when scraped."""

    def __init__(self, demand: Callable[[], Mapping[FunctionId, Demand]]) -> None:
        self._demand = demand

    def collect(self) -> Iterable[GaugeMetricFamily]:
        queued = GaugeMetricFamily("pilotlight_activator_queued", "Requests that wait.", labels=["function"])
        in_flight = GaugeMetricFamily("pilotlight_activator_in_flight", "Requests on replicas.", labels=["function"])
        for function, demand in self._demand().items():
            queued.add_metric([str(function)], demand.queued)
            in_flight.add_metric([str(function)], demand.in_flight)
        return queued, in_flight
