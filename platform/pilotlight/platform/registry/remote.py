"""The platform as a store: the registry's own push and pull run over the control API unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import cast
from urllib.parse import quote, urlencode

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.response import BaseHTTPResponse

from pilotlight.platform.registry import errors as registry_errors
from pilotlight.platform.registry.collection import Collected
from pilotlight.platform.registry.errors import ModelRefusedError, RegistryError
from pilotlight.platform.registry.straight import StraightWay
from pilotlight.platform.registry.wire import MODIFIED, Issued
from pilotlight.runtime import stores
from pilotlight.runtime.models import BadManifestError
from pilotlight.runtime.stores import (
    CHUNK_BYTES,
    ObjectCorruptError,
    ObjectInfo,
    ObjectNotFoundError,
    Part,
    SignedRequest,
    StoreDeniedError,
    StoreError,
    StoreUnavailableError,
    Upload,
)
from pilotlight.runtime.stores.keys import check_key, check_prefix
from pilotlight.runtime.stores.protocol import resumed

_ERROR_LIMIT = 1 << 20
_VERIFY_RATE = 20 * 2**20  # bytes per second at which the platform at least verifies what was uploaded


class RemoteStore:
    """An ObjectStore of one repository, through the control API of a running platform.

    `url` is the platform's (`http://127.0.0.1:PORT`); `key` is the caller's secret and goes nowhere but into a header.
    Parts of files, and files that are read, go straight to the platform's own store where it signs requests and the
    store can be reached from here; `notice` is told when they do not.
    """

    def __init__(
        self,
        url: str,
        key: str,
        bucket: str,
        repository: str = "",
        *,
        notice: Callable[[str], None] = lambda _reason: None,
        connect_seconds: float = 5.0,
        read_seconds: float = 60.0,
        attempts: int = 4,
    ) -> None:
        self._root = f"{url.rstrip('/')}/api/v1alpha1/registry/{quote(bucket, safe='')}"
        self._repository = repository
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._attempts = attempts
        self._connect, self._read = connect_seconds, read_seconds
        retries = urllib3.Retry(
            total=attempts - 1,
            backoff_factor=0.2,
            status_forcelist=(502, 503, 504),
            allowed_methods=None,
            raise_on_status=False,
            backoff_max=5,
            redirect=False,
        )
        self._pool = urllib3.PoolManager(maxsize=16, retries=retries)
        self._straight = StraightWay(
            url, notice, connect_seconds=connect_seconds, read_seconds=read_seconds, attempts=attempts
        )

    @property
    def address(self) -> str:
        return self._root

    def stat(self, key: str) -> ObjectInfo:
        answer = self._send("HEAD", "objects", check_key(key))
        return ObjectInfo(key, int(answer.headers["Content-Length"]), float(answer.headers[MODIFIED]))

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        left = max(self.stat(key).size - start, 0) if length is None else length
        return resumed(partial(self._read_once, key), key, start, left, self._attempts)

    def put(self, key: str, data: bytes) -> None:
        self._send("PUT", "objects", check_key(key), body=data)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        answer = self._send("GET", "objects", "", query={"prefix": check_prefix(prefix)})
        for line in answer.data.splitlines():
            item = json.loads(line)
            yield ObjectInfo(str(item["key"]), int(item["size"]), float(item["modified"]))

    def delete(self, key: str) -> None:
        self._send("DELETE", "objects", check_key(key), patience=3600)  # a corrupt file is read again first

    def move(self, source: str, target: str) -> None:
        raise StoreDeniedError(f"{source!r} cannot be moved to {target!r} through the platform", key=source)

    def begin_upload(self, key: str) -> Upload:
        return _upload(self._json("POST", check_key(key)))

    def uploads(self, key: str = "") -> Iterator[Upload]:
        found = cast("list[dict[str, object]]", self._json("GET", check_key(key))["uploads"])
        return iter([_upload(item) for item in found])

    def parts(self, upload: Upload) -> tuple[Part, ...]:
        found = self._json("GET", upload.key, {"upload": upload.id})
        return tuple(_part(item) for item in cast("list[dict[str, object]]", found["parts"]))

    def put_part(self, upload: Upload, number: int, data: bytes) -> Part:
        query = {"upload": upload.id, "part": str(number)}
        facts = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

        def sign() -> SignedRequest:
            return _signed(self._json("POST", upload.key, query, json.dumps(facts).encode()))

        sent = self._straight.put_part(sign, upload.key, number, data, str(facts["sha256"]))
        return sent or _part(self._json("PUT", upload.key, query, data))

    def complete_upload(self, upload: Upload, parts: Sequence[Part]) -> None:
        body = json.dumps({"parts": [asdict(part) for part in parts]}).encode()
        patience = self._read + sum(part.size for part in parts) / _VERIFY_RATE
        self._send("POST", "uploads", upload.key, query={"upload": upload.id}, body=body, patience=patience)

    def abort_upload(self, upload: Upload) -> None:
        self._send("DELETE", "uploads", upload.key, query={"upload": upload.id})

    def collect(self, grace: float, *, dry_run: bool = False) -> Collected:
        """Run a garbage collection on the platform, which knows what is live; for admins."""
        body = json.dumps({"grace": grace, "dryRun": dry_run}).encode()
        answer = self._send("POST", "collection", "", body=body, patience=3600)
        return Collected(**json.loads(answer.data))

    def token(self, seconds: float) -> Issued:
        """A token to push to this repository; for keys that may push there."""
        answer = self._send("POST", "tokens", "", body=json.dumps({"seconds": seconds}).encode())
        return Issued(**json.loads(answer.data))

    def _json(
        self, method: str, key: str, query: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self._send(method, "uploads", key, query=query, body=body).data))

    def _read_once(self, key: str, start: int, length: int) -> Iterator[bytes]:
        answer = self._opened(key, start, length)
        try:
            yield from answer.stream(CHUNK_BYTES)
        except HTTPError as error:
            raise StoreUnavailableError(f"object {key!r} broke off: {type(error).__name__}", key=key) from error
        finally:
            answer.close()

    def _opened(self, key: str, start: int, length: int) -> BaseHTTPResponse:
        def sign() -> SignedRequest:
            return _signed(json.loads(self._send("POST", "objects", key).data))

        # What is not a file is small: one request through the platform is less than two.
        straight = self._straight.read(sign, key, start, length) if key.startswith("blobs/") else None
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        return straight or self._send("GET", "objects", key, headers=headers, stream=True)

    def _send(
        self,
        method: str,
        folder: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        parameters = {"repository": self._repository} if self._repository else {}
        path = f"/{quote(key)}" if key else ""
        url = f"{self._root}/{folder}{path}?{urlencode({**parameters, **(query or {})})}"
        timeout = urllib3.Timeout(connect=self._connect, read=patience or self._read)
        try:
            answer = self._pool.request(
                method,
                url,
                body=body,
                headers={**self._headers, **(headers or {})},
                timeout=timeout,
                preload_content=not stream,
            )
        except MaxRetryError as error:
            raise StoreUnavailableError(
                f"the platform at {self._root} cannot be reached: {error.reason}", key=key
            ) from error
        except HTTPError as error:
            raise StoreUnavailableError(f"the platform at {self._root} broke off: {error}", key=key) from error
        if answer.status >= 300:
            _raise(answer, key)
        return answer


def _raise(answer: BaseHTTPResponse, key: str) -> None:
    """The error that the platform's answer names."""
    code, message, problems = _said(answer.data[:_ERROR_LIMIT])
    message = message or f"the platform answered {answer.status} for {key!r}"
    if code == ModelRefusedError.__name__:
        raise ModelRefusedError("the model", problems)
    if code == BadManifestError.__name__:
        raise BadManifestError(message)
    kind = getattr(registry_errors, code, None) or getattr(stores, code, None)
    if isinstance(kind, type) and issubclass(kind, StoreError):
        raise kind(message, key=key)
    if isinstance(kind, type) and issubclass(kind, RegistryError):
        raise kind(message)
    raise _by_status(answer.status, message, key)


def _by_status(status: int, message: str, key: str) -> StoreError:
    """For answers without a body (HEAD), or not from the registry at all."""
    if status == 404:
        return ObjectNotFoundError(f"object {key!r} does not exist", key=key)
    if status in (401, 403):
        return StoreDeniedError(f"{message}: the key is not known or has no right to it", key=key)
    if status == 422:
        return ObjectCorruptError(message, key=key)
    return StoreUnavailableError(message, key=key) if status >= 500 else StoreError(message, key=key)


def _said(body: bytes) -> tuple[str, str, list[str]]:
    try:
        error = json.loads(body)["error"]
        problems = [str(problem) for problem in error.get("problems", ())]
        return str(error.get("code", "")), str(error["message"]), problems
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", "", []


def _upload(item: Mapping[str, object]) -> Upload:
    return Upload(str(item["key"]), str(item["id"]), float(cast("float", item["started"])))


def _signed(item: Mapping[str, object]) -> SignedRequest:
    return SignedRequest(str(item["url"]), dict(cast("Mapping[str, str]", item["headers"])))


def _part(item: Mapping[str, object]) -> Part:
    number, size = cast("int", item["number"]), cast("int", item["size"])
    return Part(int(number), int(size), str(item["etag"]), str(item["sha256"]))
