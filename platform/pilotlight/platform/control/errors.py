"""What the platform refuses, as data; `api.errors` turns it into HTTP."""

from __future__ import annotations

from collections.abc import Sequence


class PlatformError(Exception):
    """Base of all; `str()` is a sentence for the user, `details` are further lines."""

    status = 400
    code = "invalid"

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)


class RefusedError(PlatformError):
    """A manifest that cannot be applied; nothing was changed."""

    status = 422
    code = "refused"


class ModelError(RefusedError):
    """The model that a manifest names is not there, or is not what it should be."""


class ForbiddenError(PlatformError):
    """The key's scopes do not allow it."""

    status = 403
    code = "forbidden"


class MissingError(PlatformError):
    """There is no such thing, or this key may not see it."""

    status = 404
    code = "not_found"


class UnavailableError(PlatformError):
    """Something that the platform depends on does not answer; another try may succeed."""

    status = 503
    code = "unavailable"
