"""What a pod says of the replica in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pilotlight.platform.kubernetes.pods import failure_of, lacks_secret, overdue, status_of
from pilotlight.runtime.spec import EngineCounters, Phase, PhaseReport, ReplicaState, ReplicaStatus

CREATED = "2026-01-01T00:00:00Z"
T0 = 1767225600.0
PATIENCE = 60.0


def pod(ready: bool = False, ip: str = "10.0.0.7", leaves: bool = False, **status: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready)}, *status.pop("conditions", [])]
    metadata = {"name": "chat-00001-abc", "namespace": "team-a", "creationTimestamp": CREATED}
    if leaves:
        metadata["deletionTimestamp"] = CREATED
    return {"metadata": metadata, "status": {"podIP": ip, "conditions": conditions, **status}}


def container(**state: Any) -> list[dict[str, Any]]:
    return [{"name": "user-container", "image": "x/y:1", "state": state, "lastState": state.pop("last", {})}]


LOST = {
    "exitCode": 137,
    "reason": "ContainerStatusUnknown",
    "message": "The container could not be located when the pod was terminated",
}


def said(state: ReplicaState, *phases: PhaseReport) -> ReplicaStatus:
    return ReplicaStatus("whoever", "chat-00001", state, phases)


def test_a_pod_is_ready_when_its_supervisor_says_so_before_kubernetes_does() -> None:
    assert status_of(pod(), None, PATIENCE, T0).state is ReplicaState.STARTING
    early = status_of(pod(), said(ReplicaState.READY), PATIENCE, T0)
    assert (early.state, early.endpoint) == (ReplicaState.READY, "http://10.0.0.7:8012")
    assert status_of(pod(ready=True), None, PATIENCE, T0).state is ReplicaState.READY


def test_one_that_was_told_to_end_takes_no_work() -> None:
    assert status_of(pod(ready=True, leaves=True), None, PATIENCE, T0).state is ReplicaState.DRAINING


def test_what_the_engine_counts_is_passed_on() -> None:
    counters = EngineCounters(7.0, 3, 12)
    told = replace(said(ReplicaState.READY), counters=counters)

    assert status_of(pod(), told, PATIENCE, T0).counters == counters
    assert status_of(pod(), None, PATIENCE, T0).counters is None


def test_the_phase_schedule_ends_where_the_supervisors_first_one_begins() -> None:
    phases = (PhaseReport(Phase.SCHEDULE, T0 + 1.9, T0 + 2.0), PhaseReport(Phase.FETCH, T0 + 2.0, progress=0.5))

    status = status_of(pod(), said(ReplicaState.STARTING, *phases), PATIENCE, T0 + 3.0)

    assert status.phases[0] == PhaseReport(Phase.SCHEDULE, T0, T0 + 2.0)
    assert status.phases[1:] == phases[1:]


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (LOST, ""),
        ({"exitCode": 143, "reason": "Error"}, ""),
        (
            {"exitCode": 1, "reason": "Error", "message": "the model could not be fetched"},
            "the model could not be fetched",
        ),
    ],
)
def test_one_that_was_told_to_end_has_failed_only_by_its_own_word(ended: dict[str, Any], words: str) -> None:
    told = pod(leaves=True, phase="Failed", containerStatuses=container(terminated=ended))
    assert failure_of(told, PATIENCE, T0) == words
    assert status_of(told, None, PATIENCE, T0).state is (ReplicaState.FAILED if words else ReplicaState.DRAINING)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."}, "low on memory"),
        (
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": "The node was low on memory.",
                "containerStatuses": container(terminated={"exitCode": 137, "reason": "Error"}),
            },
            "low on memory",
        ),
        (
            {
                "phase": "Failed",
                "reason": "NodeAffinity",
                "containerStatuses": container(terminated={"exitCode": 1, "message": "no such digest"}),
            },
            "no such digest",
        ),
        ({"phase": "Failed", "reason": "NodeLost"}, "NodeLost"),
        ({"phase": "Failed"}, "the pod failed"),
        (
            {"containerStatuses": container(waiting={"reason": "ImagePullBackOff", "message": "no such image"})},
            "no such",
        ),
        ({"containerStatuses": container(waiting={"reason": "ErrImageNeverPull"})}, "x/y:1"),
        ({"containerStatuses": container(terminated={"exitCode": 1, "message": "the digest is wrong"})}, "the digest"),
        (
            {
                "phase": "Failed",
                "containerStatuses": container(terminated={"exitCode": 1, "message": "no such digest"}),
            },
            "no such digest",
        ),
        ({"containerStatuses": container(terminated={"exitCode": 137, "reason": "OOMKilled"})}, "resources.memory"),
        (
            {
                "containerStatuses": container(
                    waiting={"reason": "CrashLoopBackOff"}, last={"terminated": {"exitCode": 1, "message": "no bucket"}}
                )
            },
            "no bucket",
        ),
    ],
)
def test_what_does_not_go_away_by_waiting_is_a_failure_in_words(status: dict[str, Any], words: str) -> None:
    found = status_of(pod(**status), None, PATIENCE, T0)

    assert found.state is ReplicaState.FAILED
    assert words in found.message


@pytest.mark.parametrize(
    "status",
    [
        {"containerStatuses": container(waiting={"reason": "ContainerCreating"})},
        {"containerStatuses": container(running={"startedAt": CREATED})},
        {"containerStatuses": container(terminated={"exitCode": 0})},
        {},
    ],
)
def test_what_is_under_way_is_no_failure(status: dict[str, Any]) -> None:
    assert failure_of(pod(**status), PATIENCE, T0) == ""


@pytest.mark.parametrize(("secret", "heals"), [("chat-00001-pilotlight", True), ("of-users", False)])
def test_only_the_revisions_own_secret_is_waited_for(secret: str, heals: bool) -> None:
    waits = {"reason": "CreateContainerConfigError", "message": f'secret "{secret}" not found'}
    made = pod(containerStatuses=container(waiting=waits))
    made["metadata"]["labels"] = {"serving.knative.dev/revision": "chat-00001"}

    status = status_of(made, None, PATIENCE, T0)

    assert lacks_secret(made) is heals
    assert status.state is (ReplicaState.STARTING if heals else ReplicaState.FAILED)
    assert "written again" in status.message if heals else secret in status.message


def test_a_pod_without_a_node_fails_after_a_while_and_says_what_it_waits_for_until_then() -> None:
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    lost = pod(ip="", conditions=[{**condition, "lastTransitionTime": CREATED}])

    waiting = status_of(lost, None, PATIENCE, T0 + 59.0)
    failed = status_of(lost, None, PATIENCE, T0 + 60.0)

    assert (waiting.state, waiting.message, waiting.endpoint) == (ReplicaState.STARTING, message, "")
    assert failed.state is ReplicaState.FAILED
    assert message in failed.message


@pytest.mark.parametrize(
    ("leaves", "served", "seconds", "verdict"),
    [
        (False, False, 1e6, False),
        (True, False, 44.0, False),
        (True, False, 46.0, True),
        (True, True, 179.0, False),
        (True, True, 181.0, True),
    ],
)
def test_a_pod_that_does_not_hear_is_overdue_long_before_its_grace_period_ends(
    leaves: bool, served: bool, seconds: float, verdict: bool
) -> None:
    found = pod(leaves=leaves)
    found["metadata"]["deletionGracePeriodSeconds"] = 0

    assert overdue(found, served, drain_seconds=120.0, now=T0 + seconds) is verdict
