"""What is derived from the platform's master key. Pure."""

from __future__ import annotations

import hashlib
import hmac


class EngineKeys:
    """A revision's engine key: whoever holds the master key can tell it without asking anybody."""

    def __init__(self, master: str) -> None:
        self._master = master.encode()

    def __call__(self, namespace: str, revision: str) -> str:
        return hmac.new(self._master, f"{namespace}/{revision}".encode(), hashlib.sha256).hexdigest()


def upload_secret(master: str) -> bytes:
    """What upload tokens are signed with: one that a leader made is good for the next leader too."""
    return hmac.digest(master.encode(), b"upload tokens", hashlib.sha256)
