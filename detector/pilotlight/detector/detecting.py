"""Many revisions, one window at a time: rows in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pilotlight.detector.alarming import Alarming
from pilotlight.detector.attribution import contributions
from pilotlight.detector.metrics import Role
from pilotlight.detector.model import Model, Profile, score, stacked
from pilotlight.detector.verdict import Verdict, verdict
from pilotlight.detector.watching import Watch

Rows = NDArray[np.float64]
Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]

IDLE_SHARE = 0.5
"""Pressure of at most so much of its usual is little."""


class Detector:
    """Judges all revisions at once, so that a tick of a thousand costs about what one does.

    Args:
        model: The trained model.
        profiles: Of each revision, in the order of the rows; for one without a history, `model.prior`.
        alarming: How scores become alarms.
        roles: Of the metrics, by name.
    """

    def __init__(
        self, model: Model, profiles: Sequence[Profile], alarming: Alarming, roles: Mapping[str, Role]
    ) -> None:
        self._model, self._roles = model, roles
        self._all = stacked(profiles)
        self._levels = np.array([one.level for one in profiles])
        self._watch = Watch(alarming, np.array([one.usual for one in profiles]))
        self._recent = np.full((alarming.persistence.n, len(profiles), len(model.columns.judged)), np.nan)
        self._judged = [model.names[place] for place in model.columns.judged]
        self._pressure = [place for place, name in enumerate(model.names) if roles.get(name) is Role.PRESSURE]

    def step(self, rows: Rows) -> list[Verdict]:
        """The verdict on each revision's next window; `rows` of shape (revisions, metrics), NaN where unknown."""
        found = self._model.surprises(rows, self._all)
        self._recent = np.concatenate((self._recent[1:], found[None]))
        excess = self._watch.step(score(found))
        idle = self._idle(rows)
        told = zip(excess.tolist(), self._levels.tolist(), idle.tolist(), strict=True)
        return [
            verdict(
                above,
                level,
                contributions(self._recent[:, place], self._judged) if above > level else {},
                self._roles,
                idle=little,
            )
            for place, (above, level, little) in enumerate(told)
        ]

    def _idle(self, rows: Rows) -> Flags:
        """Some pressure is known, and none of what is known is above half of its usual."""
        pressure = rows[:, self._pressure]
        known = np.isfinite(pressure)
        high = known & (pressure > IDLE_SHARE * self._all.scaling.centre[:, self._pressure])
        return np.asarray(known.any(axis=1) & ~high.any(axis=1))
