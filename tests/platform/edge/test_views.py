"""The activator's route of a function: which pods take new work, of which revisions, and what waits are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.platform.edge.conftest import CHAT, make_view, revision, slice_of

from pilotlight.activator.traffic import Address, HostRule, Split
from pilotlight.activator.values import Route
from pilotlight.platform.control.routes import start_progress
from pilotlight.platform.edge.views import Endpoint, View, endpoints, route_of
from pilotlight.platform.kubernetes.kinds import Key
from pilotlight.runtime.spec import Phase, PhaseReport, ReplicaState, ReplicaStatus

if TYPE_CHECKING:
    from tests.platform.edge.conftest import MakeView

NOW = 1000.0
OLD, NEW = "chat-00001", "chat-00002"
KEYS = {OLD: "key-1", NEW: "key-2"}
HALF = (Split(OLD, 50), Split(NEW, 50))
OWN = HostRule(("chat.team", "chat.team.svc"), HALF)
TAG = HostRule(("old-chat.team",), (Split(OLD, 100),))


def pod(name: str, ready: bool = True, leaving: bool = False) -> Endpoint:
    return Endpoint(name, "10.0.0.1", ready, leaving)


def routed(view: View, *said: ReplicaStatus) -> Route:
    return route_of(view, {each.replica: each for each in said}, KEYS, NOW)


def accepting(route: Route) -> dict[str, bool]:
    return {replica.id: replica.accepting for replica in route.replicas}


class TestOneRevision:
    def test_pods_are_sent_to_directly_with_the_key_of_their_revision(self, make_view: MakeView) -> None:
        [replica] = routed(make_view(revision(2), pods={NEW: [pod("a")]})).replicas

        assert (replica.url, replica.engine_key, replica.slots) == ("http://10.0.0.1:8012", "key-2", 2)

    @pytest.mark.parametrize(
        ("endpoint", "said", "verdict"),
        [
            (pod("a"), None, {"a": True}),
            (pod("a", leaving=True), None, {"a": False}),
            (pod("a", ready=False), None, {}),
            (pod("a", ready=False), ReplicaState.STARTING, {}),
            (pod("a", ready=False), ReplicaState.READY, {"a": True}),
        ],
    )
    def test_who_takes_work(
        self, make_view: MakeView, endpoint: Endpoint, said: ReplicaState | None, verdict: dict[str, bool]
    ) -> None:
        statuses = [ReplicaStatus("a", NEW, said)] if said else []

        assert accepting(routed(make_view(revision(2), pods={NEW: [endpoint]}), *statuses)) == verdict

    def test_one_that_the_operator_sends_off_takes_no_more(self, make_view: MakeView) -> None:
        view = make_view(revision(2), pods={NEW: [pod("a"), pod("b")]}, leaving=("a",))

        assert accepting(routed(view)) == {"a": False, "b": True}

    def test_an_old_revision_without_a_share_only_finishes(self, make_view: MakeView) -> None:
        view = make_view(revision(2), revision(1), pods={NEW: [pod("new")], OLD: [pod("old")]})

        assert accepting(routed(view)) == {"new": True, "old": False}

    def test_the_start_of_the_revision_that_takes_over_is_told(self, make_view: MakeView) -> None:
        view = make_view(revision(1), revision(2, eta={"load": 8.0}), pods={NEW: [pod("new", ready=False)]})

        start = routed(view).start

        assert start is not None
        assert start.eta_seconds == 8.0

    def test_a_failure_is_told_with_the_time_of_the_next_try(self, make_view: MakeView) -> None:
        route = routed(make_view(revision(2, failure="no memory", retry_at=NOW + 4)))

        assert (route.failure, route.retry_after_seconds) == ("no memory", 4.0)


class TestShares:
    def test_every_revision_with_a_share_takes_work(self, make_view: MakeView) -> None:
        pods = {NEW: [pod("new")], OLD: [pod("old")]}

        assert accepting(routed(make_view(revision(2), revision(1), pods=pods, hosts=(OWN,)))) == {
            "new": True,
            "old": True,
        }
        assert accepting(routed(make_view(revision(2), revision(1), pods=pods, hosts=(TAG,)))) == {
            "new": True,
            "old": True,
        }

    def test_each_has_its_own_facts(self, make_view: MakeView) -> None:
        older = revision(1, task="embed", adapters=("law",), failure="no memory", retry_at=NOW + 4)

        route = routed(make_view(revision(2), older, hosts=(OWN,))).of(OLD)

        assert (route.task, route.context, route.adapters) == ("embed", 100, ("law",))
        assert (route.failure, route.retry_after_seconds) == ("no memory", 4.0)

    def test_each_tells_of_its_own_start(self, make_view: MakeView) -> None:
        pods = {OLD: [pod("old", ready=False)], NEW: [pod("new")]}
        loads = ReplicaStatus("old", OLD, ReplicaState.STARTING, (PhaseReport(Phase.LOAD, NOW, progress=0.5),))

        route = routed(make_view(revision(2), revision(1, eta={"load": 8.0}), pods=pods, hosts=(OWN,)), loads)

        assert route.start is None
        start = route.of(OLD).start
        assert start is not None
        assert (start.phase, start.percent) == ("load", 50)

    def test_requests_without_a_host_are_split_as_those_of_the_functions_own(self, make_view: MakeView) -> None:
        route = routed(make_view(revision(2), revision(1), hosts=(OWN, TAG)))
        requests = [str(number) for number in range(100)]

        by_path = [route.revision_of(request) for request in requests]

        assert by_path == [route.revision_of(request, Address("chat.team")) for request in requests]
        assert set(by_path) == {OLD, NEW}
        assert {route.revision_of(request, Address("old-chat.team")) for request in requests} == {OLD}


class TestLeftToKnative:
    def test_requests_go_through_the_revisions_service(self, make_view: MakeView) -> None:
        [replica] = routed(make_view(revision(2, autoscaler="kpa"), pods={NEW: [pod("a")]})).replicas

        assert (replica.url, replica.via_service, replica.accepting) == (
            f"http://{NEW}.team.svc.cluster.local",
            True,
            True,
        )
        assert replica.slots > 1000

    def test_each_revision_goes_its_own_way(self, make_view: MakeView) -> None:
        pods = {OLD: [pod("old")]}
        route = routed(make_view(revision(2, autoscaler="kpa"), revision(1), pods=pods))

        assert {replica.id: replica.via_service for replica in route.replicas} == {NEW: True, "old": False}
        assert accepting(route) == {NEW: True, "old": False}


def test_pods_of_private_services_are_taken_once() -> None:
    address = {"addresses": ["10.0.0.1"], "targetRef": {"name": "a"}, "conditions": {"ready": True}}

    def part(kind: str) -> dict[str, object]:
        labels = {"serving.knative.dev/revision": NEW, "networking.internal.knative.dev/serviceType": kind}
        return {"metadata": {"namespace": CHAT.namespace, "labels": labels}, "endpoints": [address]}

    found = endpoints([part("Private"), part("Private"), part("Public")])

    assert found == {(CHAT.namespace, NEW): [pod("a")]}


@pytest.mark.parametrize(
    ("conditions", "ready", "leaving"),
    [
        ({"ready": True, "serving": True, "terminating": False}, True, False),
        ({"ready": False, "serving": False, "terminating": False}, False, False),
        ({"ready": False, "serving": True, "terminating": True}, False, True),
        ({}, True, False),
        (None, True, False),
    ],
)
def test_conditions_of_an_endpoint(conditions: dict[str, bool] | None, ready: bool, leaving: bool) -> None:
    [found] = endpoints([slice_with({"addresses": ["fd00::1"], "targetRef": {"name": "a"}, "conditions": conditions})])[
        Key(CHAT.namespace, NEW)
    ]

    assert found == Endpoint("a", "fd00::1", ready, leaving)


@pytest.mark.parametrize("raw", [{"addresses": ["10.0.0.1"]}, {"targetRef": {"name": "a"}, "addresses": []}])
def test_an_endpoint_without_pod_or_address_is_none(raw: dict[str, object]) -> None:
    assert endpoints([slice_with(raw)]) == {}


def slice_with(raw: dict[str, object]) -> dict[str, object]:
    return {**slice_of(CHAT, NEW, "a"), "endpoints": [raw]}


pods_of_any_kind = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.booleans(), st.sampled_from([None, *ReplicaState]), st.floats(0, 1)),
    max_size=6,
)


@given(pods_of_any_kind)
def test_work_goes_to_pods_that_are_ready_and_stay_and_the_nearest_start_is_told(
    given_pods: list[tuple[bool, bool, bool, ReplicaState | None, float]],
) -> None:
    pods = [pod(str(number), ready, leaving) for number, (ready, leaving, *_) in enumerate(given_pods)]
    sent_off = tuple(each.pod for each, (_, _, sent, *_) in zip(pods, given_pods, strict=True) if sent)
    said = [
        ReplicaStatus(each.pod, NEW, state, (PhaseReport(Phase.LOAD, NOW, progress=progress),))
        for each, (_, _, _, state, progress) in zip(pods, given_pods, strict=True)
        if state is not None
    ]
    states = {status.replica: status.state for status in said}
    view = make_view(revision(2, eta={"load": 8.0}), pods={NEW: pods}, leaving=sent_off)

    route = routed(view, *said)

    for each in pods:
        takes = (each.ready or states.get(each.pod) is ReplicaState.READY) and not each.leaving
        assert accepting(route).get(each.pod, False) == (takes and each.pod not in sent_off)
    waits = [
        each.pod
        for each in pods
        if not each.ready and not each.leaving and states.get(each.pod) is not ReplicaState.READY
    ]
    assert (route.start is not None) == bool(waits)
    if route.start is not None:
        heard = {status.replica: status for status in said}
        unheard = ReplicaStatus("", NEW, ReplicaState.STARTING)
        starts = [start_progress(heard.get(name, unheard), {"load": 8.0}, NOW) for name in waits]
        assert route.start == min(starts, key=lambda start: start.eta_seconds)
