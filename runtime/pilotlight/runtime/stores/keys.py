"""Object keys: relative paths that are safe as file names and as URLs alike."""

from __future__ import annotations

import re

from pilotlight.runtime.stores.errors import InvalidKeyError

KEY_LENGTH = 1024  # S3's own bound, bytes
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_PREFIX = re.compile(rf"(?:{_SEGMENT}/)*(?:{_SEGMENT})?")


def check_key(key: str) -> str:
    """The key itself. Raises InvalidKeyError; a leading dot is refused in every segment, so `..` is too."""
    if len(key) > KEY_LENGTH or not _KEY.fullmatch(key):
        raise InvalidKeyError(
            f"object key {key[:100]!r} is not valid: expected segments of letters, digits, '.', '_', '-' joined by '/',"
            f" none of them beginning with '.' or '-', at most {KEY_LENGTH} characters",
            key=key[:100],
        )
    return key


def check_prefix(prefix: str) -> str:
    """The prefix itself; empty lists everything. Raises InvalidKeyError."""
    if len(prefix) > KEY_LENGTH or not _PREFIX.fullmatch(prefix):
        raise InvalidKeyError(f"object prefix {prefix[:100]!r} is not valid: expected the beginning of a key", key="")
    return prefix
