"""Durations and byte sizes: parsed with their units, rendered back canonically."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

LONGEST_TEXT = 64  # characters; a number needs no more
LONGEST_DURATION_MS = 365 * 86_400_000
LARGEST_SIZE = 2**60

_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,9})?"
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|h|m|s)")
_DURATION = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m(?!s))?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?")
_BYTES = {
    "Ti": 2**40,
    "Gi": 2**30,
    "Mi": 2**20,
    "Ki": 2**10,
    "T": 10**12,
    "G": 10**9,
    "M": 10**6,
    "k": 10**3,
}
_SIZE = re.compile(rf"({_NUMBER})(Ti|Gi|Mi|Ki|T|G|M|k)?")


class UnitError(ValueError):
    """A text that is not what it should be.

    Args:
        problem: What is wrong with it.
        expected: What would be right, with an example.
        nearest: A text that was probably meant; empty: no guess.
    """

    def __init__(self, problem: str, expected: str, nearest: str = "") -> None:
        super().__init__(f"{problem}; expected {expected}")
        self.problem = problem
        self.expected = expected
        self.nearest = nearest


@dataclass(frozen=True, order=True)
class Duration:
    """A span of time, exact to the millisecond."""

    milliseconds: int

    EXPECTED = "a duration with a unit, as 500ms, 2s, 5m, 1h or 1h30m"

    @property
    def seconds(self) -> float:
        return self.milliseconds / 1000

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Raises `UnitError`; a bare number is refused, because its unit would be a guess."""
        if isinstance(text, Duration):
            return text
        if isinstance(text, int | float) and not isinstance(text, bool):
            raise UnitError(f"{shown(text)} has no unit", cls.EXPECTED, f"{shown(text)}s")
        if not isinstance(text, str) or len(text) > LONGEST_TEXT or not text or not _DURATION.fullmatch(text):
            raise UnitError(f"{shown(text)} is not a duration", cls.EXPECTED)
        total = sum(Fraction(number) * _MILLISECONDS[unit] for number, unit in _DURATION_PART.findall(text))
        if total.denominator != 1:
            raise UnitError(f"{text} is finer than a millisecond", cls.EXPECTED)
        if total > LONGEST_DURATION_MS:
            raise UnitError(f"{text} is too long", "at most 8760h")
        return cls(int(total))

    def __str__(self) -> str:
        if self.milliseconds == 0:
            return "0s"
        left, parts = self.milliseconds, []
        for unit, size in _MILLISECONDS.items():
            count, left = divmod(left, size)
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts)


@dataclass(frozen=True, order=True)
class ByteSize:
    """A number of bytes."""

    bytes: int

    EXPECTED = "a size in bytes, as 4Gi, 512Mi, 500M or 4294967296"

    @classmethod
    def parse(cls, text: object) -> ByteSize:
        """Raises `UnitError`; `Gi` is 2**30 and `G` 10**9, as in Kubernetes."""
        if isinstance(text, ByteSize):
            return text
        if isinstance(text, int) and not isinstance(text, bool):
            return cls._bounded(Fraction(text), shown(text))
        match = _SIZE.fullmatch(text) if isinstance(text, str) and len(text) <= LONGEST_TEXT else None
        if match is None:
            raise UnitError(f"{shown(text)} is not a size", cls.EXPECTED, _nearest_size(text))
        return cls._bounded(Fraction(match[1]) * _BYTES.get(match[2] or "", 1), match[0])

    @classmethod
    def _bounded(cls, size: Fraction, text: str) -> ByteSize:
        if size < 0 or size > LARGEST_SIZE:
            raise UnitError(f"{text} is out of range", "a size between 0 and 1024 * 1024Ti")
        if size.denominator != 1:
            raise UnitError(f"{text} is not a whole number of bytes", cls.EXPECTED)
        return cls(int(size))

    def __str__(self) -> str:
        for suffix, unit in _BYTES.items():
            if self.bytes and self.bytes % unit == 0:
                return f"{self.bytes // unit}{suffix}"
        return str(self.bytes)


def _nearest_size(text: object) -> str:
    """`4GB`, `4GiB`, `4gi` and `4 Gi` are what people write."""
    if not isinstance(text, str) or len(text) > LONGEST_TEXT:
        return ""
    match = re.fullmatch(rf"({_NUMBER})\s*([kmgt])(i?)b?", text.strip(), re.IGNORECASE)
    if match is None:
        return ""
    letter = match[2].upper() if match[3] or match[2].lower() != "k" else "k"
    return f"{match[1]}{letter}{match[3].lower()}"


def shown(value: object) -> str:
    """A value in an error: short, and quoted where it is text."""
    if isinstance(value, str):
        return f'"{value[:60]}..."' if len(value) > 60 else f'"{value}"'
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)[:60] if isinstance(value, float) or abs(value) < 10**60 else "a huge number"
    return "a list" if isinstance(value, list | tuple) else "a mapping"
