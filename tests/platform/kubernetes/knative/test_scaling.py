"""The contract of an autoscaler class, trap by trap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.platform.kubernetes.kinds import condition
from pilotlight.platform.kubernetes.knative.scaling import (
    BUFFER_SECONDS,
    RETRY_SECONDS,
    View,
    Wanted,
    Writes,
    decide,
    serverless_service,
)
from pilotlight.platform.kubernetes.status import timestamp

NOW = 1_790_000_000.0
DEADLINE = 1800.0
CONDITIONS = ("Active", "SKSReady", "ScaleTargetInitialized")


def autoscaler(initial: str = "0", generation: int = 1, reachability: str = "", **status: Any) -> dict[str, Any]:
    """As Knative makes it for a Revision."""
    return {
        "metadata": {
            "namespace": "team",
            "name": "chat-00001",
            "uid": "u-autoscaler",
            "generation": generation,
            "labels": {"serving.knative.dev/revision": "chat-00001", "pilotlight.dev/function": "chat"},
            "annotations": {
                "autoscaling.knative.dev/class": "pilotlight.dev",
                "autoscaling.knative.dev/metric": "",
                "autoscaling.knative.dev/initial-scale": initial,
                "serving.knative.dev/progress-deadline": "1800s",
            },
        },
        "spec": {
            "protocolType": "http1",
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-00001-deployment"},
            **({"reachability": reachability} if reachability else {}),
        },
        **({"status": status} if status else {}),
    }


def serverless(ready: str = "True", **spec: Any) -> dict[str, Any]:
    """As Knative has it after it was made."""
    found = serverless_service(autoscaler())
    return {
        **found,
        "metadata": {**found["metadata"], "generation": 1},
        "spec": {**found["spec"], **spec},
        "status": {
            "observedGeneration": 1,
            "serviceName": "chat-00001",
            "privateServiceName": "chat-00001-private",
            "conditions": [{"type": "Ready", "status": ready, "message": "activator endpoints are not populated"}],
        },
    }


def view(**changes: Any) -> View:
    base = View(autoscaler(), serverless(), 0, 0, Wanted(0), NOW)
    return replace(base, **changes)


def after(before: View, writes: Writes) -> View:
    """As the API server has it then."""
    found = dict(before.autoscaler)
    if writes.status is not None:
        found["status"] = {**found.get("status", {}), **writes.status}
    service = before.service
    if writes.create is not None:
        service = {**writes.create, "metadata": {**writes.create["metadata"], "generation": 1}}
    if writes.service is not None and service is not None:
        service = {**service, "spec": {**service["spec"], **writes.service["spec"]}}
    replicas = before.replicas if writes.replicas is None else writes.replicas
    return replace(before, autoscaler=found, service=service, replicas=replicas)


def settled(before: View) -> View:
    return after(before, decide(before))


def status_of(found: View, type_: str) -> tuple[str, str]:
    each = condition(found.autoscaler, type_)
    return each["status"], each.get("reason", "")


def later(before: View, seconds: float, **changes: Any) -> View:
    return settled(replace(before, now=before.now + seconds, **changes))


# The way from and to zero


def test_a_new_revision_gets_a_service_in_mode_proxy_with_the_labels_that_its_activator_looks_for() -> None:
    made = decide(view(service=None)).create

    assert made is not None
    assert made["spec"] == {
        "mode": "Proxy",
        "objectRef": autoscaler()["spec"]["scaleTargetRef"],
        "protocolType": "http1",
        "numActivators": 2,
    }
    assert made["metadata"]["labels"] == autoscaler()["metadata"]["labels"]
    assert "autoscaling.knative.dev/metric" not in made["metadata"]["annotations"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u-autoscaler"


@pytest.mark.parametrize("service", [None, {**serverless(), "status": {}}])
def test_before_a_service_has_a_name_the_revision_is_not_called_inactive(service: Any) -> None:
    """Knative would fail it for good: initial scale was never achieved."""
    found = settled(view(service=service))

    assert status_of(found, "Active") == ("Unknown", "Queued")
    assert status_of(found, "ScaleTargetInitialized")[0] == "Unknown"
    assert status_of(found, "SKSReady") == ("Unknown", "NotReady")
    assert found.autoscaler["status"]["serviceName"] == ""  # the schema wants it


def test_at_zero_names_initialised_and_inactive_come_in_one_write() -> None:
    status = decide(view()).status

    assert status is not None
    states = {each["type"]: (each["status"], each.get("reason", "")) for each in status["conditions"]}
    assert states == {
        "Active": ("False", "NoTraffic"),
        "Ready": ("False", "NoTraffic"),
        "SKSReady": ("True", ""),
        "ScaleTargetInitialized": ("True", ""),
    }
    assert (status["serviceName"], status["metricsServiceName"]) == ("chat-00001", "chat-00001-private")
    assert (status["desiredScale"], status["actualScale"], status["observedGeneration"]) == (0, 0, 1)


def test_a_revision_is_active_when_it_serves_and_queued_until_then() -> None:
    zero = settled(view())
    waking = later(zero, 10, wanted=Wanted(2))
    one = later(waking, 10, ready=1)
    asleep = later(one, 10, wanted=Wanted(0))

    assert (waking.replicas, asleep.replicas) == (2, 0)
    assert [status_of(found, "Active") for found in (zero, waking, one, asleep)] == [
        ("False", "NoTraffic"),
        ("Unknown", "Queued"),
        ("True", ""),
        ("False", "NoTraffic"),
    ]
    assert all(status_of(found, "ScaleTargetInitialized")[0] == "True" for found in (zero, waking, one, asleep))


def test_a_replica_is_asked_for_before_there_is_a_service() -> None:
    assert decide(view(service=None, wanted=Wanted(1))).replicas == 1


@pytest.mark.parametrize(("ready", "active"), [(0, "Unknown"), (1, "Unknown"), (2, "True"), (3, "True")])
def test_with_a_minimum_a_revision_is_active_when_so_many_are_ready(ready: int, active: str) -> None:
    found = settled(view(wanted=Wanted(2, minimum=2), replicas=2, ready=ready))

    assert status_of(found, "Active")[0] == active


def test_where_no_traffic_goes_a_minimum_does_not_count() -> None:
    found = settled(view(autoscaler=autoscaler(reachability="Unreachable"), wanted=Wanted(2, 2), replicas=2, ready=1))

    assert status_of(found, "Active")[0] == "True"


def test_an_initial_scale_is_reached_before_anything_else() -> None:
    first = settled(view(autoscaler=autoscaler(initial="2")))
    one = later(first, 1, ready=1)
    two = later(one, 1, ready=2)

    assert (first.replicas, one.replicas, two.replicas) == (2, 2, 0)
    assert [status_of(found, "Active") for found in (first, one, two)] == [
        ("Unknown", "Queued"),
        ("Unknown", "Queued"),
        ("False", "NoTraffic"),
    ]


def test_a_count_that_nobody_speaks_of_is_left_as_it_is() -> None:
    """A leader that has just started has not yet decided anything."""
    found = settled(view(wanted=None, replicas=3, ready=3))

    assert found.replicas == 3
    assert status_of(found, "Active")[0] == "True"
    assert found.autoscaler["status"]["desiredScale"] == 3


# Conditions


def test_a_transitions_time_moves_only_with_the_status() -> None:
    zero = settled(view())
    waking = later(zero, 60, wanted=Wanted(1))
    still = later(waking, 60, service=serverless(ready="Unknown"))

    times = [condition(found.autoscaler, "Active")["lastTransitionTime"] for found in (zero, waking, still)]
    assert times == [timestamp(NOW), timestamp(NOW + 60), timestamp(NOW + 60)]
    assert condition(still.autoscaler, "SKSReady")["lastTransitionTime"] == timestamp(NOW + 120)
    assert condition(still.autoscaler, "ScaleTargetInitialized")["lastTransitionTime"] == timestamp(NOW)


def test_a_new_generation_is_observed() -> None:
    before = settled(view())
    found = dict(before.autoscaler)
    found["metadata"] = {**found["metadata"], "generation": 2}

    status = decide(replace(before, autoscaler=found)).status

    assert status is not None
    assert status["observedGeneration"] == 2


def test_a_service_that_has_not_seen_its_last_change_is_not_ready() -> None:
    service = serverless()
    service["status"]["observedGeneration"] = 0

    assert status_of(settled(view(service=service)), "SKSReady") == ("Unknown", "NotReady")


def test_what_a_services_owner_says_against_it_is_handed_on() -> None:
    found = settled(view(service=serverless(ready="Unknown")))

    assert condition(found.autoscaler, "Ready")["status"] == "False"  # inactive goes before not yet ready
    assert condition(found.autoscaler, "SKSReady")["message"] == "activator endpoints are not populated"


def test_annotations_that_knative_deletes_are_not_missed() -> None:
    waking = settled(view(wanted=Wanted(1)))
    found = dict(waking.autoscaler)
    kept = ("serving.knative.dev/progress-deadline", "autoscaling.knative.dev/class")
    annotations = {name: text for name, text in found["metadata"]["annotations"].items() if name in kept}
    found["metadata"] = {**found["metadata"], "annotations": annotations}

    assert decide(replace(waking, autoscaler=found)) == decide(waking)


# The progress deadline


def test_a_start_that_takes_longer_than_the_deadline_is_ended_and_tried_again_later() -> None:
    waking = settled(view(wanted=Wanted(1)))
    in_time = later(waking, DEADLINE + BUFFER_SECONDS)
    too_late = later(in_time, 1)
    later_still = later(too_late, RETRY_SECONDS - 1)
    again = later(later_still, 1)

    found = (in_time, too_late, later_still, again)
    assert [each.replicas for each in found] == [1, 0, 0, 1]
    assert [status_of(each, "Active") for each in found] == [
        ("Unknown", "Queued"),
        ("False", "TimedOut"),
        ("False", "TimedOut"),
        ("Unknown", "Queued"),
    ]


def test_one_that_timed_out_is_just_inactive_when_nobody_wants_it_any_more_and_can_be_woken_at_once() -> None:
    waking = settled(view(wanted=Wanted(1)))
    timed_out = later(waking, DEADLINE + BUFFER_SECONDS + 1)
    unwanted = later(timed_out, 1, wanted=Wanted(0))
    woken = later(unwanted, 1, wanted=Wanted(1))

    assert status_of(timed_out, "Active") == ("False", "TimedOut")
    assert status_of(unwanted, "Active") == ("False", "NoTraffic")
    assert woken.replicas == 1


def test_a_replica_that_serves_is_not_ended_because_another_does_not_start() -> None:
    started = settled(view(wanted=Wanted(2, minimum=2), replicas=2, ready=1))
    found = later(started, 2 * DEADLINE)

    assert found.replicas == 2
    assert status_of(found, "Active") == ("Unknown", "Queued")


@pytest.mark.parametrize(("elapsed", "again"), [(0.0, 1831.0), (1800.0, 31.0), (1830.0, 1.0)])
def test_it_asks_to_look_again_when_the_deadline_is_due(elapsed: float, again: float) -> None:
    waking = settled(view(wanted=Wanted(1)))

    assert decide(replace(waking, now=NOW + elapsed)).again_seconds == again


def test_at_rest_it_need_not_look_again() -> None:
    assert decide(settled(view())) == Writes()


# Others


def test_a_foreign_edit_is_healed() -> None:
    rest = settled(view(wanted=Wanted(1), replicas=1, ready=1))
    found = dict(rest.autoscaler)
    found["status"] = {**found["status"], "desiredScale": 7, "conditions": []}
    edited = replace(rest, autoscaler=found, service=serverless(mode="Serve"), replicas=5)

    healed = settled(edited)

    assert healed.replicas == 1
    assert healed.service is not None
    assert healed.service["spec"]["mode"] == "Proxy"
    assert healed.autoscaler["status"]["desiredScale"] == 1
    assert status_of(healed, "Ready") == ("True", "")


def test_a_namesake_that_another_owns_is_waited_out() -> None:
    other = serverless(mode="Serve")
    other["metadata"]["ownerReferences"] = [{"uid": "u-of-a-deleted-one"}]

    writes = decide(view(service=other))

    assert (writes.create, writes.service) == (None, None)
    assert status_of(after(view(), writes), "SKSReady") == ("Unknown", "NotOwned")


def test_without_a_deployment_nothing_is_scaled() -> None:
    assert decide(view(replicas=None, wanted=Wanted(1))).replicas is None


# Laws

STATUSES = st.sampled_from(["True", "False", "Unknown"])
BEFORE = st.lists(
    st.builds(
        lambda type_, status, reason, ago: {
            "type": type_,
            "status": status,
            "lastTransitionTime": timestamp(NOW - ago),
            **({"reason": reason} if reason else {}),
        },
        st.sampled_from([*CONDITIONS, "Ready", "Foreign"]),
        STATUSES,
        st.sampled_from(["", "Queued", "NoTraffic", "TimedOut"]),
        st.integers(-10, 5000),
    ),
    unique_by=lambda each: each["type"],
)
AUTOSCALERS = st.builds(
    autoscaler,
    initial=st.sampled_from(["0", "1", "3", "many"]),
    generation=st.integers(1, 3),
    reachability=st.sampled_from(["", "Reachable", "Unreachable"]),
    conditions=BEFORE,
    observedGeneration=st.integers(0, 3),
    serviceName=st.sampled_from(["", "chat-00001"]),
)
SERVICES = st.one_of(
    st.none(), st.builds(serverless, ready=STATUSES, mode=st.sampled_from(["Proxy", "Serve"])), st.just(serverless())
)
VIEWS = st.builds(
    View,
    autoscaler=AUTOSCALERS,
    service=SERVICES,
    replicas=st.one_of(st.none(), st.integers(0, 4)),
    ready=st.integers(0, 4),
    wanted=st.one_of(st.none(), st.builds(Wanted, st.integers(0, 4), st.integers(0, 4))),
    now=st.just(NOW),
)


def states(found: Mapping[str, Any]) -> dict[str, str]:
    return {each["type"]: each["status"] for each in found["status"]["conditions"]}


@given(VIEWS)
def test_deciding_again_after_its_own_writes_gives_none(before: View) -> None:
    assert replace(decide(settled(before)), again_seconds=None) == Writes()


@given(VIEWS)
def test_ready_is_what_its_parts_are(before: View) -> None:
    found = states(settled(before).autoscaler)
    parts = [found[name] for name in CONDITIONS]

    assert found.keys() == {*CONDITIONS, "Ready"}
    assert found["Ready"] == ("False" if "False" in parts else "Unknown" if "Unknown" in parts else "True")


@given(VIEWS)
def test_a_revision_is_never_inactive_before_it_is_initialised(before: View) -> None:
    found = states(settled(before).autoscaler)

    assert found["Active"] != "False" or found["ScaleTargetInitialized"] == "True"


@given(VIEWS)
def test_what_is_initialised_stays_so(before: View) -> None:
    if condition(before.autoscaler, "ScaleTargetInitialized").get("status") == "True":
        assert states(settled(before).autoscaler)["ScaleTargetInitialized"] == "True"


@given(VIEWS)
def test_only_a_revision_with_replicas_is_active(before: View) -> None:
    found = settled(before)

    if states(found.autoscaler)["Active"] == "True":
        assert found.ready > 0
    if states(found.autoscaler)["Active"] == "False":
        assert found.replicas in (0, None)
