"""Reading the manifest's overrides, which arrive as plain values."""

from __future__ import annotations

from collections.abc import Mapping


def integer(overrides: Mapping[str, object], name: str) -> int | None:
    value = overrides.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(overrides: Mapping[str, object], name: str) -> float | None:
    value = overrides.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def text(overrides: Mapping[str, object], name: str) -> str | None:
    value = overrides.get(name)
    return value if isinstance(value, str) else None
