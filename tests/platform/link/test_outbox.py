"""What an activator tells next, without a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pilotlight.activator.values import FunctionId
from pilotlight.platform.link.outbox import NEWS, Outbox
from pilotlight.platform.link.wire import REASON, Lost, Report

if TYPE_CHECKING:
    from tests.platform.link.conftest import Work

CHAT = FunctionId("team-a", "chat")
OTHER = FunctionId("team-a", "other")


@pytest.fixture
def outbox() -> Outbox:
    return Outbox("a-1", 1.0, lambda function: f"key-of-{function.name}")


def told(outbox: Outbox, work: Work) -> Report:
    report = outbox.compose(work, 2.0, heartbeat=True)
    assert report is not None
    outbox.answered(report, resync=False)
    return report


def test_all_is_told_first_then_what_changed(outbox: Outbox, work: Work) -> None:
    work.put(CHAT)
    work.put(OTHER)
    first = told(outbox, work)
    assert (first.full, set(first.demands)) == (True, {CHAT, OTHER})
    work.put(CHAT, queued=1)
    work.drop(OTHER)
    then = told(outbox, work)
    assert (then.full, then.demands, then.gone) == (False, {CHAT: work.demands[CHAT]}, (OTHER,))
    assert then.sequence == first.sequence + 1


def test_at_rest_there_is_nothing_to_tell_but_a_heartbeat_and_nothing_is_looked_through(
    outbox: Outbox, work: Work
) -> None:
    for number in range(100):
        work.put(FunctionId("team-a", f"f{number}"))
    told(outbox, work)
    asked = work.asked
    assert outbox.compose(work, 2.0, heartbeat=False) is None
    heartbeat = told(outbox, work)
    assert (heartbeat.full, heartbeat.demands) == (False, {})
    assert work.asked == asked


@pytest.mark.parametrize("resync", [False, True], ids=["unanswered", "asked for"])
def test_all_is_told_again_after_a_report_that_may_be_lost_or_where_the_leader_asks(
    outbox: Outbox, work: Work, resync: bool
) -> None:
    work.put(CHAT)
    told(outbox, work)
    work.put(OTHER, queued=2)
    lost = outbox.compose(work, 2.0, heartbeat=False)
    assert lost is not None
    if resync:
        outbox.answered(lost, resync=True)
    else:
        outbox.failed()
    again = told(outbox, work)
    assert (again.full, again.demands) == (True, work.demands)


def test_wakes_and_losses_are_told_until_they_are_answered(outbox: Outbox, work: Work) -> None:
    work.put(CHAT, queued=1)
    outbox.wake(CHAT)
    outbox.wake(CHAT)
    outbox.lost(CHAT, "pod-1", "x" * 1000)
    assert outbox.urgent
    report = outbox.compose(work, 2.0, heartbeat=False)
    assert report is not None
    outbox.failed()
    outbox.wake(OTHER)
    again = told(outbox, work)
    assert (set(again.woken), again.lost) == ({CHAT, OTHER}, (Lost(CHAT, "pod-1", "x" * REASON),))
    assert not outbox.urgent


def test_what_comes_while_a_report_is_under_way_goes_with_the_next(outbox: Outbox, work: Work) -> None:
    work.put(CHAT)
    first = outbox.compose(work, 2.0, heartbeat=False)
    assert first is not None
    work.put(OTHER)
    outbox.wake(OTHER)
    outbox.answered(first, resync=False)
    then = told(outbox, work)
    assert (set(then.demands), then.woken) == ({OTHER}, (OTHER,))


def test_news_are_bounded_and_the_newest_stay(outbox: Outbox, work: Work) -> None:
    for number in range(NEWS + 5):
        outbox.lost(CHAT, f"pod-{number}", "died")
    losses = told(outbox, work).lost
    assert len(losses) == NEWS
    assert losses[-1].replica == f"pod-{NEWS + 4}"


def test_causes_are_told_of_functions_that_wait_or_are_woken(outbox: Outbox, work: Work) -> None:
    third = FunctionId("team-a", "third")
    work.put(CHAT, queued=1)
    work.put(OTHER, in_flight=1)
    work.put(third)
    outbox.wake(third)
    assert told(outbox, work).causes == {CHAT: "key-of-chat", third: "key-of-third"}
