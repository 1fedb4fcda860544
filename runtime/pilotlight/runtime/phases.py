"""The phases of one start: when each began and ended, and how far it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pilotlight.runtime.spec import Phase, PhaseReport

ORDER = tuple(Phase)


class PhaseLog:
    """Phases begin in order, each ending the one before; going back is ignored, so a late log line does no harm."""

    def __init__(self, clock: Callable[[], float], created_at: float) -> None:
        """`created_at` (Unix time, 0: now) is when the phase `schedule` began; `clock` gives Unix time."""
        self._clock = clock
        self._reports = [PhaseReport(Phase.SCHEDULE, min(created_at, clock()) if created_at > 0 else clock())]

    @property
    def reports(self) -> tuple[PhaseReport, ...]:
        return tuple(self._reports)

    @property
    def current(self) -> Phase:
        return self._reports[-1].name

    def begin(self, phase: Phase, detail: str = "") -> bool:
        """End the current phase and begin a later one; False when it is not later. Phases between take no time."""
        if ORDER.index(phase) <= ORDER.index(self.current):
            return False
        now = max(self._clock(), self._reports[-1].start)
        self.close(now)
        skipped = ORDER[ORDER.index(self.current) + 1 : ORDER.index(phase)]
        self._reports += [PhaseReport(name, now, now, 1.0) for name in skipped]
        done = phase is Phase.READY
        self._reports.append(PhaseReport(phase, now, now if done else None, 1.0 if done else None, detail))
        return True

    def progress(self, value: float, detail: str = "") -> None:
        """How far the current phase is, 0..1; it never goes back."""
        last = self._reports[-1]
        if last.end is None:
            value = max(min(value, 1.0), last.progress or 0.0)
            self._reports[-1] = dataclasses.replace(last, progress=value, detail=detail or last.detail)

    def close(self, now: float | None = None) -> None:
        """End the current phase, as complete where a later one follows, as it stands where the start failed."""
        last = self._reports[-1]
        if last.end is None:
            progress = last.progress if now is None else 1.0
            self._reports[-1] = dataclasses.replace(
                last, end=max(self._clock(), last.start) if now is None else now, progress=progress
            )
