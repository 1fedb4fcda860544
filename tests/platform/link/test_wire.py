"""Only our own messages are taken for messages."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.values import Demand, FunctionId, RevisionDemand
from pilotlight.platform.link.wire import (
    REPORT_BYTES,
    VERSION,
    Answer,
    Lost,
    Report,
    Shares,
    WireError,
    decode_answer,
    decode_report,
    encode_answer,
    encode_report,
)

CHAT = FunctionId("team-a", "chat")

labels = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
functions = st.builds(FunctionId, labels, labels)
names = st.text(min_size=1, max_size=20)
counts = st.integers(0, 10**9)
moments = st.floats(0, 4e9)
demands = st.builds(
    Demand,
    counts,
    counts,
    counts,
    moments,
    st.lists(st.tuples(names, counts), max_size=3).map(tuple),
    st.lists(st.builds(RevisionDemand, names, counts, counts, moments), max_size=3).map(tuple),
)
reports = st.builds(
    Report,
    activator=names,
    started_at=moments,
    sequence=counts,
    sent_at=moments,
    full=st.booleans(),
    demands=st.dictionaries(functions, demands, max_size=4),
    gone=st.lists(functions, max_size=3).map(tuple),
    woken=st.lists(functions, max_size=3).map(tuple),
    lost=st.lists(st.builds(Lost, functions, names, st.text(max_size=50)), max_size=3).map(tuple),
    causes=st.dictionaries(functions, names, max_size=3),
)
answers = st.builds(Answer, names, st.booleans(), st.integers(1, 100), st.dictionaries(functions, counts, max_size=4))


@given(reports)
def test_a_report_arrives_as_it_was_sent(report: Report) -> None:
    assert decode_report(encode_report(report)) == report


@given(answers)
def test_an_answer_arrives_as_it_was_sent(answer: Answer) -> None:
    assert decode_answer(encode_answer(answer)) == answer


def document(**changes: Any) -> bytes:
    demand = Demand(1, 2, 3, 4.0, (("pod-1", 2),))
    report = Report("a-1", 1.0, 1, 2.0, full=True, demands={CHAT: demand}, lost=(Lost(CHAT, "pod-1", "died"),))
    return json.dumps({**json.loads(encode_report(report)), **changes}).encode()


def part(**changes: Any) -> dict[str, Any]:
    return {"revision": "r", "queued": 1, "in_flight": 1, "last_active": 0.0, **changes}


DEMAND = {"queued": 1, "in_flight": 2, "arrived_total": 3, "last_active": 4.0, "per_replica": []}


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"extra": 1}, "extra"),
        ({"version": 0}, "version"),
        ({"version": "2"}, "version"),
        ({"version": True}, "version"),
        ({"version": None}, "version"),
        ({"sequence": "1"}, "sequence"),
        ({"sequence": -1}, "sequence"),
        ({"full": 1}, "full"),
        ({"activator": ""}, "activator"),
        ({"activator": "x" * 254}, "activator"),
        ({"demands": {"chat": DEMAND}}, "demands.chat"),
        ({"demands": {"team-a/../x": DEMAND}}, "demands"),
        ({"demands": {"team-a/chat": {**DEMAND, "queued": -1}}}, "demands.team-a/chat"),
        ({"demands": {"team-a/chat": {**DEMAND, "more": 1}}}, "more"),
        ({"demands": {"team-a/chat": {**DEMAND, "per_revision": [part(more=1)]}}}, "more"),
        ({"demands": {"team-a/chat": {**DEMAND, "per_replica": [["r", -1]]}}}, "demands.team-a/chat"),
        ({"demands": {"team-a/chat": {**DEMAND, "per_revision": [part(in_flight=-1)]}}}, "demands.team-a/chat"),
        ({"demands": {"team-a/chat": {**DEMAND, "per_revision": [part(last_active=-1.0)]}}}, "demands.team-a/chat"),
        ({"demands": {"team-a/chat": {**DEMAND, "last_active": float("nan")}}}, "last_active"),
        ({"lost": [{"function": "team-a/chat", "replica": "r", "reason": "x" * 501}]}, "lost.0.reason"),
        ({"lost": [{"function": "team-a/chat", "reason": ""}]}, "lost.0.replica"),
    ],
)
def test_what_is_not_a_report_is_refused_with_its_place(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(WireError, match=where):
        decode_report(document(**changes))


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b'{"version": 1', b"\xff", b"[" * 10_000])
def test_what_is_no_message_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_report(data)


class TestVersions:
    """The other end may be ahead of this one, or behind."""

    def test_what_a_newer_end_adds_is_left_out_wherever_it_is(self) -> None:
        known = {"demands": {"team-a/chat": {**DEMAND, "per_revision": [part()]}}}
        loss = {"function": "team-a/chat", "replica": "r", "reason": ""}
        added = {
            "demands": {"team-a/chat": {**DEMAND, "per_revision": [part(new=1)], "new": [1]}},
            "lost": [{**loss, "new": "x"}],
            "new": {"any": ["thing"]},
        }
        newer = decode_report(document(version=VERSION + 1, **added))
        assert newer == replace(decode_report(document(**known, lost=[loss])), version=VERSION + 1)

        answer = {"leader": "o", "resync": False, "activators": 2, "shares": {"team-a/chat": 7}, "version": VERSION + 1}
        told = decode_answer(json.dumps({**answer, "new": None}).encode())
        assert told == Answer("o", False, 2, {CHAT: 7}, VERSION + 1)

    @pytest.mark.parametrize(
        "changes", [{"sequence": "1"}, {"demands": {"team-a/chat": {"queued": 1}}}, {"full": None}]
    )
    def test_what_is_known_of_it_is_checked_all_the_same(self, changes: dict[str, Any]) -> None:
        with pytest.raises(WireError, match=next(iter(changes))):
            decode_report(document(version=VERSION + 1, **changes))

    def test_a_newer_end_is_bounded_as_well(self) -> None:
        with pytest.raises(WireError, match="expected at most"):
            decode_report(document(version=VERSION + 1, new=" " * REPORT_BYTES))

    def test_what_tells_no_version_is_not_newer(self) -> None:
        answer = {"leader": "o", "resync": False, "activators": 2}

        assert decode_answer(json.dumps(answer).encode()) == Answer("o", False, 2)
        with pytest.raises(WireError, match="new"):
            decode_answer(json.dumps({**answer, "new": 1}).encode())

    def test_what_the_first_version_sent_is_read_for_ever(self) -> None:
        """A field that is added later has a default, or this fails: never change these documents."""
        part = {"revision": "chat-00001", "queued": 1, "in_flight": 2, "last_active": 4.0}
        demand = {
            "queued": 1,
            "in_flight": 2,
            "arrived_total": 3,
            "last_active": 4.0,
            "per_replica": [["pod-1", 2]],
            "per_revision": [part],
        }
        report = {
            "activator": "a-1",
            "started_at": 1.0,
            "sequence": 1,
            "sent_at": 2.0,
            "full": True,
            "leaving": False,
            "demands": {"team-a/chat": demand},
            "gone": ["team-a/old"],
            "woken": ["team-a/chat"],
            "lost": [{"function": "team-a/chat", "replica": "pod-0", "reason": "died"}],
            "causes": {"team-a/chat": "k-alice"},
            "version": 1,
        }
        answer = {"leader": "o-1", "resync": True, "activators": 2, "shares": {"team-a/chat": 7}, "version": 1}

        assert decode_report(json.dumps(report).encode()).demands == {
            CHAT: Demand(1, 2, 3, 4.0, (("pod-1", 2),), (RevisionDemand("chat-00001", 1, 2, 4.0),))
        }
        assert decode_answer(json.dumps(answer).encode()) == Answer("o-1", True, 2, {CHAT: 7}, version=1)


def test_a_message_beyond_the_bound_is_not_parsed() -> None:
    with pytest.raises(WireError, match="expected at most"):
        decode_answer(b" " * (8 * 2**20 + 1))


def test_a_function_without_a_share_of_its_own_is_split_evenly_and_never_shut() -> None:
    shares = Shares(3, {CHAT: 7})
    other = FunctionId("team-a", "other")
    assert shares.bound(CHAT, 1000) == 7
    assert shares.bound(other, 1000) == 333
    assert shares.bound(other, 2) == 1
    assert Shares().bound(other, 1000) == 1000
