"""The status of a Function object: conditions that tell the truth, and a route that survives the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.platform.conftest import make_template

from pilotlight.activator.values import FunctionId, RevisionFacts, Route
from pilotlight.platform.kubernetes.publishing import covers, routed
from pilotlight.platform.kubernetes.status import (
    CONDITIONS,
    GOOD,
    PENDING,
    Judgement,
    conditions,
    published,
    read_published,
    read_refused,
    ready,
)
from pilotlight.platform.values import Revision

BAD = Judgement("False", "ModelNotFound", "there is no model s3://models/x:v1")
TEMPLATE = make_template(kind="vllm", slots=1, context=100)
STATUSES = st.sampled_from([GOOD, PENDING, BAD])


@given(st.fixed_dictionaries(dict.fromkeys(CONDITIONS, STATUSES)), st.sampled_from(["", "out of memory"]))
def test_ready_is_true_only_when_every_part_is_and_false_when_any_part_is(parts: Any, failure: str) -> None:
    verdict = ready(parts, failure)

    if any(part.status == "False" for part in parts.values()):
        assert verdict == BAD
    elif any(part.status == "Unknown" for part in parts.values()):
        assert verdict.status == "Unknown"
    else:
        assert verdict.status == ("False" if failure else "True")
        assert verdict.message == failure


def test_a_transitions_time_moves_only_when_the_status_does() -> None:
    first = conditions((), {"Ready": PENDING}, 1, 1000.0)
    same = conditions(first, {"Ready": Judgement("Unknown", "Other", "words")}, 2, 2000.0)
    flipped = conditions(same, {"Ready": GOOD}, 2, 3000.0)

    assert same[0]["lastTransitionTime"] == first[0]["lastTransitionTime"] == "1970-01-01T00:16:40Z"
    assert (same[0]["reason"], same[0]["observedGeneration"]) == ("Other", 2)
    assert flipped[0]["lastTransitionTime"] == "1970-01-01T00:50:00Z"


@pytest.mark.parametrize("status", [{}, {"route": {}}, {"route": {"revision": 3}}, {"route": "text"}])
def test_a_route_that_cannot_be_read_is_none(status: Any) -> None:
    assert read_published({"metadata": {}, "status": status}) is None


def test_a_route_of_a_newer_operator_is_read() -> None:
    route = {"revision": "a-00001", "task": "generate", "model": "a", "source": "", "context": 1, "slots": 2}

    told = read_published({"metadata": {}, "status": {"route": {**route, "sloClass": "batch", "unheardOf": 1}}})

    assert told is not None
    assert (told.slo_class, told.slots) == ("batch", 2)


@pytest.mark.parametrize(
    ("service", "problem", "verdict"),
    [
        (None, "", ("Unknown", "NoKnativeService")),
        (None, "there is no ServiceAccount x", ("False", "ObjectsRefused")),
        (("True", 2), "", ("True", "Routed")),
        (("True", 1), "", ("Unknown", "Reconciling")),
        (("False", 2), "", ("False", "RevisionFailed")),
        (("True", 2), "deployments is forbidden", ("False", "ObjectsRefused")),
    ],
)
def test_routed_is_knatives_verdict_unless_something_was_refused(
    service: tuple[str, int] | None, problem: str, verdict: tuple[str, str]
) -> None:
    found = None
    if service is not None:
        status, seen = service
        ready = {"type": "Ready", "status": status, **({"reason": "RevisionFailed"} if status == "False" else {})}
        found = {"metadata": {"generation": 2}, "status": {"observedGeneration": seen, "conditions": [ready]}}

    judged = routed(found, problem)

    assert (judged.status, judged.reason) == verdict
    assert not problem or judged.message == problem


def test_a_revision_that_cannot_be_made_is_told_with_its_own_reason() -> None:
    made = {"type": "ConfigurationsReady", "status": "False", "reason": "RevisionFailed", "message": "no such image"}
    whole = {"type": "Ready", "status": "False", "reason": "RevisionMissing", "message": "no ready Revision"}
    service = {"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "conditions": [whole, made]}}

    assert routed(service) == Judgement("False", "RevisionFailed", "no such image")


def test_callers_of_a_function_that_was_refused_are_told_why() -> None:
    function = {"metadata": {"name": "chat"}, "spec": {}, "status": {"conditions": [{"type": "Ready", **vars(BAD)}]}}

    told = read_refused(function, now=100.0)

    assert told is not None
    assert (told.failure, told.retry_at > 100.0) == (BAD.message, True)


@pytest.mark.parametrize("status", [{}, {"conditions": [{"type": "Ready", **vars(PENDING)}]}])
def test_of_a_function_that_may_be_taken_yet_nothing_is_told(status: Any) -> None:
    assert read_refused({"metadata": {"name": "chat"}, "spec": {}, "status": status}, now=100.0) is None


def test_every_revision_in_traffic_is_told_with_what_is_its_own() -> None:
    function = FunctionId("team", "chat")
    revisions = [
        Revision(function, name, number, 0.0, "k", replace(TEMPLATE, context=100 * number, slots=number))
        for number, name in enumerate(("chat-00001", "chat-00002", "chat-00003"), 1)
    ]
    facts = RevisionFacts("chat-00001", "generate", "chat", 100, None, failure="no memory", retry_after_seconds=4.0)
    route = Route(function, "chat-00003", "generate", "chat", 300, None, failure="killed", revisions=(facts,))

    told = published(route, revisions, (), {"chat-00001": 7.0, "chat-00003": 9.0}, lambda name: {"load": len(name)})
    read = read_published({"status": {"route": told.model_dump(mode="json", by_alias=True)}})

    assert read == told
    assert [(each.revision, each.context, each.slots, each.failure, each.retry_at) for each in told.all()] == [
        ("chat-00003", 300, 3, "killed", 9.0),
        ("chat-00001", 100, 1, "no memory", 7.0),
        ("chat-00002", 200, 2, "", 0.0),
    ]


@pytest.mark.parametrize(
    ("there", "wanted", "verdict"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({}, {"a": 1}, False),
        ({"a": 1}, {"a": {"b": 1}}, False),
    ],
)
def test_what_is_wanted_is_covered_when_every_part_of_it_is_there(there: Any, wanted: Any, verdict: bool) -> None:
    assert covers(there, wanted) is verdict
