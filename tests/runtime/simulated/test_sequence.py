"""When a sequence ends, and what its reader gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.simulated.sequence import Delta, Limits, Sequence
from pilotlight.runtime.simulated.tokens import END_OF_TURN, Continuation, decode, encode

_PROMPT = tuple(encode("tell me"))


def _sequence(limits: Limits, seed: int = 1, mean: int = 20) -> Sequence:
    return Sequence(_PROMPT, Continuation(_PROMPT, seed, mean), limits)


def _run(sequence: Sequence, read_every: int = 1) -> list[Delta]:
    """Produce until the end, reading now and then."""
    deltas: list[Delta | None] = []
    for step in range(10_000):
        sequence.produce(float(step))
        if sequence.finish_reason or step % read_every == 0:
            deltas.append(sequence.take())
        if sequence.finish_reason:
            break
    return [delta for delta in deltas if delta is not None]


def _text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@given(st.integers(0, 1000), st.integers(1, 60))
def test_it_makes_no_more_than_the_most(seed: int, most: int) -> None:
    deltas = _run(_sequence(Limits(most), seed))
    ids = [token for delta in deltas for token in delta.ids]

    assert len(ids) <= most
    assert deltas[-1].finish_reason == ("stop" if ids[-1] == END_OF_TURN else "length")


@given(st.integers(0, 1000), st.integers(0, 60))
def test_it_does_not_end_by_itself_before_the_least(seed: int, least: int) -> None:
    deltas = _run(_sequence(Limits(200, min_tokens=least), seed, mean=3))

    assert sum(len(delta.ids) for delta in deltas) >= least


def test_told_to_ignore_the_end_it_goes_on_to_the_most() -> None:
    deltas = _run(_sequence(Limits(50, ignore_eos=True), mean=1))

    assert sum(len(delta.ids) for delta in deltas) == 50
    assert deltas[-1].finish_reason == "length"


@given(st.integers(0, 200), st.integers(1, 9), st.integers(0, 60), st.integers(1, 12))
def test_a_stop_string_cuts_the_text_however_it_is_read(seed: int, read_every: int, at: int, length: int) -> None:
    plain = _text(_run(_sequence(Limits(20, ignore_eos=True), seed)))
    stop = plain[at : at + length]
    deltas = _run(_sequence(Limits(20, ignore_eos=True, stop=(stop,)), seed), read_every)

    assert _text(deltas) == plain[: plain.index(stop)]
    assert (deltas[-1].finish_reason, deltas[-1].stop_reason) == ("stop", stop)


def test_a_stop_string_can_be_kept() -> None:
    plain = _text(_run(_sequence(Limits(20, ignore_eos=True))))
    deltas = _run(_sequence(Limits(20, ignore_eos=True, stop=(plain[7:12],), include_stop=True)))

    assert _text(deltas) == plain[:12]


def test_a_stop_token_ends_it_and_has_no_text() -> None:
    ids = [token for delta in _run(_sequence(Limits(20, ignore_eos=True))) for token in delta.ids]
    deltas = _run(_sequence(Limits(20, ignore_eos=True, stop_token_ids=frozenset({ids[4]}))))

    assert [token for delta in deltas for token in delta.ids] == ids[:5]
    assert _text(deltas) == decode(ids[:4])
    assert deltas[-1].stop_reason == ids[4]


@given(st.integers(0, 100), st.integers(1, 9))
def test_text_and_ids_agree_however_it_is_read(seed: int, read_every: int) -> None:
    deltas = _run(_sequence(Limits(40), seed), read_every)

    assert _text(deltas) == decode([token for delta in deltas for token in delta.ids])


@pytest.mark.parametrize("continuation", [None, Continuation(_PROMPT, 1, 1)], ids=["pooling", "generating"])
def test_the_end_is_told_once(continuation: Continuation | None) -> None:
    sequence = Sequence(_PROMPT, continuation, Limits(1))
    assert sequence.take() is None
    sequence.produce(1.0)

    assert sequence.take() is not None
    assert sequence.take() is None
