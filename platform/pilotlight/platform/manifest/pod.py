"""The manifest's pod section: where and as what a replica's pod runs; Kubernetes' own names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from pilotlight.platform.manifest.errors import Problem
from pilotlight.platform.manifest.fields import (
    DNS_NAME,
    LABEL_KEY,
    LABEL_VALUE,
    LONGEST_LABEL,
    LONGEST_NAME,
    Part,
    Ruled,
)

MOST_TOLERATIONS = 32
MOST_PULL_SECRETS = 16
LONGEST_IMAGE = 512
LONGEST_TOLERATION = 10**9
"""Seconds, 31 years."""

_Name = Annotated[str, Field(pattern=DNS_NAME, min_length=1, max_length=LONGEST_NAME)]
_Key = Annotated[str, Field(pattern=LABEL_KEY, min_length=1, max_length=LONGEST_NAME)]
_Value = Annotated[str, Field(pattern=LABEL_VALUE, max_length=LONGEST_LABEL)]
_Image = Annotated[str, Field(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$", max_length=LONGEST_IMAGE)]


class Toleration(Ruled):
    """A taint of nodes that does not keep the pod away."""

    key: _Key | None = None
    """The taint's key; none, with `operator: Exists`: every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the taint's value counts."""
    value: _Value | None = None
    """The taint's value; only with `operator: Equal`."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; none: every one."""
    toleration_seconds: Annotated[int, Field(ge=0, le=LONGEST_TOLERATION)] | None = None
    """How long the pod stays on a node that gets the taint; only with `effect: NoExecute`."""

    def _problems(self) -> Iterator[Problem]:
        if self.key is None and self.operator == "Equal":
            yield Problem("operator", "is Equal, but there is no key", "a key beside it, or operator: Exists")
        if self.value and self.operator == "Exists":
            yield Problem("value", "does not go with operator Exists", "operator: Equal")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            yield Problem("tolerationSeconds", "is about effect NoExecute alone", "effect: NoExecute beside it")


class Pod(Part):
    """Where and as what a replica's pod runs; counts in clusters only."""

    service_account_name: _Name | None = None
    """Service account of the pod; its token is not mounted. Its annotation `pilotlight.dev/s3-secret` names a Secret
    with S3 credentials that the pod has in place of the platform's."""
    image_pull_secrets: Annotated[tuple[_Name, ...], Field(strict=False, max_length=MOST_PULL_SECRETS)] = ()
    """Names of Secrets in the function's namespace with which images are pulled."""
    node_selector: Annotated[dict[_Key, _Value], Field(max_length=64)] = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(strict=False, max_length=MOST_TOLERATIONS)] = ()
    """Taints of nodes that do not keep the pod away."""
    priority_class_name: _Name | None = None
    """How important the pod is to the scheduler."""
    runtime_class_name: _Name | None = None
    """Which container runtime starts the pod."""
    image: _Image | None = None
    """Another runtime image than the platform's; it must bring the same supervisor."""
