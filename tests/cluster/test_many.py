"""Many functions at once, and many callers of one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.cluster.conftest import Cluster, wait_for
from tests.cluster.traffic import burst, system_pods, used

from pilotlight.platform.kubernetes.pods import address

FUNCTIONS = 30
AWAKE = 10
"""So many are called at once: all pods share two processors, and each needs some of them to start."""
CALLERS = 1000
MEAN_TOKENS = 8
SMALL = {"resources": {"cpu": 0.01, "memory": "192Mi"}, "scale": {"max": 1, "keepAlive": "5s"}}


@pytest.mark.timeout(300)
def test_thirty_functions_at_once_become_ready_and_answer_from_zero(cluster: Cluster, namespace: str) -> None:
    names = [f"f{number:02}" for number in range(FUNCTIONS)]
    with ThreadPoolExecutor(FUNCTIONS) as threads:
        list(threads.map(lambda name: cluster.function(namespace, name, **SMALL), names))
        for name in names:
            cluster.until_ready(namespace, name)
    assert cluster.pods(namespace) == []

    told = burst(cluster, *(f"{namespace}/{name}" for name in names[:AWAKE]), requests=AWAKE)

    assert (told["answered"], told["told"], told["broken"]) == (AWAKE, {}, {})
    wait_for(lambda: not cluster.pods(namespace), "all are at zero again", 120)


@pytest.mark.timeout(300)
def test_a_thousand_held_requests_over_two_activators_are_all_answered_and_counted(
    cluster: Cluster, namespace: str
) -> None:
    engine = {"kind": "simulated", "simulated": {"loadSeconds": 10, "meanTokens": MEAN_TOKENS}}
    cluster.function(namespace, "chat", engine=engine, scale={"max": 1, "keepAlive": "30s"})
    cluster.until_ready(namespace, "chat")
    activators = [address(pod).rpartition(":")[0] for pod in system_pods(cluster, "activator")]
    urls = tuple(f"{url}:8080" for url in activators)
    assert len(urls) == 2

    told = burst(cluster, f"{namespace}/chat", requests=CALLERS, urls=urls)

    assert (told["answered"], told["told"], told["broken"]) == (CALLERS, {}, {})
    assert told["tokens"] > 0

    def counted() -> tuple[int, int]:
        row = used(cluster, f"{namespace}/chat")
        return row["requests"], row["completion_tokens"]

    # A request is in the ledger from its admission, its tokens half a second after its end.
    wait_for(lambda: counted() == (CALLERS, told["tokens"]), "the ledger has every request and token", 60)
