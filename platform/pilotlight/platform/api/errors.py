"""The one place that turns refusals into HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse

from pilotlight.platform.control.errors import PlatformError

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class HttpError(PlatformError):
    """A refusal of the HTTP layer itself."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, details)
        self.status = status
        self.code = code
        self.headers = headers


def unauthorized(presented: bool) -> HttpError:
    problem = "this key is unknown or revoked" if presented else "a key is needed"
    message = f"{problem}; send it as `Authorization: Bearer pl-...`, `pilotlight keys create` makes one"
    return HttpError(401, "invalid_api_key", message, headers={"www-authenticate": "Bearer"})


def answer(error: PlatformError) -> JSONResponse:
    """Every error has this shape."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    body = {
        "message": error.message,
        "type": kind,
        "code": error.code,
        "param": None,
        "details": list(error.details),
    }
    headers = dict(error.headers or {}) if isinstance(error, HttpError) else {}
    if error.status == 503:
        headers.setdefault("retry-after", "5")
    return JSONResponse({"error": body}, error.status, headers)
