"""When an activator starts a first replica by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.platform.edge.conftest import revision

from pilotlight.activator.values import Demand, RevisionDemand
from pilotlight.platform.edge.failopen import stranded, waiting
from pilotlight.platform.edge.views import Endpoint

if TYPE_CHECKING:
    from tests.platform.edge.conftest import MakeView

OLD, NEW = "chat-00001", "chat-00002"
POD = Endpoint("a", "10.0.0.1", ready=False, leaving=False)


@pytest.mark.parametrize(
    ("waited", "silent", "verdict"),
    [(4.9, 60.0, False), (5.0, 60.0, True), (9.9, 0.0, False), (10.0, 0.0, True)],
)
def test_a_leader_that_answers_is_given_twice_the_time(
    make_view: MakeView, waited: float, silent: float, verdict: bool
) -> None:
    assert stranded(make_view(revision(2)), NEW, waited, silent, 5.0) is verdict


def test_nobody_is_stranded_where_a_pod_is_there(make_view: MakeView) -> None:
    view = make_view(revision(2), revision(1), pods={NEW: [POD]})

    assert not stranded(view, NEW, 60.0, 60.0, 5.0)
    assert stranded(view, OLD, 60.0, 60.0, 5.0)


@pytest.mark.parametrize("changes", [{"failure": "no memory"}, {"autoscaler": "kpa"}])
def test_what_fails_or_is_anothers_to_start_is_left_alone(make_view: MakeView, changes: dict[str, str]) -> None:
    assert not stranded(make_view(revision(2, **changes)), NEW, 60.0, 60.0, 5.0)


def test_a_revision_that_nobody_has_told_of_is_left_alone(make_view: MakeView) -> None:
    assert not stranded(make_view(revision(2)), OLD, 60.0, 60.0, 5.0)


def test_requests_wait_for_revisions_with_a_queue() -> None:
    parts = (RevisionDemand(OLD, 0, 3), RevisionDemand(NEW, 2, 0))

    assert list(waiting(Demand(2, 3, 5, 0.0, (), parts))) == [NEW]
