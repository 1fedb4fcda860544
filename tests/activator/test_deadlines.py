"""`X-Request-Deadline` in its four spellings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.activator.deadlines import remaining
from pilotlight.activator.errors import RefusedError

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        (" 2.5 ", 2.5),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1800000012", 12.0),
        ("1799999990.5", -9.5),
        ("2027-01-15T08:00:30Z", 30.0),
        ("2027-01-15T10:00:30+02:00", 30.0),
        ("0", 0.0),
    ],
)
def test_understood(text: str, seconds: float) -> None:
    assert remaining(text, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "5 s", "1d", "inf", "nan", "1e3", "2027-01-15T08:00:30", "٣", "9" * 40, "30s;"]
)
def test_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(RefusedError, match="expected seconds") as refusal:
        remaining(text, NOW)
    assert (refusal.value.status, refusal.value.param) == (400, "X-Request-Deadline")


@given(st.text(max_size=100))
def test_any_text_is_a_number_or_a_refusal(text: str) -> None:
    try:
        seconds = remaining(text, NOW)
    except RefusedError:
        return
    assert math.isfinite(seconds)
