"""A real database per test, and a clock that moves when told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotlight.platform.database.connection import Database


class ManualClock:
    """Implements the activator's `Clock`."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.time = now
        self.set_by = 0.0
        """How far somebody has set the wall clock."""

    def now(self) -> float:
        return self.time + self.set_by

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.at(tmp_path / "pilotlight.db")
    yield database
    database.close()
