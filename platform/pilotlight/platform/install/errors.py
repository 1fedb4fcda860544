"""What ends an installation."""

from __future__ import annotations


class InstallError(Exception):
    """It cannot go on. `str()` is one sentence with what to do next; `details` are further lines."""

    def __init__(self, sentence: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.details = details
