"""The node cache's choice of what goes: a law over all caches, and its order by example."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.eviction import CacheEntry, CacheFullError, choose_evictions

_ENTRIES = st.lists(
    st.builds(
        CacheEntry,
        name=st.uuids().map(str),
        size=st.integers(0, 100),
        used_at=st.floats(0, 1e9),
        in_use=st.booleans(),
    ),
    max_size=12,
)


@given(_ENTRIES, st.integers(0, 200), st.integers(0, 500))
def test_what_is_left_and_what_comes_fit_the_budget_and_nothing_in_use_goes(
    entries: list[CacheEntry], needed: int, budget: int
) -> None:
    held = sum(entry.size for entry in entries if entry.in_use)
    if held + needed > budget:
        with pytest.raises(CacheFullError):
            choose_evictions(entries, needed, budget)
        return
    chosen = choose_evictions(entries, needed, budget)
    left = [entry for entry in entries if entry not in chosen]
    assert sum(entry.size for entry in left) + needed <= budget
    assert not any(entry.in_use for entry in chosen)


@given(_ENTRIES, st.integers(0, 200), st.integers(0, 500))
def test_nothing_goes_that_was_used_after_something_that_stays_and_the_last_to_go_was_needed(
    entries: list[CacheEntry], needed: int, budget: int
) -> None:
    try:
        chosen = choose_evictions(entries, needed, budget)
    except CacheFullError:
        return
    stays = [entry.used_at for entry in entries if entry not in chosen and not entry.in_use]
    assert all(entry.used_at <= used_at for entry in chosen for used_at in stays)
    if chosen:
        without_the_last = sum(entry.size for entry in entries if entry not in chosen[:-1])
        assert without_the_last + needed > budget


def test_a_model_that_cannot_fit_says_how_much_is_held_and_what_to_do() -> None:
    with pytest.raises(
        CacheFullError, match=r"needs 50 bytes .* budget is 100 bytes, and models in use hold 60; raise"
    ):
        choose_evictions([CacheEntry("a", 60, 0, True), CacheEntry("b", 40, 0, False)], 50, 100)
