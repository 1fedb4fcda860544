"""The registry's operations for the OpenAPI document. `registry.http` serves them; a test compares the two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from pilotlight.platform.api.openapi import JSON, Content, Described
from pilotlight.platform.api.shapes import Shape
from pilotlight.platform.registry.collection import GRACE_SECONDS, Collected
from pilotlight.platform.registry.http import PART_LIMIT, PARTS
from pilotlight.platform.registry.tokens import LONGEST_SECONDS
from pilotlight.platform.registry.wire import MODIFIED, Issued
from pilotlight.runtime.stores import ObjectInfo, Part, SignedRequest, Upload

REGISTRY_PATH = "/registry"


class PrefixQuery(Shape):
    prefix: Annotated[str, Field(pattern="^repositories/")]
    """With which keys begin."""


class RepositoryQuery(Shape):
    repository: str = ""
    """`[NAMESPACE/]NAME`, for which the key needs the right."""


class UploadsQuery(RepositoryQuery):
    upload: str = ""
    """The upload's id; left out: none of them, or all."""


class UploadQuery(RepositoryQuery):
    upload: str
    """The upload's id."""


class PostQuery(UploadsQuery):
    part: Annotated[int | None, Field(ge=1, le=PARTS)] = None
    """The part's number."""


class PartQuery(UploadQuery):
    part: Annotated[int, Field(ge=1, le=PARTS)]
    """The part's number."""


class PartIn(Shape):
    """A part to come."""

    size: Annotated[int, Field(gt=0, le=PART_LIMIT)]
    """Bytes."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class SentPart(Shape):
    """A part as it was answered."""

    number: Annotated[int, Field(ge=1, le=PARTS)]
    size: int
    """Bytes."""
    etag: str
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]


class PartsIn(Shape):
    """All parts of an upload."""

    parts: tuple[SentPart, ...]


class TokenIn(Shape):
    """An upload token to be made."""

    seconds: Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
    """How long it is to hold."""


class CollectionIn(Shape):
    """How to collect; may be left out."""

    grace: Annotated[float, Field(ge=0, lt=10**9)] = GRACE_SECONDS
    """What is younger stays, seconds."""
    dryRun: bool = False  # noqa: N815 - as it is sent
    """Say what would be removed, and remove nothing."""


@dataclass(frozen=True)
class Parts:
    """The parts of an upload that are there."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Uploads:
    """Unfinished uploads of a file."""

    uploads: tuple[Upload, ...]


class RegistryProblem(Shape):
    code: str
    """Name of the error's class."""
    message: str
    problems: tuple[str, ...] = ()
    """Of a model that was refused."""


class RegistryErrorOut(Shape):
    """A refusal of the registry; without a key it is `ErrorOut`."""

    error: RegistryProblem


_OBJECT, _UPLOAD = "/objects/{key:path}", "/uploads/{key:path}"
_BYTES = "application/octet-stream"
_ROWS = (
    Described(
        "GET",
        "/objects",
        "List manifests and tags that the key may read",
        {200: Content("application/x-ndjson", ObjectInfo)},
        PrefixQuery,
        note="One object a line.",
    ),
    Described(
        "HEAD",
        _OBJECT,
        "Look at an object",
        {200: None},
        RepositoryQuery,
        note=f"`Content-Length` is its size, `{MODIFIED}` when it changed, Unix seconds.",
    ),
    Described(
        "GET",
        _OBJECT,
        "Read an object",
        {200: Content(_BYTES), 206: Content(_BYTES)},
        RepositoryQuery,
        note="A `Range` of bytes is kept to.",
    ),
    Described("POST", _OBJECT, "Sign a GET at the store itself", {200: Content(JSON, SignedRequest)}, RepositoryQuery),
    Described("PUT", _OBJECT, "Write a small object", {204: None}, RepositoryQuery, (Content(_BYTES),)),
    Described("DELETE", _OBJECT, "Delete an object", {204: None}, RepositoryQuery),
    Described(
        "POST",
        _UPLOAD,
        "Begin an upload, sign a part of it, or complete it",
        {200: Content(JSON, SignedRequest), 201: Content(JSON, Upload), 204: None},
        PostQuery,
        (Content(JSON, PartIn | PartsIn),),
        needs_body=False,
        note="Without `upload` it begins one (201). With `upload` and `part`, and a body `PartIn`, it signs the part's"
        " PUT at the store itself (200). With `upload` alone, and a body `PartsIn`, it completes and admits the file"
        " (204).",
    ),
    Described(
        "GET",
        _UPLOAD,
        "List unfinished uploads of a file, or the parts of one",
        {200: Content(JSON, Uploads | Parts)},
        UploadsQuery,
    ),
    Described("PUT", _UPLOAD, "Write a part", {200: Content(JSON, Part)}, PartQuery, (Content(_BYTES),)),
    Described("DELETE", _UPLOAD, "Forget an upload", {204: None}, UploadQuery),
    Described(
        "POST",
        "/tokens",
        "Make an upload token for a repository",
        {201: Content(JSON, Issued)},
        RepositoryQuery,
        (Content(JSON, TokenIn),),
    ),
    Described(
        "POST",
        "/collection",
        "Collect what nobody needs",
        {200: Content(JSON, Collected)},
        takes=(Content(JSON, CollectionIn),),
        needs_body=False,
        note="Needs an admin key.",
    ),
)
REGISTRY = tuple(replace(row, path=f"{REGISTRY_PATH}/{{bucket}}{row.path}", error=RegistryErrorOut) for row in _ROWS)
