"""How many bytes of request bodies are in memory, over all requests, and no more than so many."""

from __future__ import annotations

from types import TracebackType

from pilotlight.activator.errors import memory_full


class Budget:
    """Shared by all requests of one activator; bytes."""

    __slots__ = ("_limit", "_retry_after", "used")

    def __init__(self, limit: int, retry_after: float) -> None:
        self._limit = limit
        self._retry_after = retry_after
        self.used = 0

    def charge(self, size: int) -> None:
        """Raises `RefusedError` (429) when that is too much; it counts all the same until it is given back."""
        self.used += size
        if self.used > self._limit:
            raise memory_full(self._limit, self._retry_after)


class Share:
    """One request's part of the budget, given back at the end of its block."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def __enter__(self) -> Share:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.becomes(0)

    def add(self, size: int) -> None:
        self._size += size
        self._budget.charge(size)

    def becomes(self, size: int) -> None:
        """What was read has been replaced by something of that size, or by nothing."""
        self._budget.used += size - self._size
        self._size = size
