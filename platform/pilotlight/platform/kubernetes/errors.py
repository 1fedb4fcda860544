"""What the API server says no with."""

from __future__ import annotations


class KubernetesError(Exception):
    """A call to the API server that failed."""

    def __init__(self, doing: str, status: int, reason: str, message: str) -> None:
        """`doing`: verb and object; `status`: HTTP's, 0 when there was no answer."""
        super().__init__(f"{doing}: {message}")
        self.doing = doing
        self.status = status
        self.reason = reason
        self.message = message


class NotFoundError(KubernetesError):
    """404: no such object, or no such kind."""


class ConflictError(KubernetesError):
    """409: it is there already, or has changed since it was read."""


class GoneError(KubernetesError):
    """410: the watch's starting point is too old; list again."""


class ForbiddenError(KubernetesError):
    """401 or 403: who we are may not do this."""


class InvalidError(KubernetesError):
    """400 or 422: the object is not as it should be."""


class UnreachableError(KubernetesError):
    """No answer, or one that says to come again: 429 and 5xx."""


def error_of(doing: str, status: int, reason: str, message: str) -> KubernetesError:
    """The class that fits the status."""
    known: dict[int, type[KubernetesError]] = {
        400: InvalidError,
        401: ForbiddenError,
        403: ForbiddenError,
        404: NotFoundError,
        409: ConflictError,
        410: GoneError,
        422: InvalidError,
        429: UnreachableError,
    }
    kind = known.get(status, UnreachableError if status == 0 or status >= 500 else KubernetesError)
    return kind(doing, status, reason, message)
