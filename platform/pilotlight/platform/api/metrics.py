"""The platform's own Prometheus metrics, beside the activator's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pilotlight.platform.control.state import Known


class _Fleet(Collector):
    """Replicas by function and state, memory by function; read when scraped."""

    def __init__(self, known: Callable[[], Known]) -> None:
        self._known = known

    def collect(self) -> Iterable[GaugeMetricFamily]:
        replicas = GaugeMetricFamily("pilotlight_replicas", "Replicas, by state.", labels=["function", "state"])
        memory = GaugeMetricFamily("pilotlight_replica_memory_bytes", "Memory they may use.", labels=["function"])
        counts: Counter[tuple[str, str]] = Counter()
        held: Counter[str] = Counter()
        for live in tuple(self._known().live.values()):
            name = str(live.record.function)
            counts[name, live.state().value] += 1
            held[name] += live.revision.template.memory_bytes
        for (name, state), count in counts.items():
            replicas.add_metric([name, state], count)
        for name, total in held.items():
            memory.add_metric([name], total)
        return replicas, memory


def registry(known: Callable[[], Known]) -> CollectorRegistry:
    found = CollectorRegistry()
    found.register(_Fleet(known))
    return found


def exposition(registries: Iterable[CollectorRegistry]) -> bytes:
    """All of them in Prometheus' text format."""
    return b"".join(generate_latest(one) for one in registries)
