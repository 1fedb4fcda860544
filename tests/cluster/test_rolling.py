"""Nobody notices that a part of the platform, or a function, is replaced by a newer one."""

from __future__ import annotations

import time

import pytest
from tests.cluster.conftest import SYSTEM, Cluster, wait_for
from tests.cluster.traffic import Steady, steady, system_pods

from pilotlight.platform.kubernetes.kinds import DEPLOYMENT, Object

TOGETHER = 12
ENGINE = {"kind": "simulated", "simulated": {"meanTokens": 60}}
SPEC = {"engine": ENGINE, "scale": {"max": 1, "keepAlive": "60s"}}
ANSWERS_AFTER = 100
"""So many more must follow: what goes wrong only after the change is seen as well."""


def restart(cluster: Cluster, component: str) -> None:
    """What `kubectl rollout restart` does; returns when the old ones take no more work and the new ones do."""
    old = {pod["metadata"]["name"] for pod in system_pods(cluster, component)}
    stamp = {"pilotlight.test/restarted": f"{time.time():.0f}"}
    body = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    cluster.api.patch(DEPLOYMENT, SYSTEM, f"pilotlight-{component}", body)

    def replaced() -> bool:
        names = {pod["metadata"]["name"] for pod in system_pods(cluster, component)}
        return len(names) == len(old) and not names & old

    wait_for(replaced, f"pilotlight-{component} is replaced", 120)


def assert_unnoticed(traffic: Steady) -> None:
    told = traffic.stop()
    assert (told["told"], told["broken"]) == ({}, {}), f"{told['answered']} were answered"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("component", ["operator", "activator"])
def test_a_rolling_update_of_the_platform_fails_no_request(cluster: Cluster, namespace: str, component: str) -> None:
    cluster.function(namespace, "chat", **SPEC)
    cluster.until_ready(namespace, "chat")

    with steady(cluster, f"{namespace}/chat", TOGETHER) as traffic:
        restart(cluster, component)
        traffic.more(ANSWERS_AFTER)
        assert_unnoticed(traffic)


@pytest.mark.timeout(240)
def test_a_new_revision_of_a_function_fails_no_request(cluster: Cluster, namespace: str) -> None:
    cluster.function(namespace, "chat", **SPEC)
    cluster.until_ready(namespace, "chat")

    with steady(cluster, f"{namespace}/chat", TOGETHER) as traffic:
        before = {pod["metadata"]["name"] for pod in cluster.pods(namespace, "chat")}
        cluster.function(namespace, "chat", **{**SPEC, "engine": {**ENGINE, "maxNumSeqs": 128}})

        def replaced() -> bool:
            pods = cluster.pods(namespace, "chat")
            return bool(pods) and all(is_new(pod) for pod in pods)

        def is_new(pod: Object) -> bool:
            return pod["metadata"]["name"] not in before

        wait_for(replaced, "only pods of the new revision are left", 150)
        traffic.more(ANSWERS_AFTER)
        assert_unnoticed(traffic)
