"""An engine's event stream: bytes to events, events to counts, and back without what the client did not ask for."""

from __future__ import annotations

import json
from array import array
from contextlib import suppress

from pilotlight.activator.inhand import InHand, Several
from pilotlight.activator.requests import Wants

DONE = b"data: [DONE]"
_USAGE_BYTES = 4096  # of an answer's usage; vLLM's longest has about 400
_DECODER = json.JSONDecoder()
Chunk = dict[str, object]


class EventTooLargeError(Exception):
    """An engine sent an event of more than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


class Splitter:
    """Cuts reads into events at blank lines, whatever the reads' boundaries."""

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int) -> None:
        self._rest = b""
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        *events, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > self._limit:
            raise EventTooLargeError(self._limit)
        return events


def parse(event: bytes) -> Chunk | None:
    """The JSON object of a data event; None for anything else, which passes as it is."""
    if not event.startswith(b"data: {"):
        return None
    try:
        chunk = json.loads(event[6:])
    except ValueError:
        return None
    return chunk if isinstance(chunk, dict) else None


def error_of(chunk: Chunk) -> dict[str, object] | None:
    error = chunk.get("error")
    return error if isinstance(error, dict) else None


def error_in(body: bytes) -> dict[str, object]:
    """The error object of an engine's refusal; empty when it has none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return (error_of(answer) or {}) if isinstance(answer, dict) else {}


def count(request: InHand, chunk: Chunk) -> None:
    """Meter one chunk. Ids count exactly as they pass; the final usage, with no choices beside it, is authoritative."""
    choices = _records(chunk.get("choices"))
    usage = chunk.get("usage")
    if request.several is not None and choices:
        _count_several(request, request.several, choices, usage if isinstance(usage, dict) else {})
        return
    _count_prompt(request, chunk)
    for choice in choices:
        _count_ids(request, choice)
    if isinstance(usage, dict):
        _count_usage(request, usage, final=not choices)


def strip(chunk: Chunk, wants: Wants) -> bool | None:
    """Remove what the client did not ask for; True: changed, False: as it was, None: nothing is left to send."""
    choices = _records(chunk.get("choices"))
    changed = False
    if "usage" in chunk and not (wants.continuous_usage or (wants.usage and not choices)):
        del chunk["usage"]
        changed = True
        if not choices:
            return None
    if wants.token_ids:
        return changed
    for record in (chunk, *choices):
        changed = _without_ids(record) or changed
    return None if _says_nothing(choices) else changed


def count_answer(request: InHand, body: bytes) -> None:
    """Meter an answer that came in one piece.

    Only its usage is parsed: embeddings are megabytes of numbers. Inside a JSON string the quotes of the field's name
    would be escaped, and no other field of an engine's answers has that name.
    """
    at = body.rfind(b'"usage":')
    try:
        usage, _ = _DECODER.raw_decode(body[at + len(b'"usage":') :][:_USAGE_BYTES].decode("utf-8", "replace").lstrip())
    except ValueError:
        return
    if at >= 0 and isinstance(usage, dict):
        _count_usage(request, usage, final=True)


def render(chunk: Chunk) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _count_prompt(request: InHand, chunk: Chunk) -> None:
    prompt = chunk.get("prompt_token_ids")
    if isinstance(prompt, list):
        request.prompt_tokens = max(request.prompt_tokens, len(prompt))


def _count_ids(request: InHand, choice: Chunk) -> None:
    ids = choice.get("token_ids")
    if not isinstance(ids, list):
        return
    request.completion_tokens += len(ids)
    if request.token_ids is not None:
        with suppress(TypeError, OverflowError):  # what is no id cannot be continued from; it still counts
            request.token_ids.extend(ids)


def _count_several(request: InHand, several: Several, choices: list[Chunk], usage: dict[str, object]) -> None:
    """Engines send one choice in a chunk; usage beside several would be nobody's."""
    running = usage if len(choices) == 1 else {}
    for choice in choices:
        index, ids = _whole(choice.get("index")), choice.get("token_ids")
        several.made(index, len(ids) if isinstance(ids, list) else 0, _whole(running.get("completion_tokens")))
        several.asked(index, _whole(running.get("prompt_tokens")))
    request.prompt_tokens, request.completion_tokens = several.prompt_tokens, several.completion_tokens


def _count_usage(request: InHand, usage: dict[str, object], *, final: bool) -> None:
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(prompt, int):
        request.prompt_tokens = prompt if final else max(request.prompt_tokens, prompt)
    if isinstance(completion, int) and final:
        request.completion_tokens = completion
    elif isinstance(completion, int):
        request.completion_tokens = max(request.completion_tokens, completion)
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    if isinstance(cached, int):
        request.cached_tokens = cached


def _without_ids(record: Chunk) -> bool:
    had = "token_ids" in record or "prompt_token_ids" in record
    record.pop("token_ids", None)
    record.pop("prompt_token_ids", None)
    return had


def _says_nothing(choices: list[Chunk]) -> bool:
    """Chunks that an engine sends only to carry ids, e.g. while it looks for a tool call's end."""
    return bool(choices) and all(
        choice.get("delta") == {} and choice.get("finish_reason") is None and not choice.get("logprobs")
        for choice in choices
    )


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _records(value: object) -> list[Chunk]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def new_token_ids() -> array[int]:
    """Four bytes a token; vocabularies are below 2**31."""
    return array("i")
