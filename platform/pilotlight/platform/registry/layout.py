"""Where everything lies in the store, and what a key means.

    blobs/sha256/HEX                              files, and manifests a second time so that a digest is enough to fetch
    repositories/REPO/manifests/sha256/HEX        manifests whose files are all there
    repositories/REPO/tags/TAG                    a digest as text
    pending/REPO/manifests/sha256/HEX             manifests of pushes under way: they keep their files from collection
    pending/REPO/blobs/sha256/HEX                 (empty) files that were pushed to REPO through the API
    pending/REPO/uploads/sha256/HEX               files pushed through the API, not verified yet
    collection/lease                              a garbage collection runs until the time written there

REPO is NAME or NAMESPACE/NAME; both shapes can be told apart because `manifests`, `tags`, `blobs` and `uploads` are
followed by a fixed number of segments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from pilotlight.platform.registry.errors import BadReferenceError
from pilotlight.platform.registry.refs import check_repository, check_tag
from pilotlight.runtime.models import blob_key, check_digest

__all__ = ["LEASE", "Kind", "Place", "blob_key", "manifest_key", "parse_key", "pending_key", "tag_key"]

LEASE = "collection/lease"
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_DIGESTED = re.compile(r"(repositories|pending)/(.+)/(manifests|blobs|uploads)/sha256/([0-9a-f]{64})")
_TAG = re.compile(r"repositories/(.+)/tags/([^/]+)")


class Kind(StrEnum):
    """What a key holds."""

    BLOB = "blob"
    MANIFEST = "manifest"
    TAG = "tag"
    PENDING_MANIFEST = "pending manifests"
    PENDING_BLOB = "pending blobs"
    PENDING_UPLOAD = "pending uploads"
    LEASE = "lease"


@dataclass(frozen=True)
class Place:
    """A key, understood."""

    kind: Kind
    repository: str = ""
    digest: str = ""
    tag: str = ""


def manifest_key(repository: str, digest: str) -> str:
    return f"repositories/{repository}/manifests/sha256/{_hex(digest)}"


def tag_key(repository: str, tag: str) -> str:
    return f"repositories/{repository}/tags/{tag}"


def pending_key(kind: Kind, repository: str, digest: str) -> str:
    """`kind` is one of the PENDING ones."""
    return f"pending/{repository}/{kind.removeprefix('pending ')}/sha256/{_hex(digest)}"


def parse_key(key: str) -> Place | None:
    """None: not one of ours."""
    if key == LEASE:
        return Place(Kind.LEASE)
    if found := _BLOB.fullmatch(key):
        return Place(Kind.BLOB, digest=f"sha256:{found[1]}")
    try:
        if found := _TAG.fullmatch(key):
            return Place(Kind.TAG, check_repository(found[1]), tag=check_tag(found[2]))
        if found := _DIGESTED.fullmatch(key):
            return _digested(*found.groups())
    except BadReferenceError:
        return None
    return None


def _digested(root: str, repository: str, folder: str, digits: str) -> Place | None:
    if root == "pending":
        return Place(Kind(f"pending {folder}"), check_repository(repository), f"sha256:{digits}")
    if folder == "manifests":
        return Place(Kind.MANIFEST, check_repository(repository), f"sha256:{digits}")
    return None


def _hex(digest: str) -> str:
    return check_digest(digest).removeprefix("sha256:")
