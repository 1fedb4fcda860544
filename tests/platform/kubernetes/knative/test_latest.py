"""What was written counts until the mirror shows something else."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from pilotlight.platform.kubernetes.kinds import POD_AUTOSCALER, Key
from pilotlight.platform.kubernetes.knative.latest import LASTS_SECONDS, Latest

KEY = Key("team", "chat-00001")


class Clock(Protocol):
    time: float

    def now(self) -> float: ...

    def monotonic(self) -> float: ...


def version(number: int) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(number)}}


@pytest.fixture
def latest(clock: Clock) -> Latest:
    latest = Latest(clock)
    latest.of(POD_AUTOSCALER, KEY, version(1))
    latest.put(POD_AUTOSCALER, KEY, version(5))
    return latest


def test_an_answer_stands_for_a_mirror_that_is_behind(latest: Latest) -> None:
    assert latest.of(POD_AUTOSCALER, KEY, version(1)) == version(5)


@pytest.mark.parametrize("shown", [version(3), version(5), version(9), None])
def test_whatever_else_the_mirror_shows_counts_from_then_on(latest: Latest, shown: Any) -> None:
    assert latest.of(POD_AUTOSCALER, KEY, shown) == shown
    assert latest.of(POD_AUTOSCALER, KEY, version(1)) == version(1)


def test_a_second_write_over_the_same_copy_counts_as_well(latest: Latest) -> None:
    latest.of(POD_AUTOSCALER, KEY, version(1))
    latest.put(POD_AUTOSCALER, KEY, version(6))

    assert latest.of(POD_AUTOSCALER, KEY, version(1)) == version(6)


def test_an_object_that_was_made_counts_until_it_shows(clock: Clock) -> None:
    latest = Latest(clock)
    assert latest.of(POD_AUTOSCALER, KEY, None) is None
    latest.put(POD_AUTOSCALER, KEY, version(2))

    assert latest.of(POD_AUTOSCALER, KEY, None) == version(2)


def test_an_answer_does_not_count_for_ever(latest: Latest, clock: Clock) -> None:
    """One that was made and deleted between two looks would never be made again."""
    clock.time += LASTS_SECONDS

    assert latest.of(POD_AUTOSCALER, KEY, version(1)) == version(1)


def test_objects_that_are_gone_are_forgotten(latest: Latest) -> None:
    latest.keep(set())

    assert latest.of(POD_AUTOSCALER, KEY, version(1)) == version(1)
