"""The batch's order and timing, with time as a number."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.simulated.batch import Batch, PrefixCache
from pilotlight.runtime.simulated.sequence import Limits, Sequence
from pilotlight.runtime.simulated.timing import Timing
from pilotlight.runtime.simulated.tokens import Continuation

_TIMING = Timing(prefill_base=1.0, prefill_token=0.1, decode_base=2.0, decode_stream=0.5)


def _sequence(prompt: int, tokens: int) -> Sequence:
    ids = tuple(range(prompt))
    return Sequence(ids, Continuation(ids, 0, 1), Limits(tokens, ignore_eos=True))


def _drain(batch: Batch, now: float = 0.0) -> list[tuple[float, Sequence]]:
    """Follow the batch's own events to the end: when each token was made, and by whom."""
    made = []
    while (due := batch.next_event()) is not None:
        now = max(now, due)
        made += [(now, sequence) for sequence, _ in batch.advance(now)]
    return made


def test_a_lone_request_follows_both_laws_to_the_second() -> None:
    batch = Batch(_TIMING, 4, None)
    batch.add(_sequence(prompt=10, tokens=4), 0.0)

    assert [when for when, _ in _drain(batch)] == pytest.approx([2.0, 4.5, 7.0, 9.5])


def test_streams_that_decode_together_take_the_same_steps() -> None:
    batch = Batch(_TIMING, 4, None)
    both = [_sequence(10, 3), _sequence(10, 3)]
    for sequence in both:
        batch.add(sequence, 0.0)
    made = _drain(batch)

    for sequence in both:
        assert [when for when, maker in made if maker is sequence] == pytest.approx([2.0, 5.0, 8.0])


def test_a_step_takes_longer_for_each_token_of_its_streams() -> None:
    batch = Batch(replace(_TIMING, decode_token=0.1), 4, None)
    batch.add(_sequence(prompt=10, tokens=3), 0.0)

    assert [when for when, _ in _drain(batch)] == pytest.approx([2.0, 2.0 + 2.5 + 1.1, 2.0 + 5.0 + 1.1 + 1.2])


def test_a_machine_that_becomes_slower_keeps_what_is_planned() -> None:
    batch = Batch(_TIMING, 4, None)
    batch.add(_sequence(prompt=10, tokens=3), 0.0)
    batch.advance(0.0)
    batch.timing = replace(_TIMING, scale=2.0)

    assert [when for when, _ in _drain(batch)] == pytest.approx([2.0, 7.0, 12.0])


def test_the_longest_waiting_gets_the_free_slot() -> None:
    batch = Batch(_TIMING, 1, None)
    first, second, third = (_sequence(0, 1) for _ in range(3))
    for sequence in (first, second, third):
        batch.add(sequence, 0.0)
    batch.advance(0.0)

    assert (batch.running, batch.waiting) == (1, 2)
    assert [maker for _, maker in _drain(batch)] == [first, second, third]
    assert second.admitted_at - second.arrived_at == pytest.approx(1.0)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=30), st.integers(1, 5))
def test_every_request_is_served_and_slots_are_never_exceeded(work: list[tuple[int, int]], slots: int) -> None:
    batch = Batch(_TIMING, slots, None)
    sequences = [_sequence(prompt, tokens) for prompt, tokens in work]
    for sequence in sequences:
        batch.add(sequence, 0.0)
    while (due := batch.next_event()) is not None:
        batch.advance(due)
        assert batch.running <= slots
        assert batch.waiting == 0 or batch.running == slots

    assert [sequence.count for sequence in sequences] == [tokens for _, tokens in work]
    admissions = [sequence.admitted_at for sequence in sequences]
    assert admissions == sorted(admissions)


@given(st.data(), st.integers(1, 4))
def test_cancelling_frees_slots_wherever_a_request_is(data: st.DataObject, slots: int) -> None:
    batch = Batch(_TIMING, slots, None)
    sequences = [_sequence(5, 4) for _ in range(10)]
    for sequence in sequences:
        batch.add(sequence, 0.0)
    for _ in range(data.draw(st.integers(0, 8))):
        batch.advance(batch.next_event() or 0.0)
    gone = data.draw(st.sets(st.sampled_from(sequences)))
    batch.cancel(gone)
    frozen = {sequence: sequence.count for sequence in gone}
    _drain(batch, 100.0)

    assert (batch.running, batch.waiting) == (0, 0)
    assert all(sequence.count == 4 for sequence in sequences if sequence not in gone)
    assert {sequence: sequence.count for sequence in gone} == frozen


def test_a_stalled_request_holds_its_slot_and_never_speaks() -> None:
    batch = Batch(_TIMING, 1, None)
    stalled = _sequence(1, 1)
    stalled.stalled = True
    batch.add(stalled, 0.0)
    batch.add(_sequence(1, 1), 0.0)

    assert _drain(batch) == []
    assert (batch.running, batch.waiting) == (1, 1)
    batch.cancel([stalled])
    assert len(_drain(batch)) == 1


def test_lost_time_is_not_made_up_in_a_burst() -> None:
    batch = Batch(_TIMING, 1, None)
    batch.add(_sequence(0, 9), 0.0)
    batch.advance(0.0)
    batch.advance(1.0)
    batch.advance(100.0)

    assert batch.advance(100.0) != []
    assert batch.advance(100.0) == []
    assert batch.next_event() == pytest.approx(102.5)


def test_a_prompt_seen_before_starts_sooner() -> None:
    batch = Batch(_TIMING, 1, PrefixCache(block_size=4, blocks=100))
    for _ in range(2):
        batch.add(_sequence(10, 1), 0.0)

    # Two whole blocks of four are known the second time: 2 of 10 tokens are left.
    assert [when for when, _ in _drain(batch)] == pytest.approx([2.0, 3.2])


_PROMPTS = st.lists(st.integers(0, 3), min_size=1, max_size=40).map(tuple)


@given(_PROMPTS, _PROMPTS, st.integers(1, 8))
def test_hits_are_whole_blocks_of_a_shared_beginning(
    first: tuple[int, ...], second: tuple[int, ...], size: int
) -> None:
    cache = PrefixCache(size, 1000)
    assert cache.admit(first) == 0
    hit = cache.admit(second)

    assert hit % size == 0
    assert hit < len(second)
    assert first[:hit] == second[:hit]


def test_blocks_used_least_recently_are_forgotten() -> None:
    cache = PrefixCache(1, 3)
    cache.admit((1, 2))
    cache.admit((8, 9))
    cache.admit((5, 6))

    assert cache.admit((1, 2)) == 0
