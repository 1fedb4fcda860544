"""Routes follow what is told, one function at a time, and stay the same objects while nothing changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.platform.conftest import ManualClock
from tests.platform.edge.conftest import CHAT, Holder, function, ingress, revision, slice_of
from tests.platform.edge.process import MASTER, Pod, until

from pilotlight.activator.values import FunctionId, Route
from pilotlight.platform.edge.belongings import Belongings
from pilotlight.platform.edge.routing import TOGETHER, Router
from pilotlight.platform.edge.tokenizers import Tokenizers
from pilotlight.platform.kubernetes.kinds import Key
from pilotlight.platform.kubernetes.secrets import EngineKeys
from pilotlight.platform.link.wire import Shares
from pilotlight.platform.shelf import Shelf
from pilotlight.runtime.spec import ReplicaState

NEW = "chat-00002"
OTHER = FunctionId("team", "other")


class Stage:
    """A router over objects that a test puts into its hand."""

    def __init__(self, clock: ManualClock, folder: Path) -> None:
        self.clock = clock
        self.functions, self.slices, self.ingresses = Holder(), Holder(), Holder()
        self.told: list[dict[FunctionId, Route]] = []
        """What the activator has after each change."""
        self.news: list[set[FunctionId]] = []
        """What each change named."""
        self.tokenizers = Tokenizers(Shelf(f"file://{folder}", folder / "tokenizers"), clock, lambda: None)
        parts = (self.functions, self.slices, self.ingresses)
        self.router = Router(self, *parts, self.tokenizers, EngineKeys(MASTER), clock)

    def change(self, routes: Mapping[FunctionId, Route | None]) -> None:
        whole = {**(self.told[-1] if self.told else {}), **routes}
        self.told.append({name: route for name, route in whole.items() if route is not None})
        self.news.append(set(routes))

    def tell(self, *, functions: Any = (), slices: Any = (), ingresses: Any = ()) -> None:
        holders = {"functions": self.functions, "slices": self.slices, "ingresses": self.ingresses}
        told: dict[str, Callable[[Key], None]] = {
            "functions": self.router.function_changed,
            "slices": self.router.slice_changed,
            "ingresses": self.router.ingress_changed,
        }
        for kind, objects in (("functions", functions), ("slices", slices), ("ingresses", ingresses)):
            for found in objects:
                told[kind](holders[kind].put(found))
        self.router.refresh()

    @property
    def routes(self) -> dict[FunctionId, Route]:
        return self.told[-1]


@pytest.fixture
async def stage(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(clock, tmp_path)
    yield stage
    await stage.router.close()


async def test_a_function_is_routed_from_its_own_status_slices_and_ingresses(stage: Stage) -> None:
    stage.tell(
        functions=[function(CHAT, revision(2)), function(OTHER, revision(2))],
        slices=[slice_of(CHAT, NEW, "a")],
        ingresses=[ingress(CHAT, "chat.team")],
    )

    chat, other = stage.routes[CHAT], stage.routes[OTHER]
    assert [(replica.id, replica.engine_key) for replica in chat.replicas] == [("a", EngineKeys(MASTER)("team", NEW))]
    assert [rule.hosts for rule in chat.hosts] == [("chat.team",)]
    assert (other.replicas, other.hosts) == ((), ())


async def test_only_what_changed_is_told_and_another_object(stage: Stage) -> None:
    stage.tell(functions=[function(CHAT, revision(2)), function(OTHER, revision(2))])
    before = stage.routes

    stage.tell(slices=[slice_of(CHAT, NEW, "a")])

    assert stage.news == [{CHAT, OTHER}, {CHAT}]
    assert stage.routes[OTHER] is before[OTHER]
    assert stage.routes[CHAT] is not before[CHAT]


async def test_what_says_the_same_again_is_no_news(stage: Stage) -> None:
    stage.tell(functions=[function(CHAT, revision(2))], slices=[slice_of(CHAT, NEW, "a")])

    stage.tell(functions=[function(CHAT, revision(2))], slices=[slice_of(CHAT, NEW, "a")])
    stage.clock.time += 60
    stage.router.refresh()

    assert len(stage.told) == 1


async def test_a_start_is_told_anew_as_time_passes(stage: Stage) -> None:
    stage.tell(
        functions=[function(CHAT, revision(2, failure="no memory", retry_at=stage.clock.now() + 9))],
    )

    stage.clock.time += 4
    stage.router.refresh()

    assert stage.routes[CHAT].retry_after_seconds == 5.0


async def test_what_is_gone_is_routed_no_more(stage: Stage) -> None:
    stage.tell(functions=[function(CHAT, revision(2)), function(OTHER, revision(2))], slices=[slice_of(CHAT, NEW, "a")])

    stage.router.slice_changed(stage.slices.drop("team", "a"))
    stage.router.function_changed(stage.functions.drop(*OTHER))
    stage.router.refresh()

    assert stage.routes.keys() == {CHAT}
    assert stage.routes[CHAT].replicas == ()
    assert stage.router.views.keys() == {CHAT}


async def test_one_that_is_being_deleted_is_gone(stage: Stage) -> None:
    stage.tell(functions=[function(CHAT, revision(2))])

    stage.tell(functions=[function(CHAT, revision(2), deletionTimestamp="2026-01-01T00:00:00Z")])

    assert stage.routes == {}


async def test_one_that_cannot_be_routed_keeps_its_route_and_the_others_theirs(stage: Stage) -> None:
    stage.tell(functions=[function(CHAT, revision(2))])
    broken = {**slice_of(CHAT, NEW, "a"), "endpoints": "nonsense"}

    stage.tell(functions=[function(OTHER, revision(2))], slices=[broken])

    assert stage.routes.keys() == {CHAT, OTHER}


async def test_everything_there_is_can_be_looked_at(stage: Stage) -> None:
    stage.functions.put(function(CHAT, revision(2)))
    stage.slices.put(slice_of(CHAT, NEW, "a"))
    stage.ingresses.put(ingress(CHAT, "chat.team"))

    await stage.router.look_at_all()

    assert [replica.id for replica in stage.routes[CHAT].replicas] == ["a"]
    assert [rule.hosts for rule in stage.routes[CHAT].hosts] == [("chat.team",)]


async def test_a_change_of_everything_is_taken_in_by_parts(stage: Stage) -> None:
    names = [FunctionId("team", f"chat-{number}") for number in range(2 * TOGETHER + 1)]
    for name in names:
        stage.functions.put(function(name, revision(2)))

    await stage.router.look_at_all()
    assert [len(routes) for routes in stage.told] == [TOGETHER, 2 * TOGETHER, 2 * TOGETHER + 1]

    stage.router.shares_changed(Shares(2, {}))
    await stage.router.settle()
    assert {route.queue_limit for route in stage.routes.values()} == {500}


async def test_a_pods_own_word_counts_until_kubernetes_has_called_it_ready(stage: Stage) -> None:
    pod = Pod()
    await pod.start()
    pod.state = ReplicaState.READY
    working = asyncio.create_task(stage.router.run())
    try:
        stage.tell(functions=[function(CHAT, revision(2))], slices=[slice_of(CHAT, NEW, "a", pod.ip, ready=False)])
        assert stage.routes[CHAT].replicas == ()
        await until(lambda: bool(stage.routes[CHAT].replicas), "its own word")

        stage.tell(slices=[slice_of(CHAT, NEW, "a", pod.ip)])
        assert [replica.id for replica in stage.routes[CHAT].replicas] == ["a"]

        pod.state = ReplicaState.STARTING
        stage.tell(slices=[slice_of(CHAT, NEW, "a", pod.ip, ready=False)])
        assert stage.routes[CHAT].replicas == ()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await pod.stop()


async def test_ingresses_of_another_class_are_not_ours(stage: Stage) -> None:
    stage.tell(functions=[function(CHAT, revision(2))], ingresses=[ingress(CHAT, "chat.team", class_name="kourier")])

    assert stage.routes[CHAT].hosts == ()


async def test_shares_bound_what_may_wait(stage: Stage) -> None:
    stage.tell(functions=[function(CHAT, revision(2)), function(OTHER, revision(2))])
    before = stage.routes

    stage.router.shares_changed(Shares(1, {CHAT: 7}))
    stage.router.refresh()
    assert stage.routes[CHAT].queue_limit == 7
    assert stage.routes[OTHER] is before[OTHER]

    stage.router.shares_changed(Shares(2, {}))
    stage.router.refresh()
    assert [route.queue_limit for route in stage.routes.values()] == [500, 500]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), st.sampled_from([None, "1", "2"]))),
)
def test_belongings_are_those_that_a_look_at_everything_finds(steps: list[tuple[str, str, str | None]]) -> None:
    holder = Holder()
    kept = Belongings(holder)
    for name, owner, content in steps:
        key = Key("team", name)
        touched = {function for function in _owners(holder) if name in _owners(holder)[function]}
        if content is None:
            holder.drop(*key)
        else:
            labels = {"pilotlight.dev/function": owner} if owner else {}
            holder.put({"metadata": {"namespace": "team", "name": name, "labels": labels}, "content": content})
        after = _owners(holder)

        assert kept.look(key) == touched | {function for function in after if name in after[function]}
        for function_key in (Key("team", "x"), Key("team", "y")):
            assert kept.of(function_key) == list(after.get(function_key, {}).values())


def _owners(holder: Holder) -> dict[Key, dict[str, Any]]:
    found: dict[Key, dict[str, Any]] = {}
    for key in sorted(holder.objects):
        owner = holder.objects[key]["metadata"]["labels"].get("pilotlight.dev/function")
        if owner:
            found.setdefault(Key("team", owner), {})[key.name] = holder.objects[key]
    return found
