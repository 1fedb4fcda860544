"""The registry through the control API: a thin shell of HTTP around `Guard`.

    GET    /{bucket}/objects?prefix=                        one JSON object a line
    HEAD   /{bucket}/objects/{key}?repository=              Content-Length, X-Pilotlight-Modified
    GET    /{bucket}/objects/{key}?repository=              Range: bytes=A-B
    POST   /{bucket}/objects/{key}?repository=              a signed GET of it, for the store itself
    PUT    /{bucket}/objects/{key}?repository=              small objects, digest checked
    DELETE /{bucket}/objects/{key}?repository=
    POST   /{bucket}/uploads/{key}?repository=              begin; with upload=: complete, {"parts": [...]}
    GET    /{bucket}/uploads/{key}?repository=              unfinished uploads; with upload=: its parts
    PUT    /{bucket}/uploads/{key}?repository=&upload=&part=
    POST   /{bucket}/uploads/{key}?repository=&upload=&part=    {"size", "sha256"}: a signed PUT of it, likewise
    DELETE /{bucket}/uploads/{key}?repository=&upload=
    POST   /{bucket}/tokens?repository=                     {"seconds": 3600}: a token to push there
    POST   /{bucket}/collection                             {"grace": seconds, "dryRun": false}, admins only

Errors are `{"error": {"code", "message"}}`; `code` is the error's class, so that the client raises the same.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from pilotlight.platform.registry.collection import GRACE_SECONDS
from pilotlight.platform.registry.errors import (
    BadReferenceError,
    CollectionRunningError,
    IncompleteModelError,
    ModelRefusedError,
    NotAllowedError,
    NotPresignedError,
    RegistryError,
)
from pilotlight.platform.registry.guard import Guard, References
from pilotlight.platform.registry.refs import check_repository
from pilotlight.platform.registry.registry import Registry
from pilotlight.platform.registry.rights import Caller, Uploader, may_push
from pilotlight.platform.registry.tokens import LONGEST_SECONDS, Tokens
from pilotlight.platform.registry.wire import MODIFIED
from pilotlight.runtime.models import MANIFEST_LIMIT, BadManifestError, load_json
from pilotlight.runtime.stores import (
    InvalidKeyError,
    ObjectCorruptError,
    ObjectInfo,
    ObjectNotFoundError,
    ObjectTooLargeError,
    Part,
    StoreError,
    StoreTooSlowError,
    StoreUnavailableError,
    Upload,
)

PART_LIMIT = 128 * 2**20
"""Largest part, bytes: files of up to 1.25 TB in 10,000 parts."""
PARTS = 10_000
"""Most parts of an upload: S3's own bound."""
BODIES = 8
"""Bodies held in memory at a time; usual parts have 16 MiB, so 128 MiB; more uploads wait."""
BODY_SECONDS = 300.0
"""How long a body may take to come; one that trickles in would keep a place from the others for ever."""
STATUS: tuple[tuple[type[Exception], int], ...] = (
    (ObjectNotFoundError, 404),
    (InvalidKeyError, 400),
    (BadReferenceError, 400),
    (BadManifestError, 422),
    (ModelRefusedError, 422),
    (IncompleteModelError, 409),
    (ObjectCorruptError, 422),
    (ObjectTooLargeError, 413),
    (NotAllowedError, 403),
    (CollectionRunningError, 409),
    (NotPresignedError, 501),
    (StoreTooSlowError, 408),
    (StoreUnavailableError, 503),
    (StoreError, 502),  # the store behind us refused or misbehaved
)
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?")
_PART_NUMBER = re.compile("[1-9][0-9]{0,4}")
_SHA256 = re.compile("[0-9a-f]{64}")
_UPLOAD_ID = re.compile(r"[A-Za-z0-9._~+=-]{1,1000}")

Authorize = Callable[[Request], Awaitable[Caller]]
"""Says who calls; raises Starlette's HTTPException (401) for nobody."""
RegistryForBucket = Callable[[str], Registry | None]
Record = Callable[[Caller, str, str], None]
"""Told of every change that can be seen: caller, action (push, untag, repair, collect), and what it was done to."""


def registry_routes(
    registry_for_bucket: RegistryForBucket,
    authorize: Authorize,
    live: Callable[[], Iterable[str]] = tuple,
    record: Record = lambda _caller, _action, _subject: None,
    body_seconds: float = BODY_SECONDS,
    tokens: Tokens | None = None,
) -> list[Route]:
    """Mounted under `/api/v1alpha1/registry`. `live` gives the manifest digests that a collection must keep.

    `tokens` makes those that `authorize` lets in; without it, they end with this process.
    """
    shell = _Shell(registry_for_bucket, authorize, live, record, body_seconds, tokens or Tokens(secrets.token_bytes()))
    return [
        Route("/{bucket}/objects", shell.answer(shell.list_objects)),
        Route("/{bucket}/objects/{key:path}", shell.answer(shell.stat_object), methods=["HEAD"]),
        Route("/{bucket}/objects/{key:path}", shell.answer(shell.read_object), methods=["GET"]),
        Route("/{bucket}/objects/{key:path}", shell.answer(shell.sign_object), methods=["POST"]),
        Route("/{bucket}/objects/{key:path}", shell.answer(shell.put_object), methods=["PUT"]),
        Route("/{bucket}/objects/{key:path}", shell.answer(shell.delete_object), methods=["DELETE"]),
        Route("/{bucket}/uploads/{key:path}", shell.answer(shell.post_upload), methods=["POST"]),
        Route("/{bucket}/uploads/{key:path}", shell.answer(shell.get_upload), methods=["GET"]),
        Route("/{bucket}/uploads/{key:path}", shell.answer(shell.put_part), methods=["PUT"]),
        Route("/{bucket}/uploads/{key:path}", shell.answer(shell.delete_upload), methods=["DELETE"]),
        Route("/{bucket}/tokens", shell.answer(shell.make_token), methods=["POST"]),
        Route("/{bucket}/collection", shell.answer(shell.collect), methods=["POST"]),
    ]


class _Shell:
    def __init__(
        self,
        registry_for_bucket: RegistryForBucket,
        authorize: Authorize,
        live: Callable[[], Iterable[str]],
        record: Record,
        body_seconds: float,
        tokens: Tokens,
    ) -> None:
        self._registry_for_bucket = registry_for_bucket
        self._authorize = authorize
        self._live = live
        self._record = record
        self._body_seconds = body_seconds
        self._tokens = tokens
        self._references = lru_cache(maxsize=16)(lambda bucket: References(self._registry(bucket).store))
        self._bodies = asyncio.Semaphore(BODIES)

    def answer(
        self, endpoint: Callable[[Request, Caller], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            caller = await self._authorize(request)
            try:
                return await endpoint(request, caller)
            except ClientDisconnect:
                return Response(status_code=499)  # nobody is left to read it
            except (StoreError, RegistryError, BadManifestError) as error:
                return _refusal(error)

        return answered

    async def list_objects(self, request: Request, caller: Caller) -> Response:
        guard = self._guard(request, caller)
        items = guard.list(request.query_params.get("prefix", ""))
        first = await run_in_threadpool(lambda: next(items, None))  # an error becomes a status only before the body
        return StreamingResponse(_lines(first, items), media_type="application/x-ndjson")

    async def stat_object(self, request: Request, caller: Caller) -> Response:
        guard = self._guard(request, caller)
        info = await run_in_threadpool(guard.stat, request.path_params["key"])
        return Response(headers={"Content-Length": str(info.size), MODIFIED: repr(info.modified)})

    async def read_object(self, request: Request, caller: Caller) -> Response:
        guard, key = self._guard(request, caller), request.path_params["key"]
        size = (await run_in_threadpool(guard.stat, key)).size
        start, end, partial = _range(request.headers.get("range"), size)
        if start > end:
            raise ObjectCorruptError(f"object {key!r} has only {size} bytes", key=key)
        headers = {"Content-Length": str(end - start), "Accept-Ranges": "bytes"}
        if partial:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        chunks = await run_in_threadpool(guard.read, key, start, end - start)
        return StreamingResponse(chunks, 206 if partial else 200, headers, "application/octet-stream")

    async def sign_object(self, request: Request, caller: Caller) -> Response:
        guard, key = self._guard(request, caller), request.path_params["key"]
        return JSONResponse(asdict(await run_in_threadpool(guard.sign_read, key)))

    async def put_object(self, request: Request, caller: Caller) -> Response:
        guard, key = self._guard(request, caller), request.path_params["key"]
        async with self._bodies:
            await run_in_threadpool(guard.put, key, await _body(request, MANIFEST_LIMIT, self._body_seconds))
        if "/tags/" in key:
            await run_in_threadpool(self._record, caller, "push", f"s3://{request.path_params['bucket']}/{key}")
        return Response(status_code=204)

    async def delete_object(self, request: Request, caller: Caller) -> Response:
        guard, key = self._guard(request, caller), request.path_params["key"]
        await run_in_threadpool(guard.delete, key)
        if "/manifests/" not in key:
            action = "untag" if "/tags/" in key else "repair"
            await run_in_threadpool(self._record, caller, action, f"s3://{request.path_params['bucket']}/{key}")
        return Response(status_code=204)

    async def post_upload(self, request: Request, caller: Caller) -> Response:
        guard, key = self._guard(request, caller), request.path_params["key"]
        if "upload" not in request.query_params:
            return JSONResponse(asdict(await run_in_threadpool(guard.begin_upload, key)), 201)
        if "part" in request.query_params:
            return await self._sign_part(request, guard)
        parts = _parts(await _body(request, 4 * 2**20, self._body_seconds))
        await run_in_threadpool(guard.complete_upload, _upload(request), parts)
        return Response(status_code=204)

    async def _sign_part(self, request: Request, guard: Guard) -> Response:
        number = _number(request)
        size, sha256 = _content(await _body(request, 1000, self._body_seconds))
        signed = await run_in_threadpool(guard.sign_part, _upload(request), number, size, sha256)
        return JSONResponse(asdict(signed))

    async def get_upload(self, request: Request, caller: Caller) -> Response:
        guard, key = self._guard(request, caller), request.path_params["key"]
        if "upload" in request.query_params:
            parts = await run_in_threadpool(guard.parts, _upload(request))
            return JSONResponse({"parts": [asdict(part) for part in parts]})
        uploads = await run_in_threadpool(lambda: list(guard.uploads(key)))
        return JSONResponse({"uploads": [asdict(upload) for upload in uploads]})

    async def put_part(self, request: Request, caller: Caller) -> Response:
        guard, number = self._guard(request, caller), _number(request)
        async with self._bodies:
            data = await _body(request, PART_LIMIT, self._body_seconds)
            part = await run_in_threadpool(guard.put_part, _upload(request), number, data)
        return JSONResponse(asdict(part))

    async def delete_upload(self, request: Request, caller: Caller) -> Response:
        guard = self._guard(request, caller)
        await run_in_threadpool(guard.abort_upload, _upload(request))
        return Response(status_code=204)

    async def make_token(self, request: Request, caller: Caller) -> Response:
        bucket, repository = request.path_params["bucket"], check_repository(request.query_params.get("repository", ""))
        if isinstance(caller, Uploader) or not may_push(caller, repository):
            raise NotAllowedError(f"this key may not push to {repository!r}, and so makes no token for it")
        self._registry(bucket)
        seconds = _seconds(await _body(request, 1000, self._body_seconds))
        issued = self._tokens.issue(caller.key, bucket, repository, seconds)
        await run_in_threadpool(self._record, caller, "token", f"s3://{bucket}/{repository}")
        return JSONResponse(asdict(issued), 201)

    async def collect(self, request: Request, caller: Caller) -> Response:
        if not caller.admin:
            raise NotAllowedError("only an admin key may collect")
        registry = self._registry(request.path_params["bucket"])
        grace, dry_run = _collection(await _body(request, 1000, self._body_seconds))
        collected = await run_in_threadpool(lambda: registry.gc(self._live(), grace, dry_run=dry_run))
        if not dry_run:
            await run_in_threadpool(self._record, caller, "collect", f"s3://{request.path_params['bucket']}")
        return JSONResponse(asdict(collected))

    def _registry(self, bucket: str) -> Registry:
        registry = self._registry_for_bucket(bucket)
        if registry is None:
            raise ObjectNotFoundError(f"there is no bucket {bucket[:80]!r}")
        return registry

    def _guard(self, request: Request, caller: Caller) -> Guard:
        bucket, repository = request.path_params["bucket"], request.query_params.get("repository", "")
        if isinstance(caller, Uploader) and caller.bucket != bucket:
            raise NotAllowedError(f"the upload token is for bucket {caller.bucket!r}")
        store, references = self._registry(bucket).store, self._references(bucket)
        return Guard(store, references, caller, check_repository(repository) if repository else "")


def _refusal(error: Exception) -> Response:
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    content: dict[str, object] = {"code": type(error).__name__, "message": str(error)}
    if isinstance(error, ModelRefusedError):
        content["problems"] = list(error.problems)
    # Without the close, the rest of a body that is too large or too slow would be read to its end.
    close = {"Connection": "close"}
    headers = {503: {"Retry-After": "1"}, 408: close, 413: close}.get(status, {})
    return JSONResponse({"error": content}, status, headers)


async def _body(request: Request, limit: int, seconds: float) -> bytes:
    """Raises ObjectTooLargeError as soon as it is, StoreTooSlowError after so long."""
    data = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise ObjectTooLargeError(f"the body is larger than {limit} bytes")
    except TimeoutError:
        raise StoreTooSlowError(f"the body did not come within {seconds:.0f} s") from None
    return bytes(data)


def _range(header: str | None, size: int) -> tuple[int, int, bool]:
    """First byte, byte after the last, and whether it is a part. Raises InvalidKeyError."""
    if header is None:
        return 0, size, False
    found = _RANGE.fullmatch(header)
    if not found:
        raise InvalidKeyError(f"range {header[:60]!r} is not valid: expected bytes=A-B")
    return int(found[1]), min(int(found[2]) + 1, size) if found[2] else size, True


def _lines(first: ObjectInfo | None, rest: Iterator[ObjectInfo]) -> Iterator[bytes]:
    if first is not None:
        yield json.dumps(asdict(first)).encode() + b"\n"
    for item in rest:
        yield json.dumps(asdict(item)).encode() + b"\n"


def _upload(request: Request) -> Upload:
    """Raises ObjectNotFoundError for an id that no store gives out."""
    key, upload = request.path_params["key"], request.query_params.get("upload", "")
    if not _UPLOAD_ID.fullmatch(upload) or ".." in upload:
        raise ObjectNotFoundError(f"the upload of {key!r} is unknown", key=key)
    return Upload(key, upload, 0.0)


def _number(request: Request) -> int:
    """Raises InvalidKeyError."""
    number = request.query_params.get("part", "")
    if not _PART_NUMBER.fullmatch(number) or int(number) > PARTS:
        raise InvalidKeyError(f"part number {number[:20]!r} is not valid: expected 1 to {PARTS}")
    return int(number)


def _content(body: bytes) -> tuple[int, str]:
    """Size and SHA-256 of a part to come. Raises BadManifestError."""
    loaded = load_json(body, 1000)
    size, sha256 = (loaded.get("size"), loaded.get("sha256")) if isinstance(loaded, dict) else (None, None)
    if type(size) is not int or not 0 < size <= PART_LIMIT or not _SHA256.fullmatch(str(sha256)):
        raise BadManifestError(f"expected the part's size, 1 to {PART_LIMIT}, and its sha256 in hexadecimal digits")
    return size, str(sha256)


def _parts(body: bytes) -> list[Part]:
    """Raises BadManifestError."""
    loaded = load_json(body, 4 * 2**20)
    items = loaded.get("parts") if isinstance(loaded, dict) else None
    try:
        return [_part(cast("dict[str, object]", item)) for item in items or ()]
    except (TypeError, KeyError, AttributeError):
        raise BadManifestError("parts: expected a list of number, size, etag and sha256") from None


def _part(item: dict[str, object]) -> Part:
    number, size, etag, sha = item["number"], item["size"], item["etag"], item["sha256"]
    if not (type(number) is int and type(size) is int and isinstance(etag, str) and isinstance(sha, str)):
        raise TypeError
    if sha and not _SHA256.fullmatch(sha):
        raise TypeError
    return Part(number, size, etag, sha)


def _seconds(body: bytes) -> float:
    """How long a token is to hold. Raises BadManifestError."""
    loaded = load_json(body, 1000)
    seconds = loaded.get("seconds") if isinstance(loaded, dict) else None
    if type(seconds) not in (int, float) or not 0 < cast("float", seconds) <= LONGEST_SECONDS:
        raise BadManifestError(f"seconds: expected a number up to {LONGEST_SECONDS}")
    return float(cast("float", seconds))


def _collection(body: bytes) -> tuple[float, bool]:
    """Grace in seconds, and whether nothing is to be removed. Raises BadManifestError."""
    loaded = load_json(body or b"{}", 1000)
    if not isinstance(loaded, dict) or not set(loaded) <= {"grace", "dryRun"}:
        raise BadManifestError("expected an object of grace and dryRun")
    grace, dry_run = loaded.get("grace", GRACE_SECONDS), loaded.get("dryRun", False)
    if type(grace) not in (int, float) or not 0 <= cast("float", grace) < 10**9:
        raise BadManifestError("grace: expected a number of seconds")
    if type(dry_run) is not bool:
        raise BadManifestError("dryRun: expected true or false")
    return float(cast("float", grace)), dry_run
