"""Run as a process, for it takes seconds to import vLLM: read answers with vLLM's own classes, write them out again.

Standard input: a JSON list of [class name, answer, whether only what was set is written]. Standard output: one JSON
object with the list of [answer as vLLM writes it, fields that vLLM does not know] and vLLM's histogram buckets.
"""

from __future__ import annotations

import json
import sys

from pydantic import BaseModel
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionResponse, ChatCompletionStreamResponse
from vllm.entrypoints.openai.completion.protocol import CompletionResponse, CompletionStreamResponse
from vllm.entrypoints.pooling.embed.protocol import EmbeddingResponse
from vllm.entrypoints.serve.engine.protocol import ErrorResponse, ModelList
from vllm.v1.metrics import buckets

CLASSES: dict[str, type[BaseModel]] = {
    one.__name__: one
    for one in (
        ChatCompletionResponse,
        ChatCompletionStreamResponse,
        CompletionResponse,
        CompletionStreamResponse,
        EmbeddingResponse,
        ErrorResponse,
        ModelList,
    )
}


def unknown(value: object) -> list[str]:
    """Names of fields, at any depth, that no class declares."""
    if isinstance(value, list):
        return [name for one in value for name in unknown(one)]
    if not isinstance(value, BaseModel):
        return []
    extra = list(value.model_extra or ())
    return extra + [name for field in type(value).model_fields for name in unknown(getattr(value, field))]


def main() -> None:
    read = []
    for name, answer, only_set in json.load(sys.stdin):
        value = CLASSES[name].model_validate(answer)
        read.append([value.model_dump(mode="json", exclude_unset=only_set), unknown(value)])
    bounds = {
        "vllm:time_to_first_token_seconds": buckets.TIME_TO_FIRST_TOKEN_BUCKETS,
        "vllm:inter_token_latency_seconds": buckets.INTER_TOKEN_LATENCY_BUCKETS,
        "vllm:e2e_request_latency_seconds": buckets.REQUEST_LATENCY_BUCKETS,
        "vllm:iteration_tokens_total": buckets.ITERATION_TOKENS_BUCKETS,
        "vllm:request_num_preemptions": buckets.REQUEST_NUM_PREEMPTIONS_BUCKETS,
    }
    print(json.dumps({"read": read, "buckets": bounds}))


if __name__ == "__main__":
    main()
