"""A replica that gets its lasting name late, alone and where others have seen it under that name before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId
from pilotlight.platform.database.connection import Database
from pilotlight.platform.database.functions import Change, Functions
from pilotlight.platform.database.replicas import Replicas
from pilotlight.platform.database.usage import UsageFilter
from pilotlight.platform.values import Desired, Interval, Policy, ReplicaRecord

CHAT = FunctionId("team-a", "chat")
TEMPLATE = make_template()
ASKED = ReplicaRecord("asked", CHAT, "chat-00001", 10.0, state="starting", cpus=(0,), caused_by="key-1")


@pytest.fixture
def replicas(database: Database) -> Replicas:
    Functions(database).apply([Change(CHAT, {}, Policy(), TEMPLATE)], 1.0)
    return Replicas(database)


def part(replica: str, state: str, start: float, end: float, caused_by: str = "") -> Interval:
    return Interval(replica, CHAT, "chat-00001", state, start, end, caused_by)


def test_everything_goes_on_under_the_new_name(replicas: Replicas) -> None:
    replicas.add(ASKED)
    replicas.write_intervals([part("asked", "starting", 10.0, 12.0, "key-1")])
    replicas.started("asked", "sha256:a", "vllm", {"load": 1.0}, 12.0)

    for _ in range(2):  # a second time finds nothing to do
        replicas.rename("asked", "pod")

    assert replicas.live() == (replace(ASKED, id="pod"),)
    assert replicas.intervals() == (part("pod", "starting", 10.0, 12.0, "key-1"),)
    assert replicas.became_ready(["asked", "pod"]) == {"pod"}


def test_a_replica_seen_before_under_its_new_name_is_one_replica_with_one_past(replicas: Replicas) -> None:
    replicas.add(replace(ASKED, desired=Desired.DRAINED))
    replicas.add(ReplicaRecord("pod", CHAT, "chat-00001", 15.0, state="ready"))
    replicas.write_intervals(
        [
            part("asked", "starting", 10.0, 18.0, "key-1"),
            part("asked", "idle", 18.0, 20.0, "key-1"),
            part("pod", "starting", 15.0, 17.0),
            part("pod", "serving", 17.0, 20.0),
        ]
    )
    replicas.started("asked", "sha256:a", "vllm", {"load": 1.0}, 12.0)
    replicas.started("pod", "sha256:a", "vllm", {"load": 2.0}, 13.0)

    replicas.rename("asked", "pod")

    merged = replace(ASKED, id="pod", desired=Desired.DRAINED, state="ready")
    assert replicas.live() == (merged,)
    assert replicas.seconds("key", UsageFilter()) == {("key-1", "starting"): 7.0, ("key-1", "serving"): 3.0}
    assert replicas.starts("sha256:a", "vllm") == ({"load": 2.0},)


@pytest.mark.parametrize("name", ["unheard-of", "asked"])
def test_without_another_replica_or_another_name_nothing_changes(replicas: Replicas, name: str) -> None:
    replicas.add(ASKED)

    replicas.rename(name, "asked")

    assert replicas.live() == (ASKED,)
