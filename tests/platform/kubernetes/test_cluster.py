"""Replicas as pods: which pod stands for which replica, what is said of those that are gone, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pilotlight.activator.values import FunctionId
from pilotlight.platform.control.cluster import RevisionId, Wanted
from pilotlight.platform.kubernetes.cluster import (
    ASKED_SECONDS,
    DELETION_COST,
    LEAVES_FIRST,
    KubernetesCluster,
    PodSettings,
)
from pilotlight.platform.kubernetes.errors import UnreachableError
from pilotlight.platform.kubernetes.kinds import POD
from pilotlight.platform.kubernetes.pods import QUEUE_PROXY_SECONDS, UNHEARD_SECONDS
from pilotlight.platform.values import Policy, ReplicaRecord
from pilotlight.runtime.spec import EngineSpec, ReplicaSpec, ReplicaState, ReplicaStatus

if TYPE_CHECKING:
    from tests.platform.kubernetes.conftest import Holder, ScriptedApi, Supervisor

CHAT = FunctionId("team-a", "chat")
CHAT_1, CHAT_2 = RevisionId(CHAT, "chat-00001"), RevisionId(CHAT, "chat-00002")
T0 = 1_790_000_000.0
PATIENCE, DRAIN = 60.0, 100.0


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(name: str, revision: str = "chat-00001", age: float = 0.0, ready: bool = False, **more: Any) -> dict[str, Any]:
    """`leaves`: seconds since it was told to end; `labels` and `status` are added to what it has."""
    labels = {"pilotlight.dev/function": "chat", "serving.knative.dev/revision": revision}
    metadata: dict[str, Any] = {
        "namespace": "team-a",
        "name": name,
        "labels": more.get("labels", labels),
        "creationTimestamp": stamp(T0 - age),
    }
    if (leaves := more.get("leaves")) is not None:
        metadata |= {"deletionTimestamp": stamp(T0 - leaves + 600), "deletionGracePeriodSeconds": 600}
    status = {"conditions": [{"type": "Ready", "status": str(ready)}], **more.get("status", {})}
    return {"metadata": metadata, "status": status}


BROKEN = {"containerStatuses": [{"name": "user-container", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}


def spec(replica: str, revision: str = "chat-00001") -> ReplicaSpec:
    engine = EngineSpec("simulated", {}, {}, "key")
    return ReplicaSpec(replica, "team-a/chat", revision, "generate", "s3://models", "sha256:0", ("chat",), engine)


def record(replica: str, revision: str = "chat-00001", age: float = 0.0) -> ReplicaRecord:
    return ReplicaRecord(replica, CHAT, revision, T0 - age)


class Scaler:
    """Implements `Scaler`; notes the counts among the calls of the API, to show their order."""

    def __init__(self, api: ScriptedApi) -> None:
        self._api = api
        self.looks = 0
        """That have begun: each asks when the next one is due."""
        self.told: list[Mapping[RevisionId, Wanted]] = []

    @property
    def again_seconds(self) -> float | None:
        self.looks += 1
        return None

    def reconcile(self, wanted: Mapping[RevisionId, Wanted]) -> None:
        self.told.append(wanted)
        self._api.calls.append(("scale", "", ""))


class Stage:
    """A cluster of pods that the test sets."""

    def __init__(self, api: ScriptedApi, pods: Holder, deployments: Holder, clock: Any) -> None:
        self.api, self.pods, self.deployments, self.clock = api, pods, deployments, clock
        self.scaler = Scaler(api)
        self.blocked = ""
        stand_in: Any = api
        self.cluster = KubernetesCluster(
            stand_in,
            pods,
            deployments,
            self.scaler,
            lambda namespace, revision: f"{namespace}/{revision}",
            lambda: None,
            clock,
            PodSettings(DRAIN, PATIENCE),
            lambda _: self.blocked,
        )

    def put(self, *pods: dict[str, Any]) -> None:
        for each in pods:
            self.pods.put(each)
            self.api.create(POD, each)
        self.api.calls.clear()

    def gone(self, name: str) -> None:
        self.pods.objects = {key: found for key, found in self.pods.objects.items() if key.name != name}

    async def states(self, *records: ReplicaRecord) -> dict[str, tuple[str, ReplicaState]]:
        found = await self.cluster.observe(records)
        return {asked: (status.replica, status.state) for asked, status in found.items()}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.cluster.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self.cluster.close()

    async def carried_out(self, leaving: frozenset[str] = frozenset(), replicas: int = 0) -> list[tuple[str, str]]:
        """Verb and name of every call that these counts lead to."""
        rounds = len(self.scaler.told)
        async with self.running():
            self.cluster.settle({CHAT_1: Wanted(replicas, Policy(maximum=9), leaving)})
            self.cluster.news()
            await eventually(lambda: len(self.scaler.told) > rounds)
            rounds = len(self.scaler.told)
            self.cluster.news()  # one more look, so that all of the first one is over
            await eventually(lambda: len(self.scaler.told) > rounds)
        return [(verb, name) for verb, _, name in self.api.calls]


async def eventually(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not met():  # noqa: ASYNC110 - a thread's work has no event here
            await asyncio.sleep(0.005)


@pytest.fixture
def stage(api: ScriptedApi, holder: Callable[..., Holder], clock: Any) -> Stage:
    assert clock.now() == T0
    return Stage(api, holder(), holder(), clock)


# What stands for what


async def test_a_replica_that_was_asked_for_gets_the_oldest_free_pod_of_its_revision(stage: Stage) -> None:
    await stage.cluster.start(spec("asked"))
    await stage.cluster.start(spec("next", "chat-00002"))
    stage.put(pod("young", age=1), pod("old", age=9), pod("taken", age=99), pod("other", "chat-00002", age=50))

    found = await stage.states(record("taken"), record("asked"), record("next", "chat-00002"))

    assert {asked: name for asked, (name, _) in found.items()} == {"taken": "taken", "asked": "old", "next": "other"}


async def test_two_that_were_asked_for_do_not_share_a_pod(stage: Stage) -> None:
    await stage.cluster.start(spec("a"))
    await stage.cluster.start(spec("b"))
    stage.put(pod("only"))

    found = await stage.states(record("a"), record("b"))

    assert found == {"a": ("only", ReplicaState.STARTING), "b": ("b", ReplicaState.STARTING)}


async def test_pods_that_end_or_cannot_start_are_given_to_nobody(stage: Stage) -> None:
    stage.put(pod("leaves", leaves=1), pod("broken", status=BROKEN), pod("known"), pod("free"))

    assert [found.id for found in await stage.cluster.found({"known"})] == ["free"]
    await stage.cluster.start(spec("asked"))
    assert (await stage.states(record("known"), record("asked")))["asked"] == ("free", ReplicaState.STARTING)


async def test_a_pod_that_comes_between_two_looks_is_the_one_that_was_asked_for_and_no_other(stage: Stage) -> None:
    await stage.cluster.start(spec("asked"))
    assert await stage.states(record("asked")) == {"asked": ("asked", ReplicaState.STARTING)}
    stage.put(pod("first", age=2), pod("second", age=1), pod("other", "chat-00002"))

    assert [found.id for found in await stage.cluster.found(())] == ["other"]
    assert (await stage.states(record("asked")))["asked"] == ("first", ReplicaState.STARTING)
    assert [found.id for found in await stage.cluster.found({"first", "other"})] == ["second"]


async def test_what_was_found_says_what_it_is(stage: Stage) -> None:
    stage.put(pod("young", age=3), pod("old", "chat-00002", age=7))

    old, young = await stage.cluster.found(())

    assert (old.id, old.revision, old.created_at) == ("old", CHAT_2, T0 - 7)
    assert (young.id, young.revision) == ("young", CHAT_1)


async def test_a_pod_that_only_pretends_to_be_a_functions_is_passed_over(stage: Stage) -> None:
    stage.put(pod("forged", labels={"pilotlight.dev/function": "chat"}, status={"podIP": "127.0.0.1"}))

    assert await stage.cluster.found(()) == ()
    assert await stage.states() == {}


# What is gone


async def test_a_pod_that_is_gone_after_it_was_told_to_end_has_stopped(stage: Stage) -> None:
    stage.put(pod("a", leaves=1))
    assert await stage.states(record("a")) == {"a": ("a", ReplicaState.DRAINING)}

    stage.gone("a")

    assert await stage.states(record("a")) == {"a": ("a", ReplicaState.STOPPED)}


async def test_a_pod_that_is_gone_without_a_word_is_missing(stage: Stage) -> None:
    stage.put(pod("a", ready=True))
    assert await stage.states(record("a")) == {"a": ("a", ReplicaState.READY)}

    stage.gone("a")

    assert await stage.states(record("a")) == {}


async def test_one_that_is_stopped_before_it_has_a_pod_has_stopped_and_takes_none(stage: Stage) -> None:
    await stage.cluster.start(spec("a"))
    await stage.cluster.stop("a")
    stage.put(pod("late"))

    assert await stage.states(record("a")) == {"a": ("a", ReplicaState.STOPPED)}
    assert [found.id for found in await stage.cluster.found({"a"})] == ["late"]


# What cannot be made


async def test_a_pod_that_the_cluster_refuses_is_a_failure_when_patience_ends(stage: Stage) -> None:
    message = 'pods "x" is forbidden: exceeded quota: team'
    status = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": message}]}
    labels = {"serving.knative.dev/revision": "chat-00001"}
    metadata = {"namespace": "team-a", "name": "chat-00001-deployment", "labels": labels}
    stage.deployments.put({"metadata": metadata, "status": status})
    await stage.cluster.start(spec("a"))

    early = (await stage.cluster.observe([record("a")]))["a"]
    stage.clock.time += PATIENCE + 1
    late = (await stage.cluster.observe([record("a")]))["a"]

    assert (early.state, early.message) == (ReplicaState.STARTING, message)
    assert early.phases[0].detail == message
    assert (late.state, late.message) == (ReplicaState.FAILED, message)


async def test_one_without_a_word_against_it_waits_for_its_pod(stage: Stage) -> None:
    await stage.cluster.start(spec("a"))
    stage.clock.time += 10 * PATIENCE

    assert await stage.states(record("a")) == {"a": ("a", ReplicaState.STARTING)}


async def test_a_revision_that_gets_no_pods_at_all_fails_at_once_with_the_reason(stage: Stage) -> None:
    stage.blocked = "the webhook refuses it"
    await stage.cluster.start(spec("a"))

    status = (await stage.cluster.observe([record("a")]))["a"]

    assert (status.state, status.message) == (ReplicaState.FAILED, "the webhook refuses it")


# What is carried out


async def test_nothing_is_carried_out_before_somebody_knows_what_there_should_be(stage: Stage) -> None:
    stage.put(pod("a", leaves=9999))

    async with stage.running():
        stage.cluster.news()
        await eventually(lambda: stage.scaler.looks > 1)

    assert stage.api.calls == []
    assert stage.scaler.told == []


async def test_those_that_leave_are_marked_before_the_count_falls(stage: Stage) -> None:
    stage.put(pod("stays"), pod("goes"), pod("ends", leaves=1))

    calls = await stage.carried_out(frozenset({"goes", "ends", "gone"}), replicas=1)

    assert calls[:2] == [("patch", "goes"), ("scale", "")]
    assert {name for verb, name in calls if verb == "patch"} == {"goes"}
    [marked] = [found for found in stage.api.made(POD) if found["metadata"]["name"] == "goes"]
    assert marked["metadata"]["annotations"] == {DELETION_COST: LEAVES_FIRST}


async def test_a_failed_one_is_deleted_when_it_is_not_counted_any_more(stage: Stage) -> None:
    stage.put(pod("fails", status=BROKEN), pod("well"))
    await stage.states(record("fails"))
    await stage.cluster.forget("fails")

    calls = await stage.carried_out()

    assert calls[:2] == [("scale", ""), ("delete", "fails")]
    assert "well" not in {name for _, name in calls}
    assert [found.id for found in await stage.cluster.found(())] == ["well"]


@pytest.mark.parametrize(
    ("served", "told", "removed"),
    [
        pytest.param(False, UNHEARD_SECONDS - 1, False, id="starting and told just now"),
        pytest.param(False, UNHEARD_SECONDS + 1, True, id="starting and does not hear"),
        pytest.param(True, DRAIN + QUEUE_PROXY_SECONDS - 1, False, id="serving and may have streams"),
        pytest.param(True, DRAIN + QUEUE_PROXY_SECONDS + 1, True, id="serving and overdue"),
    ],
)
async def test_one_that_does_not_end_is_removed_when_its_time_is_over(
    stage: Stage, served: bool, told: float, removed: bool
) -> None:
    stage.put(pod("a", ready=served))
    await stage.states(record("a"))
    stage.pods.put(pod("a", leaves=told))

    await stage.carried_out()

    assert (("delete", "pods/0 s", "a") in stage.api.calls) is removed


async def test_one_that_the_count_does_not_take_is_ended_by_name(stage: Stage) -> None:
    stage.put(pod("goes"))

    at_once = await stage.carried_out(frozenset({"goes"}), replicas=1)
    stage.clock.time += ASKED_SECONDS + 1
    later = await stage.carried_out(frozenset({"goes"}), replicas=1)

    assert ("delete", "goes") not in at_once
    assert ("delete", "goes") in later


async def test_what_could_not_be_carried_out_is_tried_again(stage: Stage) -> None:
    stage.put(pod("goes"))
    stage.api.failing["patch"] = UnreachableError("PATCH", 0, "NoAnswer", "refused")

    calls = await stage.carried_out(frozenset({"goes"}))

    assert [call for call in calls if call[0] == "patch"] == [("patch", "goes")] * 2
    assert len(stage.scaler.told) == 2


async def test_pods_that_kubernetes_calls_ready_are_asked_more_seldom(
    stage: Stage, supervisor: Callable[..., Awaitable[Supervisor]]
) -> None:
    """Even one that does not answer, as when a NetworkPolicy forbids it."""
    ips, said = ("127.77.13.7", "127.77.13.8"), ReplicaStatus("", "chat-00001", ReplicaState.STARTING)
    ready, starts = [await supervisor(ip, said, refuses=True, key="team-a/chat-00001") for ip in ips]
    stage.put(pod("ready", ready=True, status={"podIP": ips[0]}), pod("starts", status={"podIP": ips[1]}))

    await stage.cluster.observe([])
    await eventually(lambda: ready.asked > 0 and starts.asked >= 5)
    await stage.cluster.close()

    assert 2 * ready.asked < starts.asked
