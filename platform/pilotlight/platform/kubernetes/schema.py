"""JSON schema of the manifest -> structural schema of Kubernetes: one type per node, no references. Pure.

What a structural schema cannot say (that a value may be empty, which kinds a scalar may be of) is said by the
platform's own validation, which reads every object again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

_KEPT = ("type", "description", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "maxProperties")
_EXACT = 2**53
"""Bounds are kept as floating-point numbers, so that larger ones would come back changed."""
_ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}
_UNITS = r"[0-9]{1,19}(\.[0-9]{1,9})?"
_DURATION: Schema = {
    "type": "string",
    "pattern": f"^({_UNITS}h)?({_UNITS}m)?({_UNITS}s)?({_UNITS}ms)?$",
    "minLength": 1,
    "maxLength": 64,
}
_SIZE: Schema = {
    "x-kubernetes-int-or-string": True,
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "pattern": f"^{_UNITS}(Ti|Gi|Mi|Ki|T|G|M|k)?$",
    "minimum": 0,
    "maxLength": 64,
}
_FORMATS = {"duration": _DURATION, "bytes": _SIZE}


def structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """One node and all below it; `definitions` are what its references name."""
    node = _without_null(node)
    if "$ref" in node:
        target = definitions[node["$ref"].rpartition("/")[2]]
        return structural(target, definitions) | _described(node)
    if (known := _FORMATS.get(node.get("format", ""))) is not None:
        return known | _described(node) | _default(node)
    if "anyOf" in node:
        return _ANYTHING | _described(node)
    found = {name: node[name] for name in _KEPT if name in node} | _bounds(node) | _default(node)
    if "properties" in node:
        found["properties"] = {name: structural(each, definitions) for name, each in node["properties"].items()}
        found |= {"required": node["required"]} if "required" in node else {}
    if values := _values(node):
        found["additionalProperties"] = structural(values, definitions)
    if "items" in node:
        found["items"] = structural(node["items"], definitions)
    return found


def _without_null(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """A field that is left out is what `null` would say."""
    choices = [choice for choice in node.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) != 1:
        return node
    return {**choices[0], **{name: value for name, value in node.items() if name != "anyOf"}}


def _described(node: Mapping[str, Any]) -> Schema:
    return {"description": node["description"]} if "description" in node else {}


def _bounds(node: Mapping[str, Any]) -> Schema:
    found: Schema = {"format": "int64"} if node.get("type") == "integer" else {}
    for name in ("minimum", "maximum"):
        exclusive = f"exclusive{name.capitalize()}"
        if exclusive in node:
            found |= {name: node[exclusive], exclusive: True}
        elif abs(node.get(name, _EXACT)) < _EXACT:
            found[name] = node[name]
    return found


def _default(node: Mapping[str, Any]) -> Schema:
    """Only plain values: an empty list or text says no more than its absence."""
    value = node.get("default")
    return {"default": value} if isinstance(value, bool | int | float) or (isinstance(value, str) and value) else {}


def _values(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of a mapping's values; what its keys may be, a structural schema cannot say."""
    if node.get("type") != "object" or "properties" in node:
        return None
    values = node.get("additionalProperties")
    if isinstance(values, Mapping):
        return values
    return next(iter(node.get("patternProperties", {}).values()), None)
