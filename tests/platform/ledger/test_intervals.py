"""Replica seconds: intervals touch, never overlap, and sum to the replica's life."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.values import FunctionId
from pilotlight.platform.ledger.intervals import Open, Sight, resume, step
from pilotlight.platform.values import Interval

CHAT = FunctionId("team-a", "chat")


def sight(state: str, replica: str = "r", since: float = 0.0) -> Sight:
    return Sight(replica, CHAT, "chat-00001", state, since, "key-1")


def test_a_life_is_split_where_the_state_changes() -> None:
    moments = [(1.0, "starting"), (2.0, "starting"), (3.0, "serving"), (5.0, "idle"), (9.0, "idle")]
    state = Open()
    closed: list[Interval] = []
    before = 0.0
    for now, name in moments:
        state = step(state, [sight(name)], now, now - before)
        before = now
        closed += state.closed
    state = step(state, [], 10.0, 1.0)
    closed += state.closed

    assert [(part.state, part.start, part.end) for part in closed] == [
        ("starting", 0.0, 3.0),
        ("serving", 3.0, 5.0),
        ("idle", 5.0, 9.0),
    ]
    assert {part.caused_by for part in closed} == {"key-1"}
    assert state.current == {}


def test_an_adopted_replica_goes_on_in_its_last_interval() -> None:
    first = Interval("r", CHAT, "chat-00001", "starting", 0, 3)
    last = Interval("r", CHAT, "chat-00001", "idle", 3, 8)
    gone = Interval("old", CHAT, "chat-00001", "idle", 0, 2)

    state = step(resume([last, first, gone], frozenset({"r"}), 19.0), [sight("idle")], 20.0, 1.0)

    assert state.current == {"r": Interval("r", CHAT, "chat-00001", "idle", 3, 20.0)}


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_is_set_makes_no_seconds_and_loses_none(jump: float) -> None:
    state = step(Open(), [sight("idle", since=100.0)], 100.0, 0.0)
    state = step(state, [sight("idle")], 101.0 + jump, 1.0)
    state = step(state, [sight("serving")], 103.0 + jump, 2.0)

    assert [part.end - part.start for part in state.closed] == [3.0]
    assert state.current["r"].start == state.closed[0].end


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["starting", "serving", "idle", "gone"])), max_size=40))
def test_intervals_of_one_life_touch(steps: list[tuple[float, str]]) -> None:
    now, state = 100.0, Open()
    parts: list[Interval] = []
    for wait, name in steps:
        now += wait
        state = step(state, [] if name == "gone" else [sight(name, since=100.0)], now, wait)
        parts += state.closed
        if name == "gone":
            break
    parts += state.current.values()

    assert all(left.end == right.start for left, right in pairwise(parts))
    assert all(part.end >= part.start for part in parts)
    assert not parts or parts[0].start == 100.0
