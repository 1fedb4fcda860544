"""Refusals: the one place that knows OpenAI's error shape, statuses and codes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from pilotlight.activator.values import FunctionId, Route

JSON = (b"content-type", b"application/json")


class RefusedError(Exception):
    """A request ends here; carries everything the client is told.

    `retry_after` is in seconds and rounded up for the header; None: retrying does not help.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        outcome: str = "rejected",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))
        self.headers = headers
        self.outcome = outcome

    def __repr__(self) -> str:
        return f"RefusedError({self.status}, {self.code!r}, {self.message!r})"

    def body(self) -> bytes:
        """The JSON body of a response whose status says the rest."""
        return json.dumps({"error": self._error()}).encode()

    def event(self) -> bytes:
        """The SSE event of a stream that has sent 200 already; the stream ends after it, without `[DONE]`."""
        error = {**self._error(), "status": self.status, "retry_after": self.retry_after}
        return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"

    def response_headers(self) -> list[tuple[bytes, bytes]]:
        headers = [JSON, *self.headers]
        if self.retry_after is not None:
            headers.append((b"retry-after", str(self.retry_after).encode()))
        return headers

    def _error(self) -> dict[str, object]:
        return {"message": self.message, "type": _kind(self.status), "param": self.param, "code": self.code}


def _kind(status: int) -> str:
    """OpenAI's `type` by status."""
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    if status == 503:
        return "service_unavailable_error"
    return "invalid_request_error" if status < 500 else "server_error"


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> RefusedError:
    return RefusedError(400, code, message, param=param)


def missing(field: str) -> RefusedError:
    return invalid(f"Missing required parameter: `{field}`.", field, "missing_required_parameter")


def wrong_task(route: Route, asked: str) -> RefusedError:
    use = "embeddings" if route.task == "embed" else "chat/completions or completions"
    message = f"{route.function} has task `{route.task}` and does not serve {asked}; use {use}."
    return invalid(message, "model", "wrong_task")


def memory_full(limit: int, retry_after: float) -> RefusedError:
    message = f"Requests in hand fill the {limit} bytes that are allowed for them."
    close = ((b"connection", b"close"),)
    return RefusedError(429, "queue_full", message, retry_after=retry_after, headers=close)


def unauthorized(presented: bool) -> RefusedError:
    problem = "Incorrect API key provided." if presented else "You didn't provide an API key."
    message = f"{problem} Send a key as `Authorization: Bearer pl-...`; `pilotlight keys create` makes one."
    return RefusedError(401, "invalid_api_key", message, headers=((b"www-authenticate", b"Bearer"),))


def _shown(name: str) -> str:
    return name if len(name) <= 256 else f"{name[:256]}..."


def unknown_model(name: str, nearest: str | None) -> RefusedError:
    hint = f" Did you mean `{nearest}`?" if nearest else " `GET /v1/models` lists what this key may call."
    return RefusedError(404, "model_not_found", f"The model `{_shown(name)}` does not exist.{hint}", param="model")


def not_found(path: str) -> RefusedError:
    message = (
        f"Nothing is served at `{path[:256]}`. Expected /v1/models, /v1/chat/completions, /v1/completions or "
        "/v1/embeddings, or the same under /f/NAMESPACE/NAME."
    )
    return RefusedError(404, "not_found", message)


def not_found_on_host(path: str, host: str, function: FunctionId) -> RefusedError:
    message = (
        f"Nothing is served at `{path[:256]}`. `{host}` is the function {function}: expected /v1/models, "
        "/v1/chat/completions, /v1/completions or /v1/embeddings."
    )
    return RefusedError(404, "not_found", message)


def other_model(model: str, host: str, function: FunctionId) -> RefusedError:
    message = (
        f"The model `{_shown(model)}` is not served here: `{host}` is the function {function}. Leave `model` out, or "
        f"say `{function.name}`, `{function}` or `{function.name}:ADAPTER`."
    )
    return invalid(message, "model", "wrong_model")


def wrong_method(method: str, allowed: str) -> RefusedError:
    message = f"The method {method[:16]} is not allowed here; use {allowed}."
    return RefusedError(405, "method_not_allowed", message, headers=((b"allow", allowed.encode()),))


def body_too_large(limit: int) -> RefusedError:
    message = f"The request body is larger than {limit} bytes. Send a smaller one."
    return RefusedError(413, "request_too_large", message, headers=((b"connection", b"close"),))


def body_too_slow(seconds: float) -> RefusedError:
    message = f"The request body did not arrive within {seconds:g} s."
    return RefusedError(408, "request_timeout", message, headers=((b"connection", b"close"),))


def draining(retry_after: float) -> RefusedError:
    message = "This activator is shutting down; send the request again."
    return RefusedError(503, "draining", message, retry_after=retry_after, headers=((b"connection", b"close"),))


def ledger_unwritable(retry_after: float) -> RefusedError:
    message = "The ledger cannot be written just now, and no request runs without its line there; try again."
    return RefusedError(503, "ledger_unwritable", message, retry_after=retry_after, outcome="failed")


def replica_lost(function: FunctionId, detail: str, retry_after: float | None) -> RefusedError:
    message = f"The replica of {function} that served this request was lost: {detail}."
    return RefusedError(502, "replica_lost", message, retry_after=retry_after, outcome="failed")


def proxy_full(function: FunctionId, retry_after: float) -> RefusedError:
    message = f"The proxy in front of {function} holds as many requests as it may."
    return RefusedError(429, "queue_full", message, retry_after=retry_after)


def proxy_timeout(function: FunctionId) -> RefusedError:
    message = f"The proxy in front of {function} ended this request: its time limit passed before the engine answered."
    return RefusedError(504, "engine_timeout", message, outcome="failed")


def proxy_unavailable(function: FunctionId, retry_after: float) -> RefusedError:
    message = f"The proxy in front of {function} found no replica for this request in time."
    return RefusedError(503, "deadline_exceeded", message, retry_after=retry_after)


def replica_silent(function: FunctionId, seconds: float) -> RefusedError:
    message = f"The replica of {function} said nothing for {seconds:g} s, so this request was ended. Ask for less, or "
    return RefusedError(504, "engine_timeout", f"{message}with `stream`.", outcome="failed")


def answer_too_large(limit: int) -> RefusedError:
    message = f"The engine's answer exceeds {limit} bytes. Ask for less in one request."
    return RefusedError(502, "answer_too_large", message, outcome="failed")


def engine_error(status: int, error: Mapping[str, object], retry_after: float | None) -> RefusedError:
    """An engine's own refusal in its words; what is our mistake towards it (unknown model, key) is not the client's."""
    message = error.get("message")
    words = message if isinstance(message, str) and message else f"The engine answered with status {status}."
    param = error.get("param")
    outcome = "rejected" if status < 500 else "failed"
    kind = "engine_rejected" if status < 500 else "engine_error"
    status = 502 if status in (404, 405) or not 400 <= status < 600 else status
    return RefusedError(
        status, kind, words, param=param if isinstance(param, str) else None, retry_after=retry_after, outcome=outcome
    )


def deleted(function: FunctionId) -> RefusedError:
    return RefusedError(404, "model_not_found", f"The function {function} was deleted while this request waited.")


def interrupted(retry_after: float) -> RefusedError:
    message = "This activator shut down before the answer was complete; send the request again."
    return RefusedError(503, "draining", message, retry_after=retry_after, outcome="failed")


def internal() -> RefusedError:
    message = "The activator failed on this request; its log has the details under the request id."
    return RefusedError(500, "internal_error", message, outcome="failed")
