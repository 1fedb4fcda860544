"""What an operator tells of itself, beside the fleet that it leads."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pilotlight.platform.link.hub import Hub

Families = Iterable[CounterMetricFamily | GaugeMetricFamily]


class _Operator(Collector):
    """Read when scraped."""

    def __init__(self, hub: Callable[[], Hub | None], calls: Callable[[], int]) -> None:
        self._hub = hub
        self._calls = calls

    def collect(self) -> Families:
        hub = self._hub()
        leads = GaugeMetricFamily("pilotlight_operator_leads", "1 while this operator leads.", hub is not None)
        calls = CounterMetricFamily("pilotlight_operator_api_calls", "Requests to the API server.", self._calls())
        ages = GaugeMetricFamily(
            "pilotlight_link_report_age_seconds", "Since an activator last reported.", labels=["activator"]
        )
        for name, seen in hub.activators().items() if hub is not None else ():
            ages.add_metric([name], seen.silent_seconds)
        return leads, calls, ages


def registry(hub: Callable[[], Hub | None], calls: Callable[[], int]) -> CollectorRegistry:
    """`hub`: of the leader, None while another one leads; `calls`: made to the API server so far."""
    found = CollectorRegistry()
    found.register(_Operator(hub, calls))
    return found
