"""What ends a command, as data: the sentence for the user, what to do next, and the exit code."""

from __future__ import annotations

FAILED = 1
REFUSED = 2
INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot go on. `str()` is one sentence for the user; `details` are further lines under it."""

    def __init__(self, sentence: str, *, details: tuple[str, ...] = (), code: int = FAILED) -> None:
        super().__init__(sentence)
        self.details = details
        self.code = code


class NotListeningError(CommandError):
    """Nothing answers at the platform's address."""

    def __init__(self, url: str, reason: str = "") -> None:
        why = f" ({reason})" if reason else ""
        super().__init__(
            f"nothing listens at {url}{why}; start it with `pilotlight up`, or name another address with --url or "
            "PILOTLIGHT_URL"
        )
        self.url = url


class ApiError(CommandError):
    """The platform answered with an error."""

    def __init__(self, status: int, message: str, *, details: tuple[str, ...] = (), retry_after: str = "") -> None:
        super().__init__(_sentence(status, message, retry_after), details=details, code=_code(status))
        self.status = status
        self.message = message
        self.retry_after = retry_after


def _sentence(status: int, message: str, retry_after: str) -> str:
    said = message or f"the platform answered with status {status}"
    if not retry_after:
        return said
    return f"{said} Try again in {retry_after} s." if said.endswith(".") else f"{said}; try again in {retry_after} s"


def _code(status: int) -> int:
    return REFUSED if status in (400, 422) else FAILED
