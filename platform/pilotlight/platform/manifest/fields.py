"""Field types of the manifest: how each is read, written and described."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic.alias_generators import to_camel

from pilotlight.platform.manifest.references import PATTERN, ModelReference, parse_reference
from pilotlight.platform.manifest.units import ByteSize, Duration

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
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
