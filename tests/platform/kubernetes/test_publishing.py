"""Statuses of Function objects: written when they differ, with what people and activators need to know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId, Replica, Route
from pilotlight.detector.values import BackOff, State
from pilotlight.platform.control.cluster import RevisionId
from pilotlight.platform.control.state import Known, Live, Memory
from pilotlight.platform.kubernetes.applying import Outcome
from pilotlight.platform.kubernetes.errors import UnreachableError
from pilotlight.platform.kubernetes.kinds import FUNCTION, Key, condition
from pilotlight.platform.kubernetes.publishing import Publisher, instead
from pilotlight.platform.kubernetes.status import GOOD, PENDING, Judgement, read_published
from pilotlight.platform.values import Desired, ReplicaRecord, Revision
from pilotlight.runtime.spec import ReplicaState, ReplicaStatus

if TYPE_CHECKING:
    from tests.platform.kubernetes.conftest import Holder, ScriptedApi

CHAT, CODE = FunctionId("team-a", "chat"), FunctionId("team-a", "code")
TEMPLATE = make_template(kind="vllm", context=100)


def revision_of(function: FunctionId) -> Revision:
    return Revision(function, f"{function.name}-00001", 1, 0.0, "engine-key", TEMPLATE)


def route_of(function: FunctionId, **changes: Any) -> Route:
    return replace(Route(function, f"{function.name}-00001", "generate", function.name, 100, None), **changes)


def ready_service(function: FunctionId) -> dict[str, Any]:
    metadata = {"namespace": function.namespace, "name": function.name, "generation": 1, "resourceVersion": "s1"}
    url = f"http://{function.name}.{function.namespace}.example"
    conditions = [{"type": "Ready", "status": "True"}]
    return {"metadata": metadata, "status": {"observedGeneration": 1, "url": url, "conditions": conditions}}


class Stage:
    """A publisher that runs, over what the test says there is."""

    def __init__(self, api: ScriptedApi, functions: Holder, services: Holder, clock: Any) -> None:
        self.api, self.functions, self.services, self.clock = api, functions, services, clock
        self.outcomes: dict[Key, Outcome] = {}
        self.known = Known()
        self.eta: dict[str, float] = {}
        self.problem = ""
        self.warnings: list[tuple[str, str]] = []
        self.publisher = self.new_leader()

    def new_leader(self) -> Publisher:
        stand_in: Any = self.api
        self.publisher = Publisher(
            stand_in, self.functions, self.services, self.outcomes.get, dict, self.clock, self.refused
        )
        self.publisher.watch(self.known, lambda *_: dict(self.eta), lambda *_: self.problem)
        return self.publisher

    def refused(self, function: Mapping[str, Any], verdict: Mapping[str, Any], _at: float) -> None:
        assert function["metadata"]["name"] == "chat"
        self.warnings.append((verdict["type"], verdict["message"]))

    def add(self, function: FunctionId) -> None:
        """A function that was applied and has no replica."""
        revision = revision_of(function)
        self.api.create(FUNCTION, {"metadata": {"namespace": function.namespace, "name": function.name}})
        self.known.revisions[function, revision.name] = revision
        self.known.memory[function] = Memory(State(0.0), revision.name)
        self.outcomes[Key(*function)] = Outcome("u", 1, GOOD, GOOD)
        self.services.put(ready_service(function))
        self.catch_up()

    def catch_up(self) -> None:
        for found in self.api.made(FUNCTION):
            self.functions.put(found)

    async def publish(self, *routes: Route) -> list[str]:
        """Names of the functions whose status was written."""
        self.catch_up()
        calls = len(self.api.calls)
        self.publisher.apply({route.function: route for route in routes})
        for _ in range(2):  # the second one before the mirror has what the first one wrote
            await self.publisher.reconcile()
        return [name for verb, _, name in self.api.calls[calls:] if verb == "patch"]

    def status(self, function: FunctionId = CHAT) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.api.get(FUNCTION, *function)["status"]
        return found

    def condition(self, name: str) -> tuple[str, str, str]:
        found = condition(self.api.get(FUNCTION, *CHAT), name)
        return found["status"], found["reason"], found["message"]


@pytest.fixture
def stage(api: ScriptedApi, holder: Callable[..., Holder], clock: Any) -> Iterator[Stage]:
    made = Stage(api, holder(), holder(), clock)
    made.add(CHAT)
    yield made
    made.publisher.close()


async def test_activators_are_told_the_cap_that_was_learned(stage: Stage) -> None:
    await stage.publish(route_of(CHAT))
    stage.known.caps[RevisionId(CHAT, "chat-00001")] = 3

    assert await stage.publish(route_of(CHAT)) == ["chat"]
    told = read_published(stage.api.get(FUNCTION, *CHAT))
    assert told is not None
    assert told.slots == 3


async def test_what_is_recommended_is_a_condition_that_readiness_does_not_depend_on(stage: Stage) -> None:
    said = ["engine.maxNumSeqs: 256 -> 40"]
    stage.publisher.watch(stage.known, lambda *_: {}, lambda *_: "", lambda _: "; ".join(said))
    await stage.publish(route_of(CHAT))
    during = stage.condition("Tuned"), stage.condition("Ready")[0]
    said.clear()
    await stage.publish(route_of(CHAT))

    assert during == (("False", "Recommended", "engine.maxNumSeqs: 256 -> 40"), "True")
    assert stage.condition("Tuned") == ("True", "AsRecommended", "")
    assert stage.warnings == []


async def test_a_status_says_where_and_how_a_function_is(stage: Stage) -> None:
    assert await stage.publish(route_of(CHAT)) == ["chat"]

    status = stage.status()
    assert status["url"] == "http://chat.team-a.example"
    assert (status["revision"], status["replicas"], status["readyReplicas"], status["message"]) == (
        "chat-00001",
        0,
        0,
        "",
    )
    assert [each["type"] for each in status["conditions"]] == ["Ready", "ModelVerified", "Sized", "Routed", "Tuned"]
    assert {each["status"] for each in status["conditions"]} == {"True"}
    told = read_published(stage.api.get(FUNCTION, *CHAT))
    assert told is not None
    assert (told.revision, told.slots, told.source) == ("chat-00001", 4, f"s3://models/tiny@{TEMPLATE.digest}")
    assert "engine-key" not in str(status)


async def test_what_has_not_changed_is_not_written_again(stage: Stage) -> None:
    await stage.publish(route_of(CHAT))

    assert await stage.publish(route_of(CHAT)) == []
    # What activators see for themselves is no news either.
    replica = Replica("p", "chat-00001", "http://10.0.0.1:8012", "key", 4)
    assert await stage.publish(route_of(CHAT, replicas=(replica,), retry_after_seconds=3.0)) == []


async def test_a_new_leader_writes_nothing_where_everything_is_said(stage: Stage) -> None:
    await stage.publish(route_of(CHAT))
    stage.clock.time += 3600.0

    stage.new_leader()

    assert await stage.publish(route_of(CHAT)) == []


async def test_a_foreign_edit_is_put_right(stage: Stage) -> None:
    await stage.publish(route_of(CHAT))
    stage.api.patch(FUNCTION, *CHAT, {"status": {"replicas": 77}}, "status")

    assert await stage.publish(route_of(CHAT)) == ["chat"]

    assert stage.status()["replicas"] == 0


async def test_a_transition_keeps_its_time_while_its_words_change(stage: Stage) -> None:
    stage.outcomes[Key(*CHAT)] = Outcome("u", 1, Judgement("False", "ModelNotFound", "no such model"))
    await stage.publish()
    since = condition(stage.api.get(FUNCTION, *CHAT), "ModelVerified")["lastTransitionTime"]
    stage.clock.time += 60.0
    stage.outcomes[Key(*CHAT)] = Outcome("u", 1, Judgement("False", "StoreUnavailable", "the store is away"))

    await stage.publish()

    verified = condition(stage.api.get(FUNCTION, *CHAT), "ModelVerified")
    assert (verified["message"], verified["lastTransitionTime"]) == ("the store is away", since)
    assert stage.condition("Ready") == ("False", "StoreUnavailable", "the store is away")
    assert stage.status()["message"] == "the store is away"


async def test_a_back_off_shows_why_and_when_the_next_try_is_due(stage: Stage) -> None:
    message = "the engine ran out of memory"
    stage.known.memory[CHAT].state = State(0.0, back_off=BackOff(2, stage.clock.now() + 40.0, message))

    await stage.publish(route_of(CHAT, failure=message, retry_after_seconds=40.0))

    assert stage.condition("Ready") == ("False", "StartFails", message)
    assert stage.status()["message"] == message
    told = stage.status()["route"]
    assert (told["failure"], told["retryAt"]) == (message, stage.clock.now() + 40.0)
    await stage.publish(route_of(CHAT))
    assert (stage.status()["route"]["failure"], stage.status()["route"]["retryAt"]) == ("", 0.0)


async def test_replicas_are_counted_and_those_that_leave_are_named(stage: Stage) -> None:
    revision = revision_of(CHAT)
    for name, state, desired in (
        ("p1", ReplicaState.READY, Desired.RUNNING),
        ("p2", ReplicaState.STARTING, Desired.RUNNING),
        ("p3", ReplicaState.READY, Desired.DRAINED),
    ):
        status = ReplicaStatus(name, revision.name, state, message="pulls its image" if name == "p2" else "")
        stage.known.live[name] = Live(ReplicaRecord(name, CHAT, revision.name, 0.0, desired), revision, status)

    await stage.publish(route_of(CHAT))

    shown = stage.status()
    assert (shown["replicas"], shown["readyReplicas"], shown["message"]) == (3, 1, "pulls its image")
    assert shown["route"]["leaving"] == ["p3"]


async def test_what_could_not_be_written_for_a_function_is_its_condition(stage: Stage) -> None:
    stage.problem = "exceeded quota"

    await stage.publish(route_of(CHAT))

    assert stage.condition("Routed") == ("False", "ObjectsRefused", "exceeded quota")


async def test_what_is_refused_is_told_once_for_each_reason_and_generation(stage: Stage) -> None:
    def judge(message: str, generation: int = 1) -> None:
        verdict = Judgement("False", "ModelNotFound", message)
        stage.outcomes[Key(*CHAT)] = Outcome("u", generation, verdict, PENDING)

    judge("no model tiny:v1")
    stage.problem = "exceeded quota"
    await stage.publish()
    assert stage.warnings == [("ModelVerified", "no model tiny:v1"), ("Routed", "exceeded quota")]
    stage.problem = ""
    stage.new_leader()
    await stage.publish()
    assert len(stage.warnings) == 2, "the next leader reads what was said"

    judge("no model tiny:v2")
    await stage.publish()
    judge("no model tiny:v2", generation=2)
    await stage.publish()
    assert stage.warnings[2:] == [("ModelVerified", "no model tiny:v2")] * 2
    stage.outcomes[Key(*CHAT)] = Outcome("u", 2, GOOD, GOOD)
    await stage.publish()
    assert len(stage.warnings) == 4


async def test_a_refusal_that_could_not_be_written_is_told_when_it_is(stage: Stage) -> None:
    stage.problem = "exceeded quota"
    stage.api.failing["patch"] = UnreachableError("PATCH", 0, "NoAnswer", "refused")
    await stage.publish()
    assert stage.warnings == []
    del stage.api.failing["patch"]
    await stage.publish()
    assert stage.warnings == [("Routed", "exceeded quota")]


async def test_phases_that_a_start_does_not_have_any_more_go(stage: Stage) -> None:
    stage.eta = {"fetch": 30.0, "load": 5.0}
    await stage.publish(route_of(CHAT))
    stage.eta = {"load": 4.0}
    await stage.publish(route_of(CHAT, queue_limit=7))

    assert stage.status()["route"]["eta"] == {"load": 4.0}
    assert stage.status()["route"]["maxHeld"] == 7
    assert await stage.publish(route_of(CHAT, queue_limit=7)) == []


async def test_one_that_cannot_be_told_does_not_keep_the_others_from_it(stage: Stage) -> None:
    stage.add(CODE)
    del stage.known.revisions[CHAT, "chat-00001"]

    assert await stage.publish(route_of(CHAT), route_of(CODE)) == ["code"]


async def test_what_the_server_did_not_take_is_written_the_next_time(stage: Stage) -> None:
    stage.api.failing["patch"] = UnreachableError("PATCH", 0, "NoAnswer", "refused")
    await stage.publish(route_of(CHAT))
    del stage.api.failing["patch"]

    assert await stage.publish(route_of(CHAT)) == ["chat"]


async def test_one_that_is_to_go_is_not_written_to(stage: Stage) -> None:
    stage.api.patch(FUNCTION, *CHAT, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})

    assert await stage.publish(route_of(CHAT)) == []


@pytest.mark.parametrize(
    ("there", "wanted", "patch"),
    [
        (None, {"a": 1}, {"a": 1}),
        ({"a": 1, "b": 2}, {"a": 3}, {"a": 3, "b": None}),
        ({"a": {"x": 1}}, {"a": {}}, {"a": {"x": None}}),
        ({"a": {"x": 1}}, {"a": [1]}, {"a": [1]}),
    ],
)
def test_a_patch_leaves_nothing_beside_what_is_wanted(there: Any, wanted: Any, patch: Any) -> None:
    assert instead(there, wanted) == patch


async def test_routes_are_published_as_soon_as_they_change(stage: Stage) -> None:
    task = asyncio.create_task(stage.publisher.run())
    stage.publisher.apply({CHAT: route_of(CHAT)})

    async with asyncio.timeout(60):
        while "status" not in stage.api.get(FUNCTION, *CHAT):  # noqa: ASYNC110 - the API server tells nobody
            await asyncio.sleep(0.005)

    task.cancel()
    assert stage.api.get(FUNCTION, *CHAT)["status"]["revision"] == route_of(CHAT).revision
