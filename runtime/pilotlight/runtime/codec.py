"""`ReplicaSpec` and `ReplicaStatus` as JSON, strictly: unknown and missing keys and wrong types are refused.

Unknown keys of a status of a newer version are left out: replicas outlive the platform that started them, and may be
of a newer release than the one that asks.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar, Union, get_args, get_origin

from pilotlight.runtime.spec import STATUS_VERSION, ReplicaSpec, ReplicaStatus

LIMIT = 1 << 20
"""Largest spec or status that is read, bytes."""
MOST = 2**63 - 1
"""Largest whole number that is read: Python's know no end, but arithmetic with floats ends at one of 309 digits."""

T = TypeVar("T")


class BadDocumentError(ValueError):
    """A spec or status that is not one; `where` is the path of the field."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where or 'document'}: {problem}")
        self.where = where


def parse_spec(data: bytes) -> ReplicaSpec:
    """Raises BadDocumentError."""
    return _record(ReplicaSpec, _loaded(data), "")


def parse_status(data: bytes) -> ReplicaStatus:
    """Raises BadDocumentError."""
    raw = _loaded(data)
    return _record(ReplicaStatus, raw, "", newer=_version(raw) > STATUS_VERSION)


def dump(value: ReplicaSpec | ReplicaStatus) -> bytes:
    return json.dumps(dataclasses.asdict(value), default=_plain).encode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _loaded(data: bytes) -> object:
    if len(data) > LIMIT:
        raise BadDocumentError("", f"{len(data)} bytes are more than {LIMIT}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadDocumentError("", f"not JSON: {error}") from None


def _version(raw: object) -> int:
    """0: none is told, or none that is a whole number."""
    told = raw.get("version") if isinstance(raw, dict) else None
    return told if type(told) is int else 0


def _record(kind: type[T], raw: object, where: str, *, newer: bool = False) -> T:
    """`newer`: keys that are not known have a meaning, and are left out."""
    if not isinstance(raw, dict):
        raise BadDocumentError(where, f"expected an object, not {_name(raw)}")
    hints = typing.get_type_hints(kind)
    if not newer and (unknown := sorted(raw.keys() - hints.keys())):
        raise BadDocumentError(_join(where, unknown[0]), f"unknown; known are {', '.join(sorted(hints))}")
    fields = {field.name: field for field in dataclasses.fields(typing.cast("typing.Any", kind))}
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in raw and not optional:
            raise BadDocumentError(_join(where, name), "missing")
    return kind(**{name: _value(hints[name], raw[name], _join(where, name), newer) for name in raw if name in hints})


def _value(hint: object, raw: object, where: str, newer: bool) -> object:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return None if raw is None else _value(get_args(hint)[0], raw, where, newer)
    if origin is tuple:
        kind = get_args(hint)[0]
        return tuple(_value(kind, item, f"{where}[{index}]", newer) for index, item in _items(raw, where))
    if origin is not None:  # a Mapping
        return _mapping(get_args(hint)[1], raw, where, newer)
    if dataclasses.is_dataclass(hint):
        return _record(typing.cast("type[object]", hint), raw, where, newer=newer)
    return _scalar(typing.cast("type[object]", hint), raw, where)


def _items(raw: object, where: str) -> typing.Iterable[tuple[int, object]]:
    if not isinstance(raw, list):
        raise BadDocumentError(where, f"expected a list, not {_name(raw)}")
    return enumerate(raw)


def _mapping(hint: object, raw: object, where: str, newer: bool) -> dict[str, object]:
    if not isinstance(raw, dict):
        raise BadDocumentError(where, f"expected an object, not {_name(raw)}")
    return {key: item if hint is object else _value(hint, item, _join(where, key), newer) for key, item in raw.items()}


def _scalar(kind: type[object], raw: object, where: str) -> object:
    if issubclass(kind, StrEnum):
        if raw not in list(kind):
            raise BadDocumentError(where, f"{raw!r} is none of {', '.join(kind)}")
        return kind(str(raw))
    if type(raw) is int and abs(raw) > MOST:
        raise BadDocumentError(where, f"expected a number of at most {MOST}")
    if kind is float and type(raw) is int:
        return float(raw)
    if type(raw) is not kind:
        raise BadDocumentError(where, f"expected {kind.__name__}, not {_name(raw)}")
    return raw


def _name(raw: object) -> str:
    return {dict: "an object", list: "a list", type(None): "null"}.get(type(raw), type(raw).__name__)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
