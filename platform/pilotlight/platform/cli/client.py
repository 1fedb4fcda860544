"""The platform's HTTP API as methods. The only module of the command line that speaks HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from pilotlight.platform.cli.calling import CallEvent, Record, read_call
from pilotlight.platform.cli.errors import ApiError, CommandError, NotListeningError
from pilotlight.platform.cli.settings import Settings
from pilotlight.platform.settings import is_loopback

CONTROL = "/api/v1alpha1"
ANSWER_SECONDS = 60.0
"""For control calls; calls of a function wait as long as the platform holds them."""
MAX_ERROR_BYTES = 64 * 2**10

Row = dict[str, Any]


class Client:
    """One platform, one key. Errors come as CommandErrors: NotListeningError, ApiError."""

    def __init__(self, settings: Settings) -> None:
        headers = {"authorization": f"Bearer {settings.key}"} if settings.key else {}
        self._settings = settings
        # The environment's proxies are for other machines than the one `up` runs on.
        self.http = httpx.Client(
            base_url=settings.url, headers=headers, timeout=ANSWER_SECONDS, trust_env=not _is_here(settings)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    # Reading

    def rows(self, kind: str, parameters: Mapping[str, str | int | float] | None = None) -> list[Row]:
        """Every object of a kind: functions, revisions, replicas, decisions, models, keys, usage, usage/rows."""
        return _items(self._json("GET", f"{CONTROL}/{kind}", params=dict(parameters or {})), kind)

    def function(self, function: str) -> Row:
        with self._nearest(function):
            return self._object("GET", f"{CONTROL}/functions/{function_path(function)}")

    def describe(self, function: str) -> Row:
        with self._nearest(function):
            return self._object("GET", f"{CONTROL}/functions/{function_path(function)}/describe")

    @contextmanager
    def log_lines(self, function: str, *, follow: bool, tail: int, replica: str = "") -> Iterator[Iterator[str]]:
        parameters = {"tail": tail, "follow": follow, "replica": replica}
        path = f"{CONTROL}/functions/{function_path(function)}/logs"
        with self._nearest(function), self._open("GET", path, params=parameters) as answer:
            yield _lines(answer)

    def _hint(self, function: str) -> str:
        """The most similar function that this key may see, as a question."""
        try:
            names = [f"{row['namespace']}/{row['name']}" for row in self.rows("functions")]
        except CommandError:
            return ""
        wanted = full_name(function)
        bare = {name: name.partition("/")[2] for name in names}
        same = [name for name in names if bare[name] == wanted.partition("/")[2]]
        close = same or get_close_matches(wanted, names, n=1)
        if close:
            return f"; did you mean {close[0]}?"
        return (
            "; `pilotlight get functions` lists what there is" if names else "; there is none yet that this key may use"
        )

    @contextmanager
    def _nearest(self, function: str) -> Iterator[None]:
        """Add to an unknown name what was probably meant."""
        try:
            yield
        except ApiError as error:
            if error.status != 404:
                raise
            raise ApiError(404, f"{error.message}{self._hint(function)}") from error

    # Changing

    def apply(self, manifest: str) -> list[Row]:
        """Apply every document of a manifest file; all or none."""
        headers = {"content-type": "application/yaml"}
        answer = self._json("POST", f"{CONTROL}/functions", content=manifest.encode(), headers=headers)
        return _items(answer, "functions")

    def delete(self, function: str) -> None:
        with self._nearest(function):
            self._json("DELETE", f"{CONTROL}/functions/{function_path(function)}")

    def create_key(self, wanted: Row) -> Row:
        return self._object("POST", f"{CONTROL}/keys", json=wanted)

    def revoke_key(self, key: str) -> None:
        self._json("DELETE", f"{CONTROL}/keys/{quote(key, safe='')}")

    # Calling

    @contextmanager
    def chat(self, function: str, body: Row) -> Iterator[tuple[Record, Iterator[CallEvent]]]:
        """Stream a chat completion: the record of the call, which fills while the events are read."""
        began, record = time.monotonic(), Record()
        wanted = body | {"model": function, "stream": True, "stream_options": {"include_usage": True}}
        with self._open("POST", f"/f/{function_path(function)}/v1/chat/completions", json=wanted) as answer:
            record.headers = shown_headers(answer.headers)
            yield record, _noted(record, read_call(answer.iter_bytes(), began))

    def embed(self, function: str, text: str) -> tuple[Mapping[str, str], Row]:
        path = f"/f/{function_path(function)}/v1/embeddings"
        with self._open("POST", path, json={"model": function, "input": text}) as answer:
            answer.read()
            return shown_headers(answer.headers), _decoded(answer)

    # Transport

    def _object(self, method: str, path: str, **options: Any) -> Row:
        answer = self._json(method, path, **options)
        if not isinstance(answer, dict):
            raise CommandError(f"{self._settings.url}{path} answered no JSON object; is this a Pilotlight platform?")
        return answer

    def _json(self, method: str, path: str, **options: Any) -> Any:
        with self._open(method, path, timeout=ANSWER_SECONDS, **options) as answer:
            answer.read()
            return _decoded(answer) if answer.content else None

    @contextmanager
    def _open(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """A checked answer, unread. Raises NotListeningError, ApiError, CommandError."""
        options.setdefault("timeout", httpx.Timeout(None, connect=10.0))
        try:
            with self.http.stream(method, path, **options) as answer:
                if answer.status_code == 401:
                    raise ApiError(401, self._unauthorized())
                if answer.is_error:
                    raise api_error(answer.status_code, answer.headers, _some(answer))
                yield answer
        except httpx.ConnectError as error:
            raise NotListeningError(self._settings.url, _reason(error)) from error
        except httpx.TimeoutException as error:
            raise CommandError(
                f"{self._settings.url} did not answer in {ANSWER_SECONDS:.0f} s; see the terminal of `pilotlight up`"
            ) from error
        except httpx.HTTPError as error:
            raise CommandError(f"the connection to {self._settings.url} broke: {error}") from error

    def _unauthorized(self) -> str:
        url, state = self._settings.url, self._settings.state
        problem = f"{url} does not accept this key" if self._settings.key else f"{url} wants a key, and none is at hand"
        return f"{problem}; set PILOTLIGHT_KEY to a valid key, or PILOTLIGHT_STATE to its state folder (now {state})"


def api_error(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Read OpenAI's error shape, or what stands in its place."""
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    error = said.get("error", said) if isinstance(said, dict) else None
    if isinstance(error, Mapping):
        message, details = str(error.get("message") or ""), _details(error)
    else:
        message, details = str(error or body[:300].decode("utf-8", errors="replace").strip()), ()
    return ApiError(status, message, details=details, retry_after=headers.get("retry-after", ""))


def full_name(function: str) -> str:
    """`NAMESPACE/NAME` of a reference; `NAME` alone is in `default`, an adapter is left out."""
    namespace, _, name = function.partition(":")[0].rpartition("/")
    return f"{namespace or 'default'}/{name}"


def function_path(function: str) -> str:
    """The full name, quoted for an address."""
    namespace, _, name = full_name(function).partition("/")
    return f"{quote(namespace, safe='')}/{quote(name, safe='')}"


def shown_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are ours, and the request's id."""
    return {
        name: value for name, value in headers.items() if name.startswith("x-pilotlight-") or name == "x-request-id"
    }


def _details(error: Mapping[str, Any]) -> tuple[str, ...]:
    lines = error.get("details")
    return tuple(map(str, lines)) if isinstance(lines, list) else ()


def _noted(record: Record, events: Iterator[CallEvent]) -> Iterator[CallEvent]:
    for event in events:
        record.note(event)
        yield event


def _items(answer: Any, kind: str) -> list[Row]:
    rows = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise CommandError(f"the platform's answer holds no list of {kind}; is its version the same as this command's?")
    return rows


def _lines(answer: httpx.Response) -> Iterator[str]:
    """Split at the line feed alone: a log may hold anything."""
    rest = b""
    for chunk in answer.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode("utf-8", errors="replace") for line in lines)
    if rest:
        yield rest.decode("utf-8", errors="replace")


def _decoded(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise CommandError(f"{answer.url} answered no JSON; is this a Pilotlight platform?") from error


def _some(answer: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    return bytes(body)


def _reason(error: httpx.ConnectError) -> str:
    text = str(error)
    return "" if "refused" in text or "attempts failed" in text else text


def _is_here(settings: Settings) -> bool:
    return is_loopback(httpx.URL(settings.url).host)
