"""How far a Deployment is, from what the API server has of it and its pods."""

from __future__ import annotations

from typing import Any

from pilotlight.platform.install.rollout import rollout, selector
from pilotlight.platform.kubernetes.kinds import Object

NOW = 1_800_000_000.0


def deployment(replicas: int = 2, generation: int = 3, total: int = 0, **status: Any) -> Object:
    return {
        "metadata": {"name": "pilotlight-operator", "generation": generation},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a", "part": "b"}}},
        "status": {"observedGeneration": 3, "replicas": total, **status},
    }


def pod(**state: Any) -> Object:
    status = {"name": "operator", "ready": False, "image": "control:1", "state": state}
    return {
        "metadata": {"name": "pilotlight-operator-1", "creationTimestamp": "2027-01-15T08:00:00Z"},
        "status": {"phase": "Pending", "containerStatuses": [status]},
    }


def test_it_is_done_when_every_replica_is_new_and_available() -> None:
    seen = rollout(deployment(updatedReplicas=2, availableReplicas=2, total=2), [], NOW)
    assert seen.done
    assert str(seen) == "pilotlight-operator: available"


def test_old_replicas_that_are_still_there_count_as_not_done() -> None:
    assert not rollout(deployment(updatedReplicas=2, availableReplicas=2, total=3), [], NOW).done


def test_a_change_that_the_controller_has_not_seen_yet_is_not_done() -> None:
    assert not rollout(deployment(generation=4, updatedReplicas=2, availableReplicas=2, total=2), [], NOW).done


def test_none_wanted_is_done_at_once() -> None:
    assert rollout(deployment(replicas=0), [], NOW).done


def test_an_image_that_cannot_be_pulled_is_the_reason() -> None:
    seen = rollout(deployment(), [pod(waiting={"reason": "ErrImagePull", "message": "no such image"})], NOW)
    assert (seen.reason, seen.pod) == ("ErrImagePull: no such image", "pilotlight-operator-1")
    assert str(seen) == "pilotlight-operator: 0 of 2 available (ErrImagePull: no such image)"


def test_a_node_that_is_not_found_is_the_reason() -> None:
    waiting: Object = {
        "metadata": {"name": "p", "creationTimestamp": "2027-01-15T08:00:00Z"},
        "status": {
            "phase": "Pending",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "Insufficient cpu"}
            ],
        },
    }
    assert "Insufficient cpu" in rollout(deployment(), [waiting], NOW).reason


def test_pods_that_leave_are_not_asked() -> None:
    leaving = pod(waiting={"reason": "ErrImagePull", "message": "no such image"})
    gone = {**leaving, "metadata": {**leaving["metadata"], "deletionTimestamp": "2027-01-15T08:00:00Z"}}
    assert rollout(deployment(), [gone], NOW).reason == ""


def test_a_pod_that_the_cluster_refuses_to_make_is_the_reason() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity"}
    assert rollout(deployment(conditions=[refused]), [], NOW).reason == "violates PodSecurity"


def test_pods_are_found_by_the_deployments_labels() -> None:
    assert selector(deployment()) == "app=a,part=b"
