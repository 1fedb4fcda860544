"""Why a simulation cannot be run, as data."""

from __future__ import annotations

from pathlib import Path


class SimulationRefused(ValueError):  # noqa: N818 - a verdict, not a failure
    """A simulation cannot be run as it was asked for; the message says why and what would do."""


class TraceRefused(SimulationRefused):
    """A file of arrivals or lengths cannot be used.

    Args:
        file: Which.
        problem: What is wrong, and what was expected.
        line: Where, counted from 1; None: the file as a whole.
        field: The column.
    """

    def __init__(self, file: Path, problem: str, line: int | None = None, field: str = "") -> None:
        where = [str(file)]
        if line is not None:
            where.append(f"line {line}")
        if field:
            where.append(field)
        super().__init__(f"{', '.join(where)}: {problem}")
        self.file = file
        self.problem = problem
        self.line = line
        self.field = field
