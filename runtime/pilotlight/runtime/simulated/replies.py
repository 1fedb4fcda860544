"""The bodies of answers, field for field as vLLM 0.32 writes them."""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from .mixing import fraction
from .options import Options
from .requests import Embedding, Generation, RefusedError, Served
from .sequence import Delta
from .tokens import digest

FINGERPRINT = "pilotlight-simulated"
DONE = b"data: [DONE]\n\n"

Json = dict[str, object]


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def to_json(value: object) -> str:
    return _encoder.encode(value)


def error(refused: RefusedError) -> Json:
    fields = {"message": refused.message, "type": refused.kind, "param": refused.param, "code": refused.code}
    return {"error": fields}


def models(served: Served, options: Options, created: int) -> Json:
    """The list of models: every served name is one, and every adapter, whose parent is the first name."""
    cards = [_model(name, None, options.max_model_len, created) for name in served.names]
    cards += [_model(name, served.names[0], None, created) for name in served.adapters]
    return {"object": "list", "data": cards}


def _model(name: str, parent: str | None, context: int | None, created: int) -> Json:
    permission: Json = {
        "id": f"modelperm-{name}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": name,
        "parent": parent,
        "max_model_len": context,
        "permission": [permission],
    }


def usage(prompt: int, completion: int) -> Json:
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


@dataclass
class Writer:
    """Writes one answer to a generation, streamed or whole."""

    id: str
    request: Generation
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        kind = "chat.completion.chunk" if self.request.chat else "text_completion"
        head = to_json({"id": self.id, "object": kind, "created": self.created, "model": self.request.model})
        self._head = f'data: {head[:-1]},"choices":['
        self._counts = [0] * (len(self.request.prompts) * self.request.n)

    def opening(self) -> str:
        """The chunks that a chat stream begins with, one for each choice; a completion has none."""
        if not self.request.chat:
            return ""
        ids = to_json(list(self.request.prompts[0])) if self.request.return_token_ids else "null"
        delta = '"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null'
        return "".join(
            f'{self._head}{{"index":{index},{delta}}}]{self._running(index)},'
            f'"prompt_token_ids":{ids},"prompt_text":null}}\n\n'
            for index in range(self.request.n)
        )

    def chunk(self, index: int, delta: Delta) -> str:
        """One event with what a choice has newly made."""
        first = self._counts[index] == 0
        self._counts[index] += len(delta.ids)
        choice = self._chat_choice(delta) if self.request.chat else self._text_choice(index, delta, first)
        stamped = delta.finish_reason is not None and not self.request.include_usage
        tail = f',"system_fingerprint":"{FINGERPRINT}"' if stamped else ""
        return f'{self._head}{{"index":{index},{choice}}}]{self._running(index)}{tail}}}\n\n'

    def closing(self, cached: int | None) -> str:
        """The last event with the sum of tokens, where it was asked for."""
        if not self.request.include_usage:
            return ""
        total = to_json(self._total(sum(self._counts), cached, whole=False))
        return f'{self._head}],"usage":{total},"system_fingerprint":"{FINGERPRINT}"}}\n\n'

    def whole(self, deltas: Sequence[Delta], cached: int | None) -> Json:
        """The answer in one piece."""
        body: Json = {
            "id": self.id,
            "object": "chat.completion" if self.request.chat else "text_completion",
            "created": self.created,
            "model": self.request.model,
            "choices": [self._whole_choice(index, delta) for index, delta in enumerate(deltas)],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": self._total(sum(len(delta.ids) for delta in deltas), cached, whole=True),
        }
        if self.request.chat:
            ids = list(self.request.prompts[0]) if self.request.return_token_ids else None
            body |= {"prompt_logprobs": None, "prompt_token_ids": ids, "prompt_text": None}
        return body | {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}

    def _chat_choice(self, delta: Delta) -> str:
        stop = f'"stop_reason":{to_json(delta.stop_reason)},' if delta.finish_reason else ""
        return (
            f'"delta":{{"content":{to_json(delta.text)}}},"logprobs":null,'
            f'"finish_reason":{to_json(delta.finish_reason)},{stop}"token_ids":{self._ids(delta.ids)}'
        )

    def _text_choice(self, index: int, delta: Delta, first: bool) -> str:
        prompt = self._ids(self.request.prompts[index // self.request.n]) if first else "null"
        return (
            f'"text":{to_json(delta.text)},"logprobs":null,"finish_reason":{to_json(delta.finish_reason)},'
            f'"stop_reason":{to_json(delta.stop_reason)},'
            f'"prompt_token_ids":{prompt},"token_ids":{self._ids(delta.ids)}'
        )

    def _ids(self, ids: Sequence[int]) -> str:
        return to_json(list(ids)) if self.request.return_token_ids else "null"

    def _running(self, index: int) -> str:
        """Usage so far, of one choice, where it was asked for with every event."""
        if not self.request.continuous_usage:
            return ""
        sofar = usage(len(self.request.prompts[index // self.request.n]), self._counts[index])
        details: Json = {"completion_tokens_details": None} if self.request.chat else {}
        return f',"usage":{to_json(sofar | details)}'

    def _total(self, completion: int, cached: int | None, whole: bool) -> Json:
        total = usage(sum(map(len, self.request.prompts)), completion)
        details = {"cached_tokens": cached, "created_cache_tokens": None, "multimodal_tokens": None}
        if whole:
            return total | {
                "prompt_tokens_details": None if cached is None else details,
                "completion_tokens_details": None,
            }
        return total if cached is None else total | {"prompt_tokens_details": {"cached_tokens": cached}}

    def _whole_choice(self, index: int, delta: Delta) -> Json:
        ids = delta.ids if self.request.return_token_ids else None
        end: Json = {"logprobs": None, "finish_reason": delta.finish_reason, "stop_reason": delta.stop_reason}
        if self.request.chat:
            message = {"role": "assistant", "content": delta.text, "refusal": None, "annotations": None, "audio": None}
            message |= {"function_call": None, "reasoning": None}
            return {"index": index, "message": message, **end, "token_ids": ids, "routed_experts": None}
        prompt = list(self.request.prompts[index // self.request.n]) if self.request.return_token_ids else None
        end |= {"token_ids": ids, "prompt_logprobs": None, "prompt_token_ids": prompt, "routed_experts": None}
        return {"index": index, "text": delta.text, **end}


def embeddings(id_: str, request: Embedding) -> Json:
    """Unit vectors that depend on the tokens alone."""
    vectors = [_vector(prompt, request.dimensions) for prompt in request.prompts]
    data = [
        {"index": index, "object": "embedding", "embedding": _base64(vector) if request.base64 else vector}
        for index, vector in enumerate(vectors)
    ]
    total = usage(sum(map(len, request.prompts)), 0)
    total |= {"prompt_tokens_details": None, "completion_tokens_details": None}
    created = int(time.time())
    return {"id": id_, "object": "list", "created": created, "model": request.model, "data": data, "usage": total}


def _vector(prompt: Sequence[int], width: int) -> list[float]:
    seed = digest(prompt) << 20
    raw = [fraction(seed + place) - 0.5 for place in range(width)]
    length = sum(value * value for value in raw) ** 0.5 or 1.0
    return [value / length for value in raw]


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
