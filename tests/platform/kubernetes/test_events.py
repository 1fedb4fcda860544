"""Decisions as events of Function objects."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.values import FunctionId
from pilotlight.platform.database.connection import Database
from pilotlight.platform.kubernetes.errors import UnreachableError
from pilotlight.platform.kubernetes.events import Events, ToldRecords, event
from pilotlight.platform.kubernetes.kinds import EVENT, Key
from pilotlight.platform.values import DecisionRecord

if TYPE_CHECKING:
    from tests.platform.kubernetes.conftest import ScriptedApi

CHAT = FunctionId("team-a", "chat")
FUNCTION = {"metadata": {"namespace": "team-a", "name": "chat", "uid": "u"}}
DECISION = DecisionRecord(1_790_000_000.0, CHAT, "chat-00001", 1, "scale_up", "one request waits")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""What Kubernetes takes as an event's name: RFC 1123."""
Until = Callable[[Callable[[], bool], str], None]


@pytest.fixture
def events(api: ScriptedApi) -> Iterator[Events]:
    stand_in: Any = api
    made = Events(stand_in, lambda *key: FUNCTION if key == Key("team-a", "chat") else None)
    yield made
    made.close()


def told(api: ScriptedApi) -> list[tuple[str, str, str]]:
    return [(each["type"], each["reason"], each["message"]) for each in api.made(EVENT)]


def test_a_decision_is_written_and_told(api: ScriptedApi, events: Events, database: Database, until: Until) -> None:
    records = ToldRecords(database, events)

    records.decided([DECISION, replace(DECISION, reason="no_room", desired=0, sentence="no node has a GPU")])

    until(lambda: len(told(api)) == 2, "two events")
    assert told(api) == [
        ("Normal", "ScaleUp", "1 replicas: one request waits"),
        ("Warning", "NoRoom", "0 replicas: no node has a GPU"),
    ]
    assert api.made(EVENT)[0]["involvedObject"]["uid"] == "u"
    assert len(records.decisions(CHAT)) == 2


def test_a_refusal_is_a_warning_in_its_words(api: ScriptedApi, events: Events, until: Until) -> None:
    events.refused(FUNCTION, {"reason": "ModelNotFound", "message": "there is no model tiny"}, 1_790_000_000.0)

    until(lambda: len(told(api)) == 1, "the event")
    assert told(api) == [("Warning", "ModelNotFound", "there is no model tiny")]
    assert api.made(EVENT)[0]["involvedObject"]["name"] == "chat"


def test_the_same_words_in_the_same_second_are_told_once(api: ScriptedApi, events: Events, until: Until) -> None:
    for record in (DECISION, DECISION, replace(DECISION, sentence="another")):
        events.decided(record)

    until(lambda: len(api.calls) == 3, "three tries")
    assert [message for _, _, message in told(api)] == ["1 replicas: one request waits", "1 replicas: another"]


def test_a_function_that_is_gone_has_no_events(api: ScriptedApi, events: Events, until: Until) -> None:
    events.decided(replace(DECISION, function=FunctionId("team-a", "gone")))
    events.decided(DECISION)

    until(lambda: len(told(api)) == 1, "the other one's")
    assert [message for _, _, message in told(api)] == ["1 replicas: one request waits"]


def test_nobody_waits_for_an_api_server_that_is_slow(api: ScriptedApi, events: Events, until: Until) -> None:
    go_on = threading.Event()
    api.before["create"] = lambda: None if go_on.wait(60) else pytest.fail("the caller waited")

    events.decided(DECISION)  # in this thread: it would never come to what follows
    assert told(api) == []
    go_on.set()

    until(lambda: len(told(api)) == 1, "the event")


def test_one_that_cannot_be_written_is_forgotten(api: ScriptedApi, events: Events, until: Until) -> None:
    api.failing["create"] = UnreachableError("POST", 0, "NoAnswer", "refused")
    events.decided(DECISION)
    until(lambda: len(api.calls) == 1, "a try")
    del api.failing["create"]

    events.decided(replace(DECISION, sentence="later"))

    until(lambda: len(told(api)) == 1, "the later one")
    assert [message for _, _, message in told(api)] == ["1 replicas: later"]


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,55}[a-z0-9])?", fullmatch=True), st.text(max_size=3000), st.floats(1e9, 2e9))
def test_kubernetes_takes_the_event_of_every_function(name: str, message: str, at: float) -> None:
    made = event({"metadata": {**FUNCTION["metadata"], "name": name}}, "Normal", "ScaleUp", message, at)

    assert SUBDOMAIN.fullmatch(made["metadata"]["name"])
    assert len(made["metadata"]["name"]) <= 253
    assert len(made["message"]) <= 1024
