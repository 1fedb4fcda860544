"""The laws of the timing model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.runtime.simulated.timing import Timing

_SECONDS = st.floats(0, 10)
_COUNTS = st.integers(0, 100_000)
_STEADY = st.builds(
    Timing,
    prefill_base=_SECONDS,
    prefill_token=_SECONDS,
    decode_base=_SECONDS,
    decode_stream=_SECONDS,
    scale=st.floats(0, 10),
)


@given(_STEADY, _COUNTS, _COUNTS)
def test_time_to_first_token_is_linear_in_the_prompt(timing: Timing, some: int, more: int) -> None:
    apart = timing.prefill_seconds(some + more) - timing.prefill_seconds(some)

    assert apart == pytest.approx(timing.prefill_token * more * timing.scale, rel=1e-6, abs=1e-6)
    assert timing.prefill_seconds(0) == timing.prefill_base * timing.scale


@given(_STEADY, _COUNTS, _COUNTS)
def test_a_step_is_linear_in_its_streams(timing: Timing, some: int, more: int) -> None:
    apart = timing.decode_seconds(some + more) - timing.decode_seconds(some)

    assert apart == pytest.approx(timing.decode_stream * more * timing.scale, rel=1e-6, abs=1e-6)


@given(_STEADY, st.floats(0, 1), _COUNTS, _COUNTS)
def test_jitter_stays_within_its_width(timing: Timing, width: float, streams: int, draw: int) -> None:
    mean = timing.decode_seconds(streams)
    spread = replace(timing, jitter=width).decode_seconds(streams, draw)

    assert mean * (1 - width) - 1e-9 <= spread <= mean * (1 + width) + 1e-9


@given(st.integers(0, 2**63 - 1), _COUNTS)
def test_the_same_seed_and_draw_give_the_same_time(seed: int, draw: int) -> None:
    timing = Timing(jitter=0.5, seed=seed)

    assert timing.prefill_seconds(7, draw) == Timing(jitter=0.5, seed=seed).prefill_seconds(7, draw)


def test_jitter_spreads_evenly_around_the_mean() -> None:
    timing = Timing(jitter=0.2, decode_base=1.0, decode_stream=0.0)
    times = [timing.decode_seconds(1, draw) for draw in range(2000)]

    assert sum(times) / len(times) == pytest.approx(1.0, abs=0.01)
    assert min(times) < 0.85
    assert max(times) > 1.15


@given(st.builds(Timing, scale=st.just(0.0), jitter=st.floats(0, 1)), _COUNTS)
def test_scale_zero_takes_no_time(timing: Timing, amount: int) -> None:
    assert timing.prefill_seconds(amount, amount) == timing.decode_seconds(amount, amount) == 0.0
