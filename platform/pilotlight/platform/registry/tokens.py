"""Upload tokens: for whoever is to push to one repository, for a while, and to do nothing else.

A token is a statement and its HMAC, so nothing of it is kept anywhere. It ends at its time, with the key that it was
made with, and with the secret that signs it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pilotlight.platform.registry.rights import Caller, Uploader
from pilotlight.platform.registry.wire import Issued

PREFIX = "plu-"
LONGEST_SECONDS = 24 * 3600
"""How long a token may hold."""
_LIMIT = 2000
"""Longest token that is looked at, characters."""


class Tokens:
    """Makes and reads tokens. Every platform process that serves the registry needs the same secret."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock

    def issue(self, key: str, bucket: str, repository: str, seconds: float) -> Issued:
        """For whoever may push there: the caller has looked."""
        expires = self._clock() + seconds
        statement = json.dumps([key, bucket, repository, expires]).encode()
        return Issued(f"{PREFIX}{_text(statement)}.{_text(self._sign(statement))}", expires)

    def read(self, token: str) -> Uploader | None:
        """None: it is none of ours, was changed, or has ended."""
        said, _, signed = token.removeprefix(PREFIX).partition(".")
        if not token.startswith(PREFIX) or len(token) > _LIMIT:
            return None
        try:
            statement, signature = _bytes(said), _bytes(signed)
        except (ValueError, binascii.Error):
            return None
        if not hmac.compare_digest(self._sign(statement), signature):
            return None
        uploader = Uploader(*json.loads(statement))
        return uploader if uploader.expires > self._clock() else None

    def _sign(self, statement: bytes) -> bytes:
        return hmac.digest(self._secret, b"upload token\0" + statement, hashlib.sha256)


def with_tokens(
    authorize: Callable[[Request], Awaitable[Caller]], tokens: Tokens, in_force: Callable[[str], bool]
) -> Callable[[Request], Awaitable[Caller]]:
    """Lets tokens in beside keys; `in_force` says whether a key's id still stands for a key."""

    async def either(request: Request) -> Caller:
        secret = request.headers.get("authorization", "").partition(" ")[2].strip()
        if not secret.startswith(PREFIX):
            return await authorize(request)
        uploader = tokens.read(secret)
        if uploader is None or not in_force(uploader.key):
            raise HTTPException(401, "the upload token is not valid any more", {"www-authenticate": "Bearer"})
        return uploader

    return either


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
