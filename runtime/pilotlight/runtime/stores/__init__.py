"""Where models are kept: a folder, or any S3-compatible bucket, behind one Protocol."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from pilotlight.runtime.stores.errors import (
    BadAddressError,
    InvalidKeyError,
    ObjectCorruptError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    StoreDeniedError,
    StoreError,
    StoreTooSlowError,
    StoreUnavailableError,
)
from pilotlight.runtime.stores.protocol import (
    CHUNK_BYTES,
    ObjectInfo,
    ObjectStore,
    Part,
    Presigner,
    SignedRequest,
    Upload,
    read_into,
    read_small,
)

__all__ = [
    "CHUNK_BYTES",
    "BadAddressError",
    "InvalidKeyError",
    "ObjectCorruptError",
    "ObjectInfo",
    "ObjectNotFoundError",
    "ObjectStore",
    "ObjectTooLargeError",
    "Part",
    "Presigner",
    "SignedRequest",
    "StoreDeniedError",
    "StoreError",
    "StoreTooSlowError",
    "StoreUnavailableError",
    "Upload",
    "open_store",
    "read_into",
    "read_small",
]

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def open_store(address: str) -> ObjectStore:
    """`file:///absolute/folder` or `s3://bucket[?style=path|virtual]`. Raises BadAddressError.

    Credentials, region and endpoint of S3 come by the AWS environment names (`AWS_ENDPOINT_URL_S3`, ...).
    """
    parts = urlsplit(address)
    if parts.scheme == "file":
        return _open_folder(address, parts.netloc, unquote(parts.path), parts.query + parts.fragment)
    if parts.scheme == "s3":
        if parts.path not in ("", "/") or not _BUCKET.fullmatch(parts.netloc) or parts.fragment:
            # Not repeated: people put credentials before the bucket's name.
            raise BadAddressError("the S3 store address is not valid: expected s3://BUCKET, credentials by environment")
        return _open_bucket(address, parts.netloc, parts.query)
    raise BadAddressError(f"store address {address!r} is not valid: expected file:///FOLDER or s3://BUCKET")


def _open_folder(address: str, host: str, path: str, rest: str) -> ObjectStore:
    from pilotlight.runtime.stores.folder import FolderStore

    if host not in ("", "localhost") or not Path(path).is_absolute() or rest:
        raise BadAddressError(f"store address {address!r} is not valid: expected file:///ABSOLUTE/FOLDER")
    return FolderStore(Path(path))


def _open_bucket(address: str, bucket: str, query: str) -> ObjectStore:
    # boto3 takes a second to import; whoever has a folder does not pay for it.
    from pilotlight.runtime.stores.s3 import S3Options, S3Store

    options = dict(parse_qsl(query, keep_blank_values=True))
    style = options.pop("style", "")
    if options or style not in ("", "path", "virtual"):
        raise BadAddressError(f"store address {address!r} is not valid: the only option is style=path or style=virtual")
    settings = S3Options.from_environment()
    return S3Store(bucket, settings.with_style(style) if style else settings)
