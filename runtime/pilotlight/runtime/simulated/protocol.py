"""The fields of vLLM's request protocol that matter to the simulated engine; all others are passed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from .tokens import VOCABULARY

TokenIds = list[Annotated[int, Field(ge=0, lt=VOCABULARY)]]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class StreamOptions(BaseModel):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class Common(BaseModel):
    model: str | None = None
    n: int | None = 1
    seed: Seed | None = None
    temperature: float | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = Field(0, ge=0)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    return_token_ids: bool | None = None
    priority: int = 0
    logprobs: bool | int | None = None
    prompt_logprobs: int | None = None
    response_format: Mapping[str, object] | None = None
    structured_outputs: Mapping[str, object] | None = None
    use_beam_search: bool = False
    echo: bool | None = False


class Part(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    role: str = Field(max_length=64)
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())


class Chat(Common):
    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


class Completion(Common):
    prompt: TokenIds | list[TokenIds] | str | list[str]
    max_tokens: int | None = 16


class Embeddings(BaseModel):
    model: str | None = None
    input: TokenIds | list[TokenIds] | str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
