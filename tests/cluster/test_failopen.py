"""Without an operator whoever calls a function at zero is still served."""

from __future__ import annotations

import pytest
from tests.cluster.conftest import Cluster, wait_for
from tests.cluster.traffic import burst, scaled_to

BOUND_SECONDS = 40.0
"""5 s until an activator acts by itself, then the pod's start on a machine that is shared with the tests."""


@pytest.mark.timeout(300)
def test_a_function_at_zero_wakes_without_an_operator_which_takes_it_over_when_it_is_back(
    cluster: Cluster, namespace: str
) -> None:
    cluster.function(namespace, "chat", scale={"max": 1, "keepAlive": "40s"})
    cluster.until_ready(namespace, "chat")

    with scaled_to(cluster, "operator", 0):
        told = burst(cluster, f"{namespace}/chat", requests=5)
        assert (told["answered"], told["told"], told["broken"]) == (5, {}, {})
        assert told["longest"] < BOUND_SECONDS
        [pod] = cluster.pods(namespace, "chat")

    wait_for(lambda: pod["metadata"]["name"] in cluster.pilotlight("get", "replicas"), "it is adopted", 60)
    assert [each["metadata"]["name"] for each in cluster.pods(namespace, "chat")] == [pod["metadata"]["name"]]
    cluster.until_zero(namespace, "chat")
