"""Who may lead, by what was last seen of the lease."""

from __future__ import annotations

import pytest

from pilotlight.platform.kubernetes.election import LEASE_SECONDS, RENEW_SECONDS, Sighting, free


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
