"""The database away: tried again with growing waits, and said once."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from pilotlight.platform.ledger.outage import LONGEST_SECONDS, Outage


def test_an_outage_is_said_once_and_tried_again_ever_more_rarely(clock: Any) -> None:
    outage = Outage(clock)
    waits = []
    with capture_logs() as said:
        assert not outage.waits()
        for _ in range(6):
            outage.failed(OSError("away"))
            began = clock.time
            while outage.waits():
                clock.time += 0.25
            waits.append(clock.time - began)
        outage.over(0)
        outage.over(0)

    assert waits == [0.5, 1.0, 2.0, 4.0, LONGEST_SECONDS, LONGEST_SECONDS]
    assert [entry["log_level"] for entry in said] == ["error", "info"]
    assert said[1]["seconds"] == round(sum(waits))


def test_the_next_outage_begins_anew(clock: Any) -> None:
    outage = Outage(clock)
    for _ in range(6):
        outage.failed(OSError("away"))
    outage.over(0)
    assert not outage.waits()
    outage.failed(OSError("away"))

    clock.time += 0.5
    assert not outage.waits()
