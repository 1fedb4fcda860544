"""What the activator insists on in an OpenAI request before it holds it; unknown fields are the engine's business.

A held stream has sent 200 before any engine sees it, so a mistake that could be told without the engine must be told
here. Limits are the engine's own (vLLM 0.32) or OpenAI's schema, whichever is tighter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from pilotlight.activator.errors import RefusedError, invalid, missing

Body = Mapping[str, object]
Check = Callable[[str, object], None]

_INT64 = 2**63


class Endpoint(StrEnum):
    """The three routes that reach an engine."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"

    @property
    def task(self) -> str:
        return "embed" if self is Endpoint.EMBEDDINGS else "generate"


def wrong_type(field: str, expected: str, value: object) -> RefusedError:
    shown = repr(value)[:64]
    return invalid(f"`{field}` must be {expected}, not {shown}.", field, "invalid_type")


def integer(least: int, most: int) -> Check:
    def check(field: str, value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(field, "an integer", value)
        if not least <= value <= most:
            raise invalid(f"`{field}` must be from {least} to {most}, not {str(value)[:32]}.", field)

    return check


def number(least: float, most: float) -> Check:
    def check(field: str, value: object) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(field, "a number", value)
        if not least <= value <= most:
            raise invalid(f"`{field}` must be from {least:g} to {most:g}, not {str(value)[:32]}.", field)

    return check


def instance(kind: type | tuple[type, ...], expected: str) -> Check:
    def check(field: str, value: object) -> None:
        if not isinstance(value, kind):
            raise wrong_type(field, expected, value)

    return check


def refused(reason: str) -> Check:
    def check(field: str, _: object) -> None:
        raise invalid(f"`{field}` is not accepted: {reason}.", field, "unsupported_parameter")

    return check


def stop(field: str, value: object) -> None:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise wrong_type(field, "a string or a list of strings", value)


boolean = instance(bool, "true or false")
text = instance(str, "a string")
record = instance(dict, "an object")

_COMMON: dict[str, Check] = {
    "model": text,
    "user": text,
    "prompt_embeds": refused("the engine would have to unpack a tensor of the caller's"),
    "truncate_prompt_tokens": integer(-1, _INT64 - 1),
}
_GENERATE: dict[str, Check] = {
    **_COMMON,
    "stream": boolean,
    "stream_options": record,
    "n": integer(1, 128),
    "seed": integer(-_INT64, _INT64 - 1),
    "temperature": number(0, 1e6),
    "top_p": number(0, 1),
    "min_p": number(0, 1),
    "top_k": integer(-1, _INT64 - 1),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "logit_bias": record,
    "min_tokens": integer(0, _INT64 - 1),
    "stop": stop,
    "return_token_ids": boolean,
    "echo": boolean,
    "ignore_eos": boolean,
}
_FIELDS: dict[Endpoint, dict[str, Check]] = {
    Endpoint.CHAT: {
        **_GENERATE,
        "max_tokens": integer(1, _INT64 - 1),
        "max_completion_tokens": integer(1, _INT64 - 1),
        "logprobs": boolean,
        "tools": instance(list, "a list"),
        "chat_template": refused("the function's model brings its own"),
    },
    Endpoint.COMPLETIONS: {**_GENERATE, "max_tokens": integer(0, _INT64 - 1)},
    Endpoint.EMBEDDINGS: {
        **_COMMON,
        "dimensions": integer(1, 1_000_000),
        "encoding_format": instance(str, '"float" or "base64"'),
    },
}


def check_fields(endpoint: Endpoint, body: Body) -> None:
    """Types and ranges of single fields; null stands for absent, as the engine has it."""
    checks = _FIELDS[endpoint]
    for field, value in body.items():
        check = checks.get(field)
        if check is not None and value is not None:
            check(field, value)


def check_stream(body: Body) -> None:
    options = body.get("stream_options")
    if options and not body.get("stream"):
        raise invalid("Stream options can only be defined when `stream=True`.", "stream_options")
    for name in ("include_usage", "continuous_usage_stats"):
        value = options.get(name) if isinstance(options, dict) else None
        if value is not None:
            boolean(f"stream_options.{name}", value)


def check_messages(messages: object) -> list[dict[str, object]]:
    """`messages` of a chat: a non-empty list of objects with a role, and content of text or parts."""
    if not isinstance(messages, list):
        raise missing("messages") if messages is None else wrong_type("messages", "a list", messages)
    if not messages:
        raise invalid("`messages` must not be empty.", "messages")
    for index, message in enumerate(messages):
        _check_message(f"messages[{index}]", message)
    return messages


def _check_message(where: str, message: object) -> None:
    if not isinstance(message, dict):
        raise wrong_type(where, "an object", message)
    text(f"{where}.role", message.get("role"))
    content = message.get("content")
    if isinstance(content, list):
        for number_, part in enumerate(content):
            record(f"{where}.content[{number_}]", part)
    elif content is not None:
        instance(str, "a string or a list of parts")(f"{where}.content", content)


def check_inputs(field: str, value: object, most: int) -> list[str] | list[list[int]]:
    """One or many texts, or one or many lists of token ids, as a list of either; at least one, at most `most`."""
    if value is None:
        raise missing(field)
    inputs = _as_list(field, value)
    if not inputs or not all(inputs):
        raise invalid(f"`{field}` must not be empty.", field)
    if len(inputs) > most:
        raise invalid(f"`{field}` has {len(inputs)} entries; at most {most} are accepted.", field)
    return inputs


def _as_list(field: str, value: object) -> list[str] | list[list[int]]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        if all(isinstance(entry, str) for entry in value):
            return value
        if _token_ids(value):
            return [value]
        if all(isinstance(entry, list) and _token_ids(entry) for entry in value):
            return value
    raise wrong_type(field, "a string, a list of strings, token ids, or a list of token id lists", value)


def _token_ids(value: list[object]) -> bool:
    return all(type(entry) is int and 0 <= entry < 2**31 for entry in value)
