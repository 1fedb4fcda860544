"""A comparison's figures, as JSON and for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotlight.platform.simulate.measuring import Outcome
from pilotlight.platform.simulate.scenario import Scenario


def figures(outcome: Outcome) -> dict[str, Any]:
    """One policy's; seconds, shares from 0 to 1, and cold starts per 1,000 requests."""
    return {
        "slo_attainment": outcome.slo_attainment,
        "slo_by_class": dict(outcome.by_class),
        "cold_per_1000": outcome.cold_per_1000,
        "cold_requests_per_1000": outcome.cold_requests_per_1000,
        "replica_seconds": outcome.replica_seconds,
        "serving_seconds": outcome.serving_seconds,
        "starting_seconds": outcome.starting_seconds,
        "idle_seconds": outcome.idle_seconds,
        **{f"wait_p{percentile}_s": seconds for percentile, seconds in outcome.wait_s.items()},
        **{f"ttft_p{percentile}_s": seconds for percentile, seconds in outcome.ttft_s.items()},
        "starts": outcome.starts,
        "evictions": outcome.evictions,
    }


def report(outcomes: Mapping[str, Outcome], scenario: Scenario) -> dict[str, Any]:
    """All of a comparison; pre: at least one policy, all on the same requests."""
    first = next(iter(outcomes.values()))
    return {
        "requests": first.requests,
        "scenario": {
            "slots": scenario.slots,
            "most_replicas": scenario.most,
            "fleet": scenario.fleet,
            "start_seconds": dict(scenario.start),
            "start_spread": scenario.spread,
            "seed": scenario.seed,
            "slo": {
                name: {key: value for key, value in vars(target).items() if value != float("inf")}
                for name, target in scenario.targets.items()
            },
        },
        "policies": {name: figures(outcome) for name, outcome in outcomes.items()},
    }
