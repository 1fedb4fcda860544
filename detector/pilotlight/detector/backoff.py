"""When to try again after a replica crashed."""

from __future__ import annotations

from pilotlight.detector.values import LONGEST_WAIT_SECONDS, BackOff

FIRST_SECONDS = 1.0


def after_crash(back_off: BackOff, now: float, message: str, served: bool = False) -> BackOff:
    """One more crash: the wait doubles from 1 s up to 5 min; `served`: of a replica that had been ready."""
    wait = min(LONGEST_WAIT_SECONDS, FIRST_SECONDS * 2.0 ** min(back_off.failures, 16))
    return BackOff(back_off.failures + 1, now + wait, message, served)


def after_success() -> BackOff:
    """A replica has served for a while: the next crash is a first one again."""
    return BackOff()
