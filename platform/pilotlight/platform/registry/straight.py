"""The way past the platform: a client sends and fetches bytes at the store itself, by requests that it was signed.

Where that does not work (a store that cannot be reached from here, or that refuses what was signed), the bytes go
through the platform, which is said once. It is not an error: nothing depends on this way but speed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.response import BaseHTTPResponse

from pilotlight.platform.registry.errors import NotPresignedError
from pilotlight.platform.settings import is_loopback
from pilotlight.runtime.stores import ObjectNotFoundError, Part, SignedRequest

Sign = Callable[[], SignedRequest]
"""Asks the platform for one signed request. Raises NotPresignedError, StoreError, RegistryError."""
_CODE = re.compile(rb"<Code>(\w{1,60})</Code>")
_AGAIN = frozenset({400, 403})
"""A checksum that did not arrive well, a signature that expired between two tries: another one may be right."""


class StraightWay:
    """Open until it turns out not to work; safe to use from several threads."""

    def __init__(
        self,
        platform: str,
        notice: Callable[[str], None],
        *,
        connect_seconds: float,
        read_seconds: float,
        attempts: int,
    ) -> None:
        """`platform` is its URL; `notice` is told why the way was left, in one sentence."""
        self._platform = platform
        self._notice = notice
        self._open = True
        self._lock = threading.Lock()
        retries = urllib3.Retry(
            total=attempts - 1,
            backoff_factor=0.2,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
            raise_on_status=False,
            backoff_max=5,
            redirect=False,
        )
        timeout = urllib3.Timeout(connect=connect_seconds, read=read_seconds)
        self._pool = urllib3.PoolManager(maxsize=16, retries=retries, timeout=timeout)

    def put_part(self, sign: Sign, key: str, number: int, data: bytes, sha256: str) -> Part | None:
        """None: to be sent through the platform. Raises ObjectNotFoundError when the upload is gone."""
        answer = self._send("PUT", sign, key, body=data)
        return Part(number, len(data), answer.headers["ETag"], sha256) if answer else None

    def read(self, sign: Sign, key: str, start: int, length: int) -> BaseHTTPResponse | None:
        """A body to be streamed and closed; None: to be read through the platform. Raises ObjectNotFoundError."""
        return self._send("GET", sign, key, headers={"Range": f"bytes={start}-{start + length - 1}"})

    def _send(
        self, method: str, sign: Sign, key: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> BaseHTTPResponse | None:
        if not self._open:
            return None
        try:
            answer = self._tried(method, sign, body, headers or {})
        except NotPresignedError:
            self._open = False  # as every folder answers; there is nothing to tell
            return None
        except _RefusedError as refused:
            self._leave(str(refused))
            return None
        if answer.status == 404:
            raise ObjectNotFoundError(f"{key!r}, or its upload, is not in the store", key=key)
        return answer

    def _tried(self, method: str, sign: Sign, body: bytes | None, headers: Mapping[str, str]) -> BaseHTTPResponse:
        try:
            return self._once(method, sign(), body, headers)
        except _RefusedError as refused:
            if refused.status not in _AGAIN:
                raise
        return self._once(method, sign(), body, headers)

    def _once(
        self, method: str, signed: SignedRequest, body: bytes | None, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        """An answer of 200 to a PUT, 206 to a GET, or 404. Raises _RefusedError."""
        if reason := objection(self._platform, signed.url):
            raise _RefusedError(reason)
        answer = self._request(method, signed, body, headers)
        if answer.status in (200 if method == "PUT" else 206, 404):
            return answer
        code = _CODE.search(answer.data[:10_000])
        told = f"{answer.status} {code[1].decode()}" if code else str(answer.status)
        raise _RefusedError(f"the model store at {_origin(signed.url)} answers {told}", answer.status)

    def _request(
        self, method: str, signed: SignedRequest, body: bytes | None, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        try:
            return self._pool.request(
                method, signed.url, body=body, headers={**signed.headers, **headers}, preload_content=method == "PUT"
            )
        except MaxRetryError as error:
            kind = type(error.reason).__name__  # its text has the address with the signature
            raise _RefusedError(f"the model store at {_origin(signed.url)} cannot be reached ({kind})") from None
        except HTTPError as error:
            kind = type(error).__name__
            raise _RefusedError(f"the model store at {_origin(signed.url)} breaks off ({kind})") from None

    def _leave(self, reason: str) -> None:
        with self._lock:
            was_open, self._open = self._open, False
        if was_open:
            self._notice(f"{reason}; files go through the platform, which may be slower")


class _RefusedError(Exception):
    """The way does not work; the message says why. `status` is the store's answer, 0 where there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def objection(platform: str, store: str) -> str:
    """Why files must not be sent to where a store is said to be, empty when they may: both are URLs."""
    told, there = urlsplit(platform), urlsplit(store)
    if there.scheme not in ("http", "https") or not there.hostname:
        return "the platform gives no usable address of its model store"
    if is_loopback(there.hostname) and not is_loopback(told.hostname or ""):
        return f"the model store is at {_origin(store)} of the platform's machine, which is not this one"
    if there.scheme == "http" and told.scheme == "https" and not is_loopback(there.hostname):
        return f"the model store at {_origin(store)} has no TLS, and the platform has"
    return ""


def _origin(url: str) -> str:
    """Without the query, which is the permission."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
