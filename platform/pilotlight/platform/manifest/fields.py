"""Field types of the manifest: how each is read, written and described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from pilotlight.platform.manifest.errors import BrokenRules, Problem
from pilotlight.platform.manifest.references import PATTERN, ModelReference, parse_reference
from pilotlight.platform.manifest.units import ByteSize, Duration

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
DNS_NAME = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"  # labels joined by dots
LABEL_KEY = r"^[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$"
LONGEST_NAME = 253
LONGEST_LABEL = 63
ADAPTER_NAME = r"^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"  # follows the colon in "function:adapter"

Span = Annotated[
    Duration,
    PlainValidator(Duration.parse),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "duration", "examples": ["500ms", "2s", "5m", "1h30m"]}),
]
Size = Annotated[
    ByteSize,
    PlainValidator(ByteSize.parse),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}],
            "format": "bytes",
            "examples": ["4Gi", "500M"],
        }
    ),
]
Model = Annotated[
    ModelReference,
    PlainValidator(parse_reference),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": PATTERN, "examples": ["s3://models/smollm2-135m-instruct:v1"]}),
]
Label = Annotated[str, Field(pattern=DNS_LABEL, min_length=1, max_length=63)]
AdapterName = Annotated[str, Field(pattern=ADAPTER_NAME, min_length=1, max_length=63)]
ParserName = Annotated[str, Field(pattern=r"^[a-z0-9_-]+$", max_length=63)]


class Part(BaseModel):
    """Base of every object in a manifest: immutable, camelCase, nothing unknown, nothing converted silently."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        serialize_by_alias=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=False,
    )


class Ruled(Part):
    """An object with rules between its fields."""

    @model_validator(mode="after")
    def _obeys(self) -> Self:
        if problems := tuple(self._problems()):
            raise BrokenRules(problems)
        return self

    def _problems(self) -> Iterator[Problem]:
        raise NotImplementedError
