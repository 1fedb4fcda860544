"""Where a model is: `s3://BUCKET/[NAMESPACE/]NAME[:TAG|@sha256:HEX]` or `hf://ORG/NAME[@REVISION]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from pilotlight.platform.manifest.units import UnitError, shown

LONGEST_REFERENCE = 512
_BUCKET = r"(?P<bucket>[a-z0-9](?:[a-z0-9-]|\.(?![.-])){1,61}[a-z0-9])"
_NAMESPACE = r"(?P<namespace>[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
_NAME = r"(?P<name>[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){0,126}(?<![._-]))"
_TAG = r"(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})"
_DIGEST = r"(?P<digest>sha256:[0-9a-f]{64})"
_REGISTRY = re.compile(rf"s3://{_BUCKET}/(?:{_NAMESPACE}/)?{_NAME}(?::{_TAG}|@{_DIGEST})?")
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,95}"
_HUB = re.compile(
    rf"hf://(?P<org>{_PART})/(?P<name>{_PART})(?:@(?P<revision>[A-Za-z0-9](?:[\w/-]|\.(?!\.)){{0,254}}))?", re.ASCII
)
_SCHEMES = ("s3", "hf")

EXPECTED = "s3://BUCKET/[NAMESPACE/]NAME[:TAG|@sha256:HEX] or hf://ORG/NAME[@REVISION]"
PATTERN = r"^(s3|hf)://[^\s]+$"


@dataclass(frozen=True)
class RegistryReference:
    """A model in the registry; by tag, or by digest, which never changes."""

    bucket: str
    name: str
    namespace: str | None = None  # None: shared by all
    tag: str | None = "latest"  # None exactly when there is a digest
    digest: str | None = None  # sha256:<64 hex>

    @property
    def repository(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.repository}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


@dataclass(frozen=True)
class HubReference:
    """A model on the Hugging Face hub; imported into the registry first."""

    org: str
    name: str
    revision: str | None = None  # None: the default branch

    @property
    def repository(self) -> str:
        return f"{self.org}/{self.name}"

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


ModelReference = RegistryReference | HubReference


def parse_reference(text: object) -> ModelReference:
    """Raises `UnitError` with what is wrong with which part."""
    if isinstance(text, RegistryReference | HubReference):
        return text
    if not isinstance(text, str) or not text:
        raise UnitError(f"{shown(text)} is not a model reference", EXPECTED)
    if len(text) > LONGEST_REFERENCE:
        raise UnitError(f"{shown(text)} is longer than {LONGEST_REFERENCE} characters", EXPECTED)
    if match := _REGISTRY.fullmatch(text):
        tag = None if match["digest"] else match["tag"] or "latest"
        return RegistryReference(match["bucket"], match["name"], match["namespace"], tag, match["digest"])
    if match := _HUB.fullmatch(text):
        return HubReference(match["org"], match["name"], match["revision"])
    raise _explained(text)


def _explained(text: str) -> UnitError:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return UnitError(f"{shown(text)} names no store", EXPECTED)
    if scheme not in _SCHEMES:
        near = get_close_matches(scheme.lower(), _SCHEMES, n=1, cutoff=0.5)
        return UnitError(f'"{scheme[:20]}" is not a store', EXPECTED, f"{near[0]}://{rest}" if near else "")
    if "@" in rest and scheme == "s3":
        return UnitError(f"{shown(text)} has a malformed digest", "@sha256: and 64 lower-case hexadecimal digits")
    if scheme == "s3" and rest != rest.lower() and _REGISTRY.fullmatch(text.lower()):
        return UnitError(f"{shown(text)} has capital letters in its name", EXPECTED, text.lower())
    return UnitError(f"{shown(text)} is malformed", EXPECTED)
