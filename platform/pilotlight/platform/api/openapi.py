"""The OpenAPI document, from operations and the shapes of what they take and give."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

from pilotlight.platform.api.operations import PREFIX, Operation
from pilotlight.platform.api.shapes import ErrorOut, NoQuery
from pilotlight.platform.manifest import Function as Manifest

JSON = "application/json"
_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_REFERENCE = "#/components/schemas/{model}"

Shape = Any
"""A pydantic model, a dataclass, or a union of such."""
Schemas = Mapping[tuple[Shape, Literal["validation", "serialization"]], dict[str, Any]]


@dataclass(frozen=True)
class Content:
    """What a body holds; without a shape it is text or bytes, as its media type says."""

    media: str = JSON
    shape: Shape | None = None


@dataclass(frozen=True)
class Described:
    """An operation as the document has it."""

    method: str
    path: str
    """Below the API's prefix, with parameters as Starlette writes them."""
    summary: str
    answers: Mapping[int, Content | None]
    """By status; None: no content."""
    query: type[BaseModel] = NoQuery
    takes: tuple[Content, ...] = ()
    """Bodies by media type."""
    needs_body: bool = True
    note: str = ""
    error: Shape = ErrorOut

    @property
    def url(self) -> str:
        return PREFIX + _PARAMETER.sub(r"{\1}", self.path)


def described(operation: Operation) -> Described:
    """A row of the API's own table."""
    taken = tuple(Content(media, operation.body or Manifest) for media in operation.body_media)
    return Described(
        operation.method,
        operation.path,
        operation.summary,
        _answers(operation),
        operation.query,
        taken if operation.body_bytes else (),
        note="Needs an admin key." if operation.admin else "",
    )


def _answers(operation: Operation) -> dict[int, Content | None]:
    if operation.media != JSON:
        return {200: Content(operation.media)}
    return {200: Content(JSON, operation.answer)} if operation.answer is not None else {204: None}


def document(operations: Sequence[Described]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    schemas, components = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.url, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pilotlight control API",
            "version": version("pilotlight"),
            "description": "Serverless functions for language models. The functions themselves answer under `/v1` and"
            " `/f/{namespace}/{name}/v1`, as OpenAI's API does.",
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "`pl-...`"}},
        },
    }


def _schemas(operations: Iterable[Described]) -> tuple[Schemas, dict[str, Any]]:
    """References of all shapes, and what they refer to."""
    taken = {each.shape for operation in operations for each in operation.takes}
    given = {each.shape for operation in operations for each in operation.answers.values() if each is not None}
    given |= {operation.error for operation in operations}
    wanted = [("validation", shape) for shape in taken] + [("serialization", shape) for shape in given]
    inputs: list[tuple[Shape, Any, TypeAdapter[Any]]] = [
        (shape, mode, TypeAdapter(shape))
        for mode, shape in sorted(wanted, key=lambda pair: (str(pair[1]), pair[0]))
        if shape is not None
    ]
    found, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE)
    return found, definitions.get("$defs", {})


def _operation(operation: Described, schemas: Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": re.sub(r"\W+", "_", operation.method.lower() + operation.url.removeprefix(PREFIX)).strip("_"),
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": {**_responses(operation, schemas), "default": _error(operation, schemas)},
    }
    if operation.note:
        found["description"] = operation.note
    if operation.takes:
        content = {each.media: _content(each, schemas, "validation") for each in operation.takes}
        found["requestBody"] = {"required": operation.needs_body, "content": content}
    return found


def _path_parameters(operation: Described) -> Iterator[dict[str, Any]]:
    for name in _PARAMETER.findall(operation.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameters(operation: Described) -> Iterator[dict[str, Any]]:
    if operation.query is NoQuery:
        return
    shape = operation.query.model_json_schema()
    for name, schema in shape["properties"].items():
        yield {"name": name, "in": "query", "required": name in shape.get("required", ()), "schema": schema}


def _responses(operation: Described, schemas: Schemas) -> dict[str, Any]:
    return {str(status): _response(content, schemas) for status, content in operation.answers.items()}


def _response(content: Content | None, schemas: Schemas) -> dict[str, Any]:
    if content is None:
        return {"description": "Done"}
    words = {JSON: "OK", "text/plain": "Lines"}
    return {
        "description": words.get(content.media, "Content"),
        "content": {content.media: _content(content, schemas, "serialization")},
    }


def _content(content: Content, schemas: Schemas, mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    return {"schema": {"type": "string"} if content.shape is None else schemas[content.shape, mode]}


def _error(operation: Described, schemas: Schemas) -> dict[str, Any]:
    return {
        "description": "Error",
        "content": {JSON: _content(Content(JSON, operation.error), schemas, "serialization")},
    }
