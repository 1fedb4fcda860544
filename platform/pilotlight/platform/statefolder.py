"""The state folder: one platform at a time, private to its owner."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

LOCK_FILE = "up.lock"
UP_FILE = "up.json"


class StateFolderError(Exception):
    """The folder cannot be used; the message is for the user."""


class StateFolder:
    """Holds the folder's lock until `close`, or until the process ends in whatever way."""

    def __init__(self, path: Path) -> None:
        """Raises StateFolderError when another platform runs on it."""
        self.path = path.absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateFolderError(f"state folder {self.path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StateFolderError(f"{self._other()}; end it first, or give this one another --state") from None

    def announce(self, url: str) -> None:
        """Where the platform listens, for tools that look for it."""
        content = json.dumps({"url": url, "pid": os.getpid()})
        partial = self.path / f"{UP_FILE}.partial"
        partial.write_text(content + "\n")
        partial.replace(self.path / UP_FILE)

    def close(self) -> None:
        (self.path / UP_FILE).unlink(missing_ok=True)
        os.close(self._lock)

    def _other(self) -> str:
        try:
            known = json.loads((self.path / UP_FILE).read_text())
            return f"a platform runs on {self.path} already, at {known['url']} (process {known['pid']})"
        except (OSError, ValueError, KeyError, TypeError):
            return f"a platform runs on {self.path} already"
