"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works with a limit, or could not be looked at."""
    PROBLEM = "problem"
    """Something that the platform needs does not work."""


@dataclass(frozen=True)
class Finding:
    """One check's answer; `next` is empty where there is nothing to do."""

    check: str
    level: Level
    found: str
    expected: str
    next: str = ""


def ok(check: str, found: str, expected: str) -> Finding:
    return Finding(check, Level.OK, found, expected)


def warning(check: str, found: str, expected: str, what_next: str) -> Finding:
    return Finding(check, Level.WARNING, found, expected, what_next)


def problem(check: str, found: str, expected: str, what_next: str) -> Finding:
    return Finding(check, Level.PROBLEM, found, expected, what_next)
