"""pydantic's findings -> ours: the field as written, what was expected, the nearest valid name, and its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pilotlight.platform.manifest.engine import RESERVED, Engine
from pilotlight.platform.manifest.errors import MOST_FINDINGS, BrokenRules, Finding, Problem
from pilotlight.platform.manifest.model import API_VERSION, Function
from pilotlight.platform.manifest.references import EXPECTED as REFERENCE
from pilotlight.platform.manifest.source import Document, Path, dotted
from pilotlight.platform.manifest.units import UnitError, shown

_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of fields",
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least {}"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "at most {}"),
    "less_than": ("lt", "less than {}"),
    "string_too_long": ("max_length", "at most {} characters"),
    "string_too_short": ("min_length", "at least {} character"),
    "too_long": ("max_length", "at most {} entries"),
}
_PATTERNS = {
    "metadata.name": "lower-case letters, digits and hyphens, beginning and ending with a letter or digit",
    "metadata.namespace": "lower-case letters, digits and hyphens, beginning and ending with a letter or digit",
    "spec.resources.accelerator": "lower-case words joined by hyphens, as nvidia-h100",
}
_MISSING = {
    "apiVersion": API_VERSION,
    "kind": "Function",
    "metadata": "a mapping with the function's name",
    "metadata.name": "the function's name",
    "spec": "a mapping with the model",
    "spec.model": REFERENCE,
}
_BOOLEAN_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false"})
_CLOSE = 0.6


def findings(errors: list[ErrorDetails], document: Document, source: str) -> Iterator[Finding]:
    """In the order of the fields in the text; one more than anybody is told, so that it can be said that there are."""
    found: dict[tuple[str, str], Finding] = {}
    for item in (item for error in errors[: MOST_FINDINGS + 1] for item in _one(error, document, source)):
        same = found.get((item.field, item.problem))
        # A field that takes several types is told once per type; its writer wants to know all of them at once.
        found[item.field, item.problem] = (
            replace(item, expected=f"{same.expected} or {item.expected}") if same else item
        )
    yield from sorted(found.values(), key=lambda item: (item.line or 0, item.column or 0, item.field))


def _one(error: ErrorDetails, document: Document, source: str) -> Iterator[Finding]:
    path = _written(error["loc"], document.value)
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, BrokenRules):
        for problem in cause.problems:
            steps = tuple(int(step) if step.isdecimal() else step for step in problem.field.split("."))
            yield _finding(document, source, (*path, *steps), problem)
        return
    unknown = error["type"] == "extra_forbidden"
    problem = _unknown(path) if unknown else _problem(error, path, cause)
    yield _finding(document, source, path, problem, key=unknown)


def _finding(document: Document, source: str, path: Path, problem: Problem, *, key: bool = False) -> Finding:
    place = document.place(path, key=key)
    return Finding(
        source=source,
        field=dotted(path),
        problem=problem.problem,
        expected=problem.expected,
        did_you_mean=problem.did_you_mean,
        line=place.line if place else None,
        column=place.column if place else None,
        hint="" if key else _trap(document, path, problem.expected),
    )


def _written(location: tuple[int | str, ...], value: object) -> Path:
    """The steps that exist in the input: pydantic adds those of unions and of mappings' keys."""
    path: list[str | int] = []
    last = len(location) - 1
    for number, step in enumerate(location):
        if isinstance(value, Mapping) and isinstance(step, str) and (step in value or number == last):
            path.append(step)
            value = value.get(step)
        elif isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
            path.append(step)
            value = value[step]
    return tuple(path)


def _problem(error: ErrorDetails, path: Path, cause: object) -> Problem:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if isinstance(cause, UnitError):
        return Problem("", cause.problem, cause.expected, cause.nearest)
    if kind == "missing":
        return Problem("", "is missing", _MISSING.get(dotted(path), ""))
    if value is None:
        return Problem("", "is empty", f"{_TYPES.get(kind, 'a value')}, or leave it out")
    if kind == "literal_error":
        return _choice(value, str(context.get("expected", "")))
    if kind in _TYPES:
        return Problem("", f"is {shown(value)}", _TYPES[kind])
    if kind in _BOUNDS:
        name, template = _BOUNDS[kind]
        return Problem("", f"is {shown(value)}", template.format(context.get(name)))
    if kind == "string_pattern_mismatch":
        pattern = _PATTERNS.get(dotted(path), f"text that matches {context.get('pattern')}")
        return Problem("", f"is {shown(value)}", pattern)
    return Problem("", f"is {shown(value)}", error["msg"])


def _choice(value: object, expected: str) -> Problem:
    choices = [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]
    near = get_close_matches(str(value).lower(), choices, n=1, cutoff=_CLOSE)
    return Problem("", f"is {shown(value)}", " or ".join(choices) if len(choices) < 3 else ", ".join(choices), *near)


def _unknown(path: Path) -> Problem:
    name, parent = str(path[-1])[:100], path[:-1]
    model = _model_at(parent)
    valid = _names(model) if model else ()
    if model is not None and issubclass(model, Engine) and (reason := RESERVED.get(_camel(name))):
        return Problem("", f"cannot be set: {reason}")
    near = _camel(name) if _camel(name) in valid else _elsewhere(_camel(name))
    near = near or next(iter(get_close_matches(name, valid, n=1, cutoff=_CLOSE)), "")
    if near or not valid:
        return Problem("", "unknown field", "", near)
    return Problem("", "unknown field", ", ".join(valid) if len(valid) <= 12 else f"one of {len(valid)} fields")


def _camel(name: str) -> str:
    first, *rest = name.replace("-", "_").strip("_").split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _model_at(path: Path) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Function
    for step in path:
        if isinstance(step, int):
            continue
        model = (
            next(
                (
                    _inner(field.annotation)
                    for name, field in model.model_fields.items()
                    if (field.alias or name) == step
                ),
                None,
            )
            if model
            else None
        )
    return model


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The object type inside `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, tuple):
        return next((found for part in get_args(annotation) if (found := _inner(part))), None)
    return None


def _elsewhere(name: str) -> str:
    """Where a field of this name belongs, if there is exactly one such place."""
    return _paths().get(name, "")


@cache
def _paths() -> dict[str, str]:
    found: dict[str, list[str]] = {}
    todo: list[tuple[str, type[BaseModel]]] = [("", Function)]
    while todo:
        prefix, model = todo.pop()
        for name, field in model.model_fields.items():
            path = f"{prefix}{field.alias or name}"
            found.setdefault(field.alias or name, []).append(path)
            if inner := _inner(field.annotation):
                todo.append((f"{path}.", inner))
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}


def _trap(document: Document, path: Path, expected: str) -> str:
    """YAML 1.1 reads some bare words as something else than they look like."""
    place = document.values.get(path)
    if place is None or place.bare is None or not expected.startswith("text"):
        return ""
    value = _at(document.value, path)
    if isinstance(value, bool) and place.bare.lower() in _BOOLEAN_WORDS:
        return f'YAML reads the bare word {place.bare} as {str(value).lower()}: write "{place.bare}" in quotes'
    if isinstance(value, int | float):
        return f'YAML reads {place.bare[:40]} as a number: write "{place.bare[:40]}" in quotes'
    return ""


def _at(value: object, path: Path) -> object:
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
