"""Function objects of a Kubernetes API server: the same manifest with the server's own words around it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotlight.platform.manifest.loading import parse
from pilotlight.platform.manifest.model import Function

OURS = ("name", "namespace", "labels", "annotations")
"""Of the metadata, what a manifest has; the rest is the server's."""
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""kubectl's own memory of what was applied."""


def from_object(found: Mapping[str, Any]) -> Function:
    """The manifest in an object; raises ManifestError as `parse` does."""
    metadata = {name: value for name, value in found["metadata"].items() if name in OURS}
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = {name: value for name, value in annotations.items() if name != APPLIED}
    where = f"Function {metadata.get('namespace', 'default')}/{metadata.get('name', '')}"
    content = {name: found[name] for name in ("apiVersion", "kind", "spec") if name in found}
    return parse({**content, "metadata": metadata}, where)


def to_object(manifest: Function) -> dict[str, Any]:
    """What to apply; its namespace is always said."""
    content: dict[str, Any] = manifest.to_dict()
    return {**content, "metadata": {**content["metadata"], "namespace": manifest.metadata.namespace}}
