"""Bytes of a body to JSON, bounded: depth, number of values, encoding, numbers that JSON does not have."""

from __future__ import annotations

import json
import re

from pilotlight.activator.errors import RefusedError, invalid

# Possessive and accepting an unterminated string, so that hostile input costs linear time.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = re.compile(rb"[^\[\]{}]+")


def decode(raw: bytes, depth: int, items: int) -> dict[str, object]:
    """The JSON object in `raw`; raises `RefusedError` (400) when it is none, or nests or counts more than allowed."""
    _check_shape(raw, depth, items)
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _malformed(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise _malformed(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits
        raise _malformed("a number in it is too long") from error
    if not isinstance(value, dict):
        raise invalid('The body must be a JSON object, such as {"model": "..."}.', code="invalid_json")
    return value


def encode(value: dict[str, object]) -> bytes:
    """Compact UTF-8; raises `RefusedError` (400) for what JSON or UTF-8 cannot say."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except UnicodeEncodeError as error:
        raise _malformed("it has half of a surrogate pair (\\ud800 to \\udfff)") from error
    except ValueError as error:
        raise _malformed("a number in it is out of range") from error


def _check_shape(raw: bytes, depth: int, items: int) -> None:
    openers = raw.count(b"[") + raw.count(b"{")
    if openers <= depth and openers + raw.count(b",") <= items:
        return
    structure = _STRING.sub(b"", raw)
    if structure.count(b"[") + structure.count(b"{") + structure.count(b",") > items:
        raise invalid(f"The body has more than {items} values.", code="invalid_json")
    if _nesting(_NOT_BRACKETS.sub(b"", structure), depth) > depth:
        raise invalid(f"The body nests deeper than {depth} levels.", code="invalid_json")


def _nesting(brackets: bytes, enough: int) -> int:
    level = deepest = 0
    for bracket in brackets:
        level += 1 if bracket in b"[{" else -1
        deepest = max(deepest, level)
        if deepest > enough:
            break
    return deepest


def _refuse_constant(name: str) -> float:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


def _malformed(reason: str) -> RefusedError:
    return invalid(f"The body is not valid JSON: {reason}.", code="invalid_json")
