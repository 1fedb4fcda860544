"""Any S3-compatible bucket as a store; the only module that imports boto3."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast
from urllib.parse import urlsplit

import boto3
from botocore.client import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's, as everything here
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.response import StreamingBody

from pilotlight.runtime.stores.errors import (
    BadAddressError,
    ObjectCorruptError,
    ObjectNotFoundError,
    StoreDeniedError,
    StoreError,
    StoreTooSlowError,
    StoreUnavailableError,
)
from pilotlight.runtime.stores.keys import check_key, check_prefix
from pilotlight.runtime.stores.protocol import CHUNK_BYTES, ObjectInfo, Part, SignedRequest, Upload, resumed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

Style = Literal["auto", "path", "virtual"]
_COPY_BYTES = 1 << 30  # CopyObject takes at most 5 GiB; larger objects are copied in parts of this size
SIGNED_SECONDS = 900
"""How long a signed request may be begun: it is asked for just before, and may have to be tried again."""
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NoSuchBucket", "NotFound"})
_DENIED = frozenset({"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"})


@dataclass(frozen=True)
class S3Options:
    """How to talk to the bucket. Credentials come by boto3's own chain and never pass through here."""

    endpoint: str | None = None
    public_endpoint: str | None = None
    """Where those who are given signed requests reach the server; None: at `endpoint`."""
    region: str = "us-east-1"  # what servers other than Amazon's take
    style: Style = "auto"  # path: http://endpoint/bucket/key, virtual: http://bucket.endpoint/key
    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    """Longest silence of the server before a request is tried again."""
    attempts: int = 4
    """Tries of one request, and tries in a row of a read that makes no progress."""
    least_rate: int = 16 * 1024
    """Bytes per second below which a read counts as stalled."""
    connections: int = 32

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> S3Options:
        """The AWS names, `PILOTLIGHT_S3_STYLE=path|virtual` and `PILOTLIGHT_S3_PUBLIC_ENDPOINT`.

        Raises BadAddressError.
        """
        style = environment.get("PILOTLIGHT_S3_STYLE", "auto")
        if style not in ("auto", "path", "virtual"):
            raise BadAddressError(f"PILOTLIGHT_S3_STYLE is {style!r}, expected path, virtual or auto")
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or cls.region
        endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
        public = _endpoint("PILOTLIGHT_S3_PUBLIC_ENDPOINT", environment.get("PILOTLIGHT_S3_PUBLIC_ENDPOINT", ""))
        return cls(endpoint=endpoint, public_endpoint=public, region=region, style=cast("Style", style))

    def with_style(self, style: str) -> S3Options:
        return replace(self, style=cast("Style", style))

    @property
    def addressing(self) -> Literal["path", "virtual"]:
        """Own servers rarely have a DNS name for each bucket, so an endpoint means path style unless told otherwise."""
        if self.style == "auto":
            return "path" if self.endpoint or self.public_endpoint else "virtual"
        return self.style


class S3Store:
    """Every request has timeouts and bounded retries; every upload carries SHA-256 checksums."""

    def __init__(self, bucket: str, options: S3Options, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._bucket = bucket
        self._options = options
        self._monotonic = monotonic
        with _translated(""):
            self._client = _client(options)

    @property
    def address(self) -> str:
        style = "" if self._options.style == "auto" else f"?style={self._options.style}"
        return f"s3://{self._bucket}{style}"

    def ensure_bucket(self) -> None:
        """Create the bucket unless it is there."""
        with _translated(""):
            try:
                self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if _code(error) not in _MISSING:
                    raise
                self._client.create_bucket(Bucket=self._bucket)

    def stat(self, key: str) -> ObjectInfo:
        with _translated(check_key(key)):
            head = self._client.head_object(Bucket=self._bucket, Key=key)
        return ObjectInfo(key, head["ContentLength"], head["LastModified"].timestamp())

    def read(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        check_key(key)
        left = max(self.stat(key).size - start, 0) if length is None else length
        patience = self._options.attempts * self._options.read_seconds + left / self._options.least_rate
        read_once = partial(self._read_once, key, self._monotonic() + patience)
        return resumed(read_once, key, start, left, self._options.attempts)

    def put(self, key: str, data: bytes) -> None:
        with _translated(check_key(key)):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data, ChecksumAlgorithm="SHA256")

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2")
        with _translated(check_prefix(prefix)):
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                for item in page.get("Contents", ()):
                    yield ObjectInfo(item["Key"], item["Size"], item["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        with _translated(check_key(key)):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def move(self, source: str, target: str) -> None:
        size = self.stat(source).size
        with _translated(check_key(target)):
            if size <= _COPY_BYTES:
                self._client.copy_object(Bucket=self._bucket, Key=target, CopySource=f"{self._bucket}/{source}")
            else:
                self._copy_parts(source, target, size)
            self._client.delete_object(Bucket=self._bucket, Key=source)

    def begin_upload(self, key: str) -> Upload:
        with _translated(check_key(key)):
            made = self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ChecksumAlgorithm="SHA256")
        return Upload(key, made["UploadId"], time.time())

    def uploads(self, key: str = "") -> Iterator[Upload]:
        pages = self._client.get_paginator("list_multipart_uploads")
        with _translated(check_prefix(key)):
            items = (
                item for page in pages.paginate(Bucket=self._bucket, Prefix=key) for item in page.get("Uploads", ())
            )
            for item in items:
                if key in ("", item["Key"]):
                    yield Upload(item["Key"], item["UploadId"], item["Initiated"].timestamp())

    def parts(self, upload: Upload) -> tuple[Part, ...]:
        pages = self._client.get_paginator("list_parts")
        found: list[Part] = []
        with _translated(upload.key):
            for page in pages.paginate(Bucket=self._bucket, Key=upload.key, UploadId=upload.id):
                for item in page.get("Parts", ()):
                    checksum = _hex(item.get("ChecksumSHA256", ""))
                    found.append(Part(item["PartNumber"], item["Size"], item["ETag"], checksum))
        return tuple(sorted(found, key=lambda part: part.number))

    def put_part(self, upload: Upload, number: int, data: bytes) -> Part:
        with _translated(upload.key):
            made = self._client.upload_part(
                Bucket=self._bucket,
                Key=upload.key,
                UploadId=upload.id,
                PartNumber=number,
                Body=data,
                ChecksumAlgorithm="SHA256",
            )
        return Part(number, len(data), made["ETag"], _hex(made.get("ChecksumSHA256", "")))

    def complete_upload(self, upload: Upload, parts: Sequence[Part]) -> None:
        with _translated(upload.key):
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=upload.key,
                UploadId=upload.id,
                MultipartUpload={"Parts": [_completed(part) for part in parts]},
            )

    def abort_upload(self, upload: Upload) -> None:
        try:
            with _translated(upload.key):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload.key, UploadId=upload.id)
        except ObjectNotFoundError:
            return

    def sign_part(self, upload: Upload, number: int, size: int, sha256: str) -> SignedRequest:
        checksum = _base64(sha256)
        part = {"UploadId": upload.id, "PartNumber": number, "ContentLength": size, "ChecksumSHA256": checksum}
        return self._sign("upload_part", upload.key, part, {"x-amz-checksum-sha256": checksum})

    def sign_read(self, key: str) -> SignedRequest:
        return self._sign("get_object", key, {}, {})

    def _sign(self, method: str, key: str, more: Mapping[str, Any], headers: Mapping[str, str]) -> SignedRequest:
        asked = {"Bucket": self._bucket, "Key": check_key(key), **more}
        with _translated(key):
            url = self._signer.generate_presigned_url(method, Params=asked, ExpiresIn=SIGNED_SECONDS)
        return SignedRequest(url, headers)

    @cached_property
    def _signer(self) -> S3Client:
        """The host is signed too, so what is for others is signed by a client of the address that they use."""
        public = self._options.public_endpoint
        return _client(replace(self._options, endpoint=public)) if public else self._client

    def _read_once(self, key: str, deadline: float, start: int, length: int) -> Iterator[bytes]:
        with _translated(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={start}-{start + length - 1}")
            with closing(answer["Body"]) as body:
                for chunk in _chunks(body):
                    yield chunk
                    if self._monotonic() > deadline:
                        raise StoreTooSlowError(f"object {key!r} comes too slowly", key=key)

    def _copy_parts(self, source: str, target: str, size: int) -> None:
        upload = self.begin_upload(target)
        parts = []
        for number, start in enumerate(range(0, size, _COPY_BYTES), 1):
            end = min(start + _COPY_BYTES, size)
            made = self._client.upload_part_copy(
                Bucket=self._bucket,
                Key=target,
                UploadId=upload.id,
                PartNumber=number,
                CopySource=f"{self._bucket}/{source}",
                CopySourceRange=f"bytes={start}-{end - 1}",
            )["CopyPartResult"]
            parts.append(Part(number, end - start, made["ETag"], _hex(made.get("ChecksumSHA256", ""))))
        self.complete_upload(upload, parts)


def _client(options: S3Options) -> S3Client:
    config = Config(
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        retries={"mode": "standard", "total_max_attempts": options.attempts},
        max_pool_connections=options.connections,
        s3={"addressing_style": options.addressing},
        signature_version="s3v4",
        # Ranged reads have no checksum of their own; whoever reads a model verifies its digest.
        response_checksum_validation="when_required",
    )
    # A session of its own: boto3's default one is not safe to make clients from in several threads.
    session = boto3.session.Session()
    client: S3Client = session.client("s3", endpoint_url=options.endpoint, region_name=options.region, config=config)
    return client


def _chunks(body: StreamingBody) -> Iterator[bytes]:
    while chunk := body.read(CHUNK_BYTES):
        yield chunk


def _completed(part: Part) -> CompletedPartTypeDef:
    if not part.sha256:
        return {"PartNumber": part.number, "ETag": part.etag}
    return {"PartNumber": part.number, "ETag": part.etag, "ChecksumSHA256": _base64(part.sha256)}


def _endpoint(name: str, url: str) -> str | None:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username):
        raise BadAddressError(f"{name} is not valid: expected http://HOST:PORT or https://HOST:PORT")
    return url.rstrip("/") or None


def _base64(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def _hex(checksum: str) -> str:
    """S3 speaks base64 of the digest."""
    return base64.b64decode(checksum).hex() if checksum else ""


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        _refused(error, key)
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StoreDeniedError(
            f"no S3 credentials: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile", key=key
        ) from error
    except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
        raise StoreUnavailableError(
            f"object {key!r}: the store could not be reached or broke off: {error}", key=key
        ) from error
    except BotoCoreError as error:
        raise StoreError(f"object {key!r}: {error}", key=key) from error


def _refused(error: ClientError, key: str) -> NoReturn:
    code = _code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _MISSING:
        raise ObjectNotFoundError(f"object {key!r} does not exist: {error}", key=key) from None
    if code in _DENIED or status in (401, 403):
        raise StoreDeniedError(f"object {key!r} is denied: {error}", key=key) from error
    if code == "InvalidRange":
        raise ObjectCorruptError(f"object {key!r} is shorter than the range that was asked for", key=key) from None
    if status >= 500 or code in ("InternalError", "RequestTimeout", "SlowDown"):
        raise StoreUnavailableError(f"object {key!r}: the store is in trouble: {error}", key=key) from error
    raise StoreError(f"object {key!r}: {error}", key=key) from error
