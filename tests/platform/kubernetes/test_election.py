"""Who may lead, by what was last seen of the lease; and what becomes of a leader that hangs, sleeps or is cut off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pilotlight.platform.kubernetes.election import LEASE_SECONDS, RENEW_SECONDS, Election, Sighting, free
from pilotlight.platform.kubernetes.errors import UnreachableError
from pilotlight.platform.kubernetes.kinds import LEASE

if TYPE_CHECKING:
    from tests.platform.kubernetes.conftest import ScriptedApi

WHERE = ("system", "operator")
Until = Callable[[Callable[[], bool], str], None]


@pytest.mark.parametrize(
    ("seen", "now", "verdict"),
    [
        (None, 0.0, True),
        (Sighting("", "1", 0.0), 0.0, True),
        (Sighting("me", "1", 0.0), 0.0, True),
        (Sighting("other", "1", 0.0), LEASE_SECONDS - 0.1, False),
        (Sighting("other", "1", 0.0), float(LEASE_SECONDS), True),
    ],
)
def test_a_lease_is_free_when_nobody_holds_it_or_it_has_not_changed_for_long(
    seen: Sighting | None, now: float, verdict: bool
) -> None:
    assert free(seen, "me", now) is verdict


def test_a_leader_stops_before_another_may_begin() -> None:
    assert RENEW_SECONDS < LEASE_SECONDS


class Candidate:
    """One election and what it has said."""

    def __init__(self, api: Any, clock: Any, name: str) -> None:
        self.won, self.lost = threading.Event(), threading.Event()
        self.election = Election(api, *WHERE, name, clock, self.won.set, self.lost.set)


@pytest.fixture
def candidate(api: ScriptedApi, clock: Any) -> Iterator[Callable[[str], Candidate]]:
    """candidate(name), that runs."""
    with ExitStack() as stack:

        def start(name: str) -> Candidate:
            made = Candidate(api, clock, name)
            made.election.start()
            stack.callback(made.election.close)
            return made

        yield start


def holder_of(api: ScriptedApi) -> str:
    return str(api.get(LEASE, *WHERE)["spec"]["holderIdentity"])


def test_the_first_leads_and_lets_go_on_the_way_out(api: ScriptedApi, candidate: Callable[[str], Candidate]) -> None:
    first = candidate("a")
    assert first.won.wait(30)
    assert holder_of(api) == "a"

    first.election.close()

    assert holder_of(api) == ""
    assert not first.lost.is_set()
    assert candidate("b").won.wait(30)


def test_a_leader_whose_call_hangs_stops_leading_in_time(
    api: ScriptedApi, clock: Any, candidate: Callable[[str], Candidate]
) -> None:
    hangs, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        go_on.wait(60)

    leader = candidate("a")
    assert leader.won.wait(30)
    api.before["get"] = hang
    assert hangs.wait(30)

    clock.time += RENEW_SECONDS + 0.1

    try:
        assert leader.lost.wait(30), "it led on although it could not renew"
        assert not leader.election.leads
    finally:
        go_on.set()


def test_one_that_was_late_to_renew_does_not_lead_again(
    api: ScriptedApi, clock: Any, candidate: Callable[[str], Candidate]
) -> None:
    leader = candidate("a")
    assert leader.won.wait(30)

    def late() -> None:
        clock.time += RENEW_SECONDS + 0.1
        assert leader.lost.wait(30)

    api.before["patch"] = late
    assert leader.lost.wait(30)
    leader.election.close()

    assert not leader.election.leads
    assert holder_of(api) == "", "what was written too late is let go of"


def test_a_leader_that_finds_another_name_in_the_lease_stops_at_once(
    api: ScriptedApi, candidate: Callable[[str], Candidate]
) -> None:
    leader = candidate("a")
    assert leader.won.wait(30)

    api.patch(LEASE, *WHERE, {"spec": {"holderIdentity": "b"}})

    assert leader.lost.wait(30)
    leader.election.close()
    assert holder_of(api) == "b"


def test_a_leader_that_slept_does_not_wipe_out_the_next_ones_name(
    api: ScriptedApi, candidate: Callable[[str], Candidate]
) -> None:
    leader = candidate("a")
    assert leader.won.wait(30)
    api.patch(LEASE, *WHERE, {"spec": {"holderIdentity": "b"}})

    leader.election.close()

    assert holder_of(api) == "b"


def test_a_server_that_is_away_for_less_than_the_lease_costs_nothing(
    api: ScriptedApi, clock: Any, candidate: Callable[[str], Candidate], until: Until
) -> None:
    leader = candidate("a")
    assert leader.won.wait(30)
    api.failing["get"] = UnreachableError("GET", 0, "NoAnswer", "refused")
    clock.time += RENEW_SECONDS - 1.0
    tried = len(api.calls)
    until(lambda: len(api.calls) > tried, "a try to renew")

    del api.failing["get"]
    for _ in range(2):  # the second one shows that the first one counted
        renewed = renewals(api)
        until(partial(renewed_since, api, renewed), "a renewal")
        clock.time += RENEW_SECONDS - 1.0

    assert not leader.lost.is_set()


def renewals(api: ScriptedApi) -> int:
    return sum(verb == "patch" for verb, _, _ in api.calls)


def renewed_since(api: ScriptedApi, count: int) -> bool:
    return renewals(api) > count
