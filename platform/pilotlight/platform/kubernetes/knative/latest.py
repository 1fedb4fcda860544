"""What was written and its mirror does not show yet, so that nothing is written twice."""

from __future__ import annotations

from collections.abc import Collection

from pilotlight.activator.values import Clock
from pilotlight.platform.kubernetes.kinds import Key, Kind, Object

LASTS_SECONDS = 5.0
"""A mirror that is further behind has trouble of its own; writing again does no harm."""


class Latest:
    """`of` and `put` of one object must not be called at once; those of different objects may."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[tuple[Kind, Key], str] = {}
        self._answers: dict[tuple[Kind, Key], tuple[str, float, Object]] = {}

    def of(self, kind: Kind, key: Key, found: Object | None) -> Object | None:
        """The API server's last answer while `found`, the mirror's copy, is still the one that was written over."""
        self._seen[kind, key] = version = found["metadata"]["resourceVersion"] if found is not None else ""
        over, until, answer = self._answers.get((kind, key), ("", 0.0, None))
        if over == version and self._clock.monotonic() < until:
            return answer
        self._answers.pop((kind, key), None)
        return found

    def keep(self, keys: Collection[Key]) -> None:
        """Forget all others."""
        self._seen = {each: seen for each, seen in self._seen.items() if each[1] in keys}
        self._answers = {each: answer for each, answer in self._answers.items() if each[1] in keys}

    def put(self, kind: Kind, key: Key, answer: Object) -> None:
        """What the API server answered to a write of what `of` was last asked for."""
        until = self._clock.monotonic() + LASTS_SECONDS
        self._answers[kind, key] = self._seen[kind, key], until, answer
