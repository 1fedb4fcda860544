"""Model references: `s3://BUCKET/REPOSITORY:TAG` and `s3://BUCKET/REPOSITORY@sha256:HEX`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilotlight.platform.registry.errors import BadReferenceError

DEFAULT_TAG = "latest"
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?")
_RESERVED = frozenset({"blobs", "manifests", "tags", "uploads"})  # folders of the layout
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_EXPECTED = "expected s3://BUCKET/NAME:TAG, s3://BUCKET/NAMESPACE/NAME:TAG or ...@sha256:<64 hexadecimal digits>"


@dataclass(frozen=True)
class ModelRef:
    """Exactly one of `tag` and `digest` is set. Raises BadReferenceError for what cannot be written."""

    bucket: str
    repository: str  # NAME, or NAMESPACE/NAME
    tag: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket) or ".." in self.bucket:
            raise BadReferenceError(f"bucket {self.bucket[:80]!r} is not valid: 3 to 63 of a-z, 0-9, '.' and '-'")
        check_repository(self.repository)
        if bool(self.tag) == bool(self.digest):
            raise BadReferenceError(f"a model reference has a tag or a digest, not both; {_EXPECTED}")
        if self.tag:
            check_tag(self.tag)
        elif not _DIGEST.fullmatch(self.digest):
            raise BadReferenceError(f"digest {self.digest[:80]!r} is not valid; {_EXPECTED}")

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """The tag defaults to `latest`. Raises BadReferenceError."""
        scheme, separator, rest = text.partition("://")
        bucket, slash, path = rest.partition("/")
        if scheme != "s3" or not separator or not slash or len(text) > 500:
            raise BadReferenceError(f"model reference {text[:200]!r} is not valid: {_EXPECTED}")
        repository, at, digest = path.partition("@")
        if at:
            return cls(bucket, repository, digest=digest)
        repository, colon, tag = repository.partition(":")
        return cls(bucket, repository, tag=tag if colon else DEFAULT_TAG)

    def __str__(self) -> str:
        end = f":{self.tag}" if self.tag else f"@{self.digest}"
        return f"s3://{self.bucket}/{self.repository}{end}"

    @property
    def namespace(self) -> str | None:
        """None: shared by all."""
        return namespace_of(self.repository)


def namespace_of(repository: str) -> str | None:
    """The namespace that owns the repository; None: shared by all."""
    namespace, slash, _ = repository.partition("/")
    return namespace if slash else None


def check_repository(repository: str) -> str:
    """The name itself: NAME or NAMESPACE/NAME. Raises BadReferenceError."""
    names = repository.split("/")
    if len(names) > 2 or not all(_NAME.fullmatch(name) and name not in _RESERVED for name in names):
        raise BadReferenceError(
            f"repository {repository[:200]!r} is not valid: expected NAME or NAMESPACE/NAME"
            " of lower-case letters, digits, '.', '_' and '-', none of them " + ", ".join(sorted(_RESERVED))
        )
    return repository


def check_tag(tag: str) -> str:
    """The tag itself. Raises BadReferenceError."""
    if not _TAG.fullmatch(tag):
        raise BadReferenceError(f"tag {tag[:200]!r} is not valid: 1 to 128 letters, digits, '.', '_' and '-'")
    return tag
