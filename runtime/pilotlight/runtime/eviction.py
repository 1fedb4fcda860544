"""Which models leave a full node cache: the least recently used ones that nobody uses. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CacheEntry:
    """One model in the cache, or the place reserved for one that is being fetched."""

    name: str
    size: int  # bytes
    used_at: float  # Unix time of the last use
    in_use: bool


class CacheFullError(Exception):
    """A model does not fit the budget beside those in use."""

    def __init__(self, needed: int, in_use: int, budget: int) -> None:
        super().__init__(
            f"the model needs {needed} bytes of the node cache, whose budget is {budget} bytes, and models in use hold"
            f" {in_use}; raise the budget or stop functions that use other models"
        )
        self.needed, self.in_use, self.budget = needed, in_use, budget


def choose_evictions(entries: Iterable[CacheEntry], needed: int, budget: int) -> tuple[CacheEntry, ...]:
    """The fewest least recently used entries whose going leaves `needed` bytes of `budget` free.

    Raises CacheFullError when not even all unused ones are enough; then nothing should be evicted.
    """
    entries = tuple(entries)
    held = sum(entry.size for entry in entries if entry.in_use)
    if held + needed > budget:
        raise CacheFullError(needed, held, budget)
    excess = sum(entry.size for entry in entries) + needed - budget
    chosen: list[CacheEntry] = []
    for entry in sorted((entry for entry in entries if not entry.in_use), key=lambda entry: entry.used_at):
        if excess <= 0:
            break
        chosen.append(entry)
        excess -= entry.size
    return tuple(chosen)
