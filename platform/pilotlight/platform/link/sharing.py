"""One queue bound for all activators: pure arithmetic, and the record of what each was told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pilotlight.activator.values import FunctionId


def shares(limit: int, queued: Mapping[str, int]) -> dict[str, int]:
    """Each activator's bound of one function's queue: what it holds, and an even part of the room that is left.

    An activator that gets more than its part of the requests so approaches the whole room within a few reports, while
    the others keep some. Together they never exceed `limit`, unless more is held already; then nobody gets any.
    """
    free = max(0, limit - sum(queued.values()))
    each, left = divmod(free, max(1, len(queued)))
    first = sorted(queued, key=lambda name: (queued[name], name))[:left]
    return {name: held + each + (name in first) for name, held in queued.items()}


class Grants:
    """What each activator may hold by its last answer: another one's share is not given out before it is told so."""

    def __init__(self, limit: Callable[[FunctionId], int]) -> None:
        self._limit = limit
        self._told: dict[FunctionId, dict[str, int]] = {}  # where it is not the even part

    def answer(self, activator: str, queued: Mapping[str, Mapping[FunctionId, int]]) -> dict[FunctionId, int]:
        """The shares to tell `activator`; `queued`: requests that wait, by activator, of all that are heard from.

        Functions that are left out are split evenly.
        """
        waiting: set[FunctionId] = set().union(*queued.values())
        answered = {
            function: share
            for function in waiting | self._told.keys()
            if (share := self._grant(activator, function, queued)) != self._even(function, len(queued))
        }
        self._note(activator, answered, queued.keys())
        return answered

    def _grant(self, activator: str, function: FunctionId, queued: Mapping[str, Mapping[FunctionId, int]]) -> int:
        held = {name: waiting.get(function, 0) for name, waiting in queued.items()}
        limit, even, told = self._limit(function), self._even(function, len(held)), self._told.get(function, {})
        fair = shares(limit, held)[activator] if any(held.values()) else even
        others = sum(told.get(name, even) for name in held if name != activator)
        return max(held[activator], min(fair, limit - others))

    def _even(self, function: FunctionId, activators: int) -> int:
        return even_part(self._limit(function), activators)

    def _note(self, activator: str, answered: Mapping[FunctionId, int], present: Iterable[str]) -> None:
        here = set(present)
        for function, share in answered.items():
            self._told.setdefault(function, {})[activator] = share
        for function in list(self._told):
            told = self._told[function]
            kept = {name: share for name, share in told.items() if name in here}
            if function not in answered:
                kept.pop(activator, None)
            self._told[function] = kept
            if not kept:
                del self._told[function]


def even_part(limit: int, activators: int) -> int:
    """Of a function that nobody waits for; at least one, or nobody could ever wake it."""
    return max(1, limit // activators)
