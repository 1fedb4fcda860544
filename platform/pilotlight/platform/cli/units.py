"""Options with units, read as the manifest reads them."""

from __future__ import annotations

from pilotlight.platform.cli.errors import REFUSED, CommandError
from pilotlight.platform.manifest import ByteSize, Duration, UnitError


def parse_seconds(text: str, option: str) -> float:
    """A span with its unit. Raises CommandError (wrong usage)."""
    try:
        return Duration.parse(text).seconds
    except UnitError as error:
        raise CommandError(f"{option}: {error}", code=REFUSED) from error


def parse_bytes(text: str, option: str) -> int:
    """A size with its unit. Raises CommandError (wrong usage)."""
    try:
        return ByteSize.parse(text).bytes
    except UnitError as error:
        raise CommandError(f"{option}: {error}", code=REFUSED) from error
