"""The one module that speaks to a Kubernetes API server. Blocking: call it in a thread."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import structlog
import urllib3
from kubernetes import client, config
from kubernetes.utils.quantity import parse_quantity

from pilotlight.platform.kubernetes.errors import KubernetesError, UnreachableError, error_of
from pilotlight.platform.kubernetes.kinds import Kind, Object
from pilotlight.platform.kubernetes.uses import Use, uses_of

MANAGER = "pilotlight"
"""Whose fields server-side apply says they are."""
CONNECT_SECONDS = 3.0
READ_SECONDS = 15.0
WATCH_SECONDS = 300
"""The server ends a watch after this; it is then gone on with."""
WATCH_SILENCE_SECONDS = 330.0
"""A watch that outlives the server's own bound has lost its connection."""
CONNECTIONS = 32
SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)
"""A watch whose server has vanished without a word ends after 40 s, not with `WATCH_SILENCE_SECONDS`."""
PAGE = 500
"""Objects of one answer to a list."""
JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
USED = "right used"
"""What the log calls a right at its first use."""
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Listing:
    """The objects, and the point from which a watch goes on."""

    items: tuple[Object, ...]
    version: str


@dataclass(frozen=True)
class Event:
    """One line of a watch."""

    type: str  # ADDED | MODIFIED | DELETED | BOOKMARK
    object: Object


class Log:
    """Lines of a log with their line feeds, for one thread; raises a KubernetesError when they break off."""

    def __init__(self, response: urllib3.BaseHTTPResponse, doing: str) -> None:
        self._response = response
        self._lines = _lines(response, doing)

    def __iter__(self) -> Log:
        return self

    def __next__(self) -> bytes:
        return next(self._lines) + b"\n"

    def end(self) -> None:
        """No more lines; from any thread, and the one that waits for the next line waits no longer."""
        with suppress(OSError, RuntimeError, ValueError):  # it has ended by itself
            self._response.shutdown()

    def close(self) -> None:
        self._response.close()


class Api:
    """Every call raises a KubernetesError of the kind that fits."""

    def __init__(self, api_client: Any, log_uses: bool = False) -> None:
        """`log_uses`: log each right at its first use, so that one that is granted and never used shows."""
        self._client = api_client
        self._pool: urllib3.PoolManager = api_client.rest_client.pool_manager
        self.calls = 0
        """Requests made so far, watches included."""
        self._uses: set[Use] | None = set() if log_uses else None

    @classmethod
    def connect(cls, context: str | None = None) -> Api:
        """The cluster that this process runs in, or the one of the kubeconfig.

        Raises UnreachableError when there is neither.
        """
        settings = client.Configuration()
        try:
            inside = context is None and SERVICE_ACCOUNT_TOKEN.exists() and "KUBERNETES_SERVICE_HOST" in os.environ
            if inside:
                config.load_incluster_config(client_configuration=settings)
            else:
                # The client reads the variable when it is imported, which may be long before.
                chosen = os.environ.get("KUBECONFIG") or None
                config.load_kube_config(config_file=chosen, context=context, client_configuration=settings)
        except config.ConfigException as error:
            raise UnreachableError("finding the cluster", 0, "NoConfiguration", str(error)) from error
        settings.retries = urllib3.Retry(total=0)  # whoever calls knows better whether to ask again
        settings.connection_pool_maxsize = CONNECTIONS
        settings.socket_options = list(SOCKET_OPTIONS)
        return cls(client.ApiClient(settings), log_uses=inside)

    @property
    def server(self) -> str:
        """Its address."""
        return str(self._client.configuration.host)

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return self._json("GET", kind.path(namespace, name))

    def list(self, kind: Kind, namespace: str = "", labels: str = "", fields: str = "") -> Listing:
        """All of them, page by page."""
        query = _query(limit=str(PAGE), labelSelector=labels, fieldSelector=fields)
        items: list[Object] = []
        token = ""
        while True:
            page = self._json("GET", kind.path(namespace), query | _query(**{"continue": token}))
            items += page.get("items") or ()
            token = page["metadata"].get("continue", "")
            if not token:
                return Listing(tuple(items), page["metadata"].get("resourceVersion", ""))

    def watch(
        self, kind: Kind, version: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> Iterator[Event]:
        """What changes from that point on, until the server ends it. Raises GoneError: list again."""
        query = _query(
            watch="true",
            resourceVersion=version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(WATCH_SECONDS),
            labelSelector=labels,
            fieldSelector=fields,
        )
        doing = f"WATCH {kind.plural}"
        response = self._send("GET", kind.path(namespace), query, timeout=WATCH_SILENCE_SECONDS)
        try:
            for line in _lines(response, doing):
                yield _event(line, doing)
        finally:
            response.close()

    def create(self, kind: Kind, body: Object, dry_run: bool = False) -> Object:
        namespace = body["metadata"].get("namespace", "")
        return self._json("POST", kind.path(namespace), _dry(dry_run), body)

    def apply(self, kind: Kind, body: Object, dry_run: bool = False) -> Object:
        """Server-side apply: what we say of the object is ours, whoever said it before."""
        metadata = body["metadata"]
        path = kind.path(metadata.get("namespace", ""), metadata["name"])
        query = _query(fieldManager=MANAGER, force="true") | _dry(dry_run)
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        return self._json("PATCH", path, query, whole, APPLY_PATCH)

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        subresource: str = "",
    ) -> Object:
        """A mapping is merged (lists are replaced whole), a sequence is a JSON patch."""
        content_type = MERGE_PATCH if isinstance(body, Mapping) else JSON_PATCH
        return self._json("PATCH", kind.path(namespace, name, subresource), {}, body, content_type)

    def delete(
        self, kind: Kind, namespace: str, name: str, foreground: bool = False, grace_seconds: int | None = None
    ) -> None:
        """It may be there for a while yet; one that is gone is no error.

        `foreground`: only after what it owns. `grace_seconds`: of a pod, None for its own.
        """
        body: dict[str, Any] = {"propagationPolicy": "Foreground" if foreground else "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            self._json("DELETE", kind.path(namespace, name), {}, body)
        except KubernetesError as error:
            if error.status != 404:
                raise

    def log(self, namespace: str, pod: str, container: str, tail: int, follow: bool) -> Log:
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        query = _query(container=container, tailLines=str(tail), follow="true" if follow else "")
        response = self._send("GET", path, query, timeout=None if follow else READ_SECONDS)
        return Log(response, f"LOG {namespace}/{pod}")

    def raw(self, path: str) -> Object:
        """GET of any address, as `/version`."""
        return self._json("GET", path)

    def date(self) -> float:
        """The server's clock, Unix time in whole seconds."""
        response = self._send("GET", "/version", {})
        response.release_conn()
        try:
            return parsedate_to_datetime(response.headers["Date"]).timestamp()
        except (KeyError, ValueError) as error:
            raise UnreachableError("GET /version", 0, "BrokenAnswer", "the answer has no date") from error

    def close(self) -> None:
        self._client.close()

    def _note(self, uses: Iterable[Use]) -> None:
        if self._uses is None:
            return
        for use in set(uses) - self._uses:
            self._uses.add(use)
            log.info(USED, **use._asdict())

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
    ) -> dict[str, Any]:
        response = self._send(method, path, query or {}, body, content_type)
        try:
            found: dict[str, Any] = json.loads(response.data)
            return found
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise UnreachableError(f"{method} {path}", 0, "BrokenAnswer", str(error)) from error
        finally:
            response.release_conn()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object = None,
        content_type: str = JSON,
        timeout: float | None = READ_SECONDS,
    ) -> urllib3.BaseHTTPResponse:
        self.calls += 1
        url = self._client.configuration.host + path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": JSON, "Content-Type": content_type, "User-Agent": MANAGER}
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        try:
            # Not the client's own `request`: it takes a JSON patch that is text for another kind of patch.
            response = self._pool.request(
                method,
                url,
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=timeout),
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"{method} {path}", 0, "NoAnswer", str(error)) from error
        self._note(uses_of(method, path, query, response.status))
        if response.status >= 400:
            raise _refusal(f"{method} {path}", response)
        return response


def quantity(text: str) -> Decimal:
    """The number that a Kubernetes quantity stands for, as `400m` or `16Gi`. Raises ValueError."""
    return Decimal(parse_quantity(text))


def _refusal(doing: str, response: urllib3.BaseHTTPResponse) -> KubernetesError:
    try:
        text = response.data
    except urllib3.exceptions.HTTPError:
        text = b""
    response.release_conn()
    try:
        status = json.loads(text)
        return error_of(doing, response.status, str(status.get("reason", "")), str(status.get("message", "")))
    except (ValueError, AttributeError):
        return error_of(doing, response.status, "", text[:500].decode("utf-8", "replace") or "no message")


def _event(line: bytes, doing: str) -> Event:
    try:
        found = json.loads(line)
        event = Event(found["type"], found["object"])
    except (ValueError, KeyError, TypeError) as error:  # a server that ends may break off within a line
        raise UnreachableError(doing, 0, "BrokenAnswer", str(error)) from error
    if event.type != "ERROR":
        return event
    status = event.object
    raise error_of(doing, status.get("code", 0), status.get("reason", ""), status.get("message", ""))


def _lines(response: urllib3.BaseHTTPResponse, doing: str) -> Iterator[bytes]:
    rest = b""
    try:
        for chunk in response.stream(amt=None, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line for line in lines if line)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise UnreachableError(doing, 0, "Broken", str(error)) from error
    if rest:
        yield rest


def _query(**parameters: str) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value}


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}
