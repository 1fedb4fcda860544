"""Parts of the platform and of the cluster are lost, one at a time: what was accepted is answered, or told clearly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.conftest import LAST, Cluster, wait_for
from tests.cluster.traffic import burst, kill, steady, system_pods, unreachable, used

from pilotlight.platform.kubernetes.kinds import POD, labels_of
from pilotlight.platform.kubernetes.operator import LEADER_LABEL
from pilotlight.platform.kubernetes.pods import address

TOGETHER = 10
MEAN_TOKENS = 40
SIMULATED = {"kind": "simulated", "simulated": {"meanTokens": MEAN_TOKENS}}
KEPT = {"engine": SIMULATED, "scale": {"max": 1, "keepAlive": "120s"}}
STORE_SECONDS, DATABASE_SECONDS, API_SERVER_SECONDS = 20.0, 60.0, 60.0
MODEL = "s3://models/smollm2:v1"
REAL = {
    "model": MODEL,
    "engine": {"maxModelLen": 1024, "maxNumSeqs": 2},
    "resources": {"cpu": 0.4, "memory": "3500Mi"},
    "scale": {"max": 1, "keepAlive": "10s"},
}
API_SERVER_PID = "PILOTLIGHT_TEST_APISERVER_PID"


@pytest.fixture
def chat(cluster: Cluster, namespace: str) -> str:
    cluster.function(namespace, "chat", **KEPT)
    cluster.until_ready(namespace, "chat")
    return f"{namespace}/chat"


def leader(cluster: Cluster) -> str:
    """Its pod; empty: none leads."""
    leads = (pod for pod in system_pods(cluster, "operator") if labels_of(pod).get(LEADER_LABEL) == "true")
    return next((str(pod["metadata"]["name"]) for pod in leads), "")


def assert_unnoticed(told: Any) -> None:
    assert (told["told"], told["broken"]) == ({}, {}), f"{told['answered']} were answered"


def assert_counted(cluster: Cluster, function: str, told: Any) -> None:
    """Each answer is in the ledger once, and no token is missing."""

    def counted() -> tuple[int, int]:
        row = used(cluster, function)
        return row["requests"], row["completion_tokens"]

    wait_for(lambda: counted() == (told["answered"], told["tokens"]), "the ledger has every request and token", 90)


@pytest.mark.timeout(180)
def test_the_leader_is_lost_and_another_one_leads(cluster: Cluster, namespace: str, chat: str) -> None:
    with steady(cluster, chat, TOGETHER) as traffic:
        lost = leader(cluster)
        kill(cluster, lost)
        wait_for(lambda: leader(cluster) not in ("", lost), "another one leads", 60)
        cluster.function(namespace, "next", scale={"max": 1, "keepAlive": "10s"})
        cluster.until_ready(namespace, "next")
        assert burst(cluster, f"{namespace}/next", requests=1)["answered"] == 1
        told = traffic.stop()

    assert_unnoticed(told)
    assert_counted(cluster, chat, told)
    wait_for(lambda: len(system_pods(cluster, "operator")) == 2, "two operators again", 60)


@pytest.mark.timeout(180)
def test_an_activator_is_lost_and_only_its_own_streams_break(cluster: Cluster, chat: str) -> None:
    lost, stays = system_pods(cluster, "activator")
    url = f"{address(stays).rpartition(':')[0]}:8080"

    with steady(cluster, chat, TOGETHER, urls=(url,)) as others, steady(cluster, chat, TOGETHER) as through_service:
        kill(cluster, lost["metadata"]["name"])
        wait_for(
            lambda: len(pods := system_pods(cluster, "activator")) == 2 and lost["metadata"]["name"] not in str(pods),
            "two activators again",
            90,
        )
        others.more(50)
        assert_unnoticed(others.stop())
        through_service.more(50)
        told = through_service.stop()

    assert told["told"] == {}
    assert sum(told["broken"].values()) <= 2 * TOGETHER


@pytest.mark.timeout(180)
def test_a_pod_is_lost_in_the_middle_of_its_streams_which_are_told_and_the_next_ones_are_served(
    cluster: Cluster, namespace: str, chat: str
) -> None:
    with steady(cluster, chat, TOGETHER, max_tokens=2000) as traffic:
        [pod] = cluster.pods(namespace, "chat")
        cluster.api.delete(POD, namespace, pod["metadata"]["name"], grace_seconds=0)
        traffic.more(2 * TOGETHER)
        told = traffic.stop()

    assert told["broken"] == {}
    assert told["told"], "no stream was in the middle"
    assert all(error.startswith(("replica_lost", "502 replica_lost")) for error in told["told"]), told["told"]
    assert sum(told["told"].values()) <= 2 * TOGETHER


@pytest.mark.engine
@pytest.mark.timeout(400)
def test_the_model_store_is_away_while_a_replica_fetches_which_callers_are_told_and_it_heals(
    cluster: Cluster, namespace: str, smollm2: Path
) -> None:
    cluster.pilotlight("models", "push", str(smollm2), MODEL, seconds=600)
    cluster.function(namespace, "chat", **REAL)
    cluster.until_ready(namespace, "chat")

    with steady(cluster, f"{namespace}/chat", 2, wait=False) as traffic:
        with unreachable(cluster, "minio"):
            wait_for(lambda: cluster.pods(namespace, "chat"), "a pod starts", 60)
            time.sleep(STORE_SECONDS)  # that long is what is asked of it
        traffic.more(2, 300)
        told = traffic.stop()
    assert told["broken"] == {}
    # The fetch tries again for some seconds; whoever still waits then hears why, and the next start finds the store.
    assert all("the model could not be fetched" in reason for reason in told["told"]), told["told"]
    assert told["answered"] >= 2


@pytest.mark.timeout(240)
def test_the_database_is_away_and_no_request_fails_nor_is_uncounted(cluster: Cluster, chat: str) -> None:
    with steady(cluster, chat, TOGETHER) as traffic:
        with unreachable(cluster, "postgres"):
            time.sleep(DATABASE_SECONDS)  # that long is what is asked of it
            traffic.more(TOGETHER)
        traffic.more(TOGETHER)
        told = traffic.stop()

    assert_unnoticed(told)
    assert_counted(cluster, chat, told)


@LAST  # what else runs in the cluster takes a while to find itself again
@pytest.mark.timeout(400)
def test_the_api_server_is_away_and_what_runs_serves_on(cluster: Cluster, namespace: str, chat: str) -> None:
    pid = os.environ.get(API_SERVER_PID)
    if not pid:
        pytest.skip(f"{API_SERVER_PID} names no API server that may be stopped for a minute")
    with steady(cluster, chat, TOGETHER) as traffic:
        with stopped(int(pid)):
            time.sleep(API_SERVER_SECONDS)  # that long is what is asked of it
        traffic.more(TOGETHER)
        told = traffic.stop()

    assert_unnoticed(told)
    assert_counted(cluster, chat, told)
    wait_for(lambda: leader(cluster), "one leads", 90)
    cluster.function(namespace, "next", scale={"max": 1, "keepAlive": "5s"})
    cluster.until_ready(namespace, "next")
    assert burst(cluster, f"{namespace}/next", requests=1)["answered"] == 1
    cluster.until_zero(namespace, "next")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that answers nobody, with all its connections open: the worst way to be away."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
