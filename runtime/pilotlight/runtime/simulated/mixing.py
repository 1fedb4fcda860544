"""The one source of chance: a pure function of whole numbers, so that a run can be repeated."""

from __future__ import annotations

_MASK = (1 << 64) - 1


def mix(value: int) -> int:
    """Scramble a whole number to 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def fraction(value: int) -> float:
    """A number in [0, 1) that is the same for the same `value`."""
    return (mix(value) >> 11) / (1 << 53)
