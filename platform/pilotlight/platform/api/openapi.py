"""The OpenAPI document, from the table of operations and the shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pilotlight.platform.api.operations import PREFIX, Operation
from pilotlight.platform.api.shapes import ErrorOut, NoQuery
from pilotlight.platform.manifest import Function as Manifest

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_REFERENCE = "#/components/schemas/{model}"


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    shapes: set[type[BaseModel]] = {ErrorOut, Manifest}
    for operation in operations:
        shapes.update(shape for shape in (operation.body, operation.answer) if shape is not None)
    ordered = sorted(shapes, key=lambda shape: shape.__name__)
    by_shape, definitions = models_json_schema([(shape, _mode(shape)) for shape in ordered], ref_template=_REFERENCE)
    schemas: dict[object, Any] = {shape: schema for (shape, _), schema in by_shape.items()}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
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
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "`pl-...`"}},
        },
    }


def _mode(shape: type[BaseModel]) -> Any:
    return "validation" if shape.__name__.endswith("In") or shape is Manifest else "serialization"


def _operation(operation: Operation, schemas: dict[object, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": re.sub(r"\W+", "_", f"{operation.method.lower()}{operation.path}").strip("_"),
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": {**_answer(operation, schemas), "default": _error(schemas)},
    }
    if operation.admin:
        found["description"] = "Needs an admin key."
    if operation.body_bytes:
        schema = schemas[operation.body or Manifest]
        found["requestBody"] = {
            "required": True,
            "content": {media: {"schema": schema} for media in operation.body_media},
        }
    return found


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    names = _PARAMETER.findall(operation.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    if operation.query is NoQuery:
        return []
    properties = operation.query.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in properties.items()]


def _answer(operation: Operation, schemas: dict[object, Any]) -> dict[str, Any]:
    if operation.media != "application/json":
        return {"200": {"description": "Lines", "content": {operation.media: {"schema": {"type": "string"}}}}}
    if operation.answer is None:
        return {"204": {"description": "Done"}}
    return {"200": {"description": "OK", "content": {"application/json": {"schema": schemas[operation.answer]}}}}


def _error(schemas: dict[object, Any]) -> dict[str, Any]:
    return {"description": "Error", "content": {"application/json": {"schema": schemas[ErrorOut]}}}
