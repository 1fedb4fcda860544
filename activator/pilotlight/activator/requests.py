"""An OpenAI request as the activator sees it: what it was asked for, and the body that the engine will get."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pilotlight.activator import bodies
from pilotlight.activator.errors import invalid
from pilotlight.activator.schema import Body, Endpoint, check_fields, check_inputs, check_messages, check_stream
from pilotlight.activator.settings import Settings

# Scheduling, transfer of caches and request ids are the activator's to say, never the client's.
_CONTROLLED = (
    "model",
    "priority",
    "kv_transfer_params",
    "ec_transfer_params",
    "request_id",
    "return_token_ids",
    "stream_options",
)


@dataclass(frozen=True, slots=True)
class Wants:
    """What of a stream the client asked for; the rest is asked upstream for ourselves and removed again."""

    usage: bool = False
    continuous_usage: bool = False
    token_ids: bool = False


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a length check needs; lives only until the request is held."""

    endpoint: Endpoint
    body: Body
    inputs: list[str] | list[list[int]] | None  # None: chat
    size: int  # bytes of the body: more than its prompt has tokens


@dataclass(frozen=True, slots=True)
class Parsed:
    """A request that passed every check that needs no function."""

    endpoint: Endpoint
    model: str | None
    stream: bool
    wants: Wants
    single: bool  # one completion: its token ids are worth keeping
    choices: int  # completions of each prompt
    max_tokens: int | None
    max_tokens_field: str
    rest: bytes
    """The upstream body without its opening brace and `model`: kept instead of the parsed tree while held."""
    prompt: Prompt


def parse(endpoint: Endpoint, raw: bytes, settings: Settings) -> Parsed:
    """Validate a body; raises `RefusedError` (400) that names the field and what was expected."""
    body = bodies.decode(raw, settings.json_depth, settings.json_items)
    check_fields(endpoint, body)
    check_stream(body)
    inputs = _check_prompt(endpoint, body, settings)
    stream = body.get("stream") is True and endpoint is not Endpoint.EMBEDDINGS
    choices = _int(body.get("n")) or 1
    wants = _wants(body)
    field, limit = _max_tokens(endpoint, body)
    return Parsed(
        endpoint=endpoint,
        model=_model(body),
        stream=stream,
        wants=wants,
        single=choices == 1 and (inputs is None or len(inputs) == 1),
        choices=choices,
        max_tokens=limit,
        max_tokens_field=field,
        rest=_rest(body, stream, wants),
        prompt=Prompt(endpoint, body, inputs, len(raw)),
    )


def upstream_body(model: str, rest: bytes) -> bytes:
    """The engine's body: `rest` under the name that the engine serves the model by."""
    return b'{"model":' + json.dumps(model).encode() + (b"" if rest == b"}" else b",") + rest


def _model(body: Body) -> str | None:
    model = body.get("model")
    return model if isinstance(model, str) else None


def _check_prompt(endpoint: Endpoint, body: Body, settings: Settings) -> list[str] | list[list[int]] | None:
    if endpoint is Endpoint.CHAT:
        check_messages(body.get("messages"))
        return None
    if endpoint is Endpoint.EMBEDDINGS:
        if body.get("input") is None and body.get("messages") is not None:
            check_messages(body.get("messages"))
            return None
        return check_inputs("input", body.get("input"), settings.inputs)
    inputs = check_inputs("prompt", body.get("prompt"), settings.choices)
    count = _int(body.get("n")) or 1
    if len(inputs) * count > settings.choices:
        message = f"{len(inputs)} prompts times `n={count}` exceed {settings.choices} completions in one request."
        raise invalid(message, "n")
    return inputs


def _wants(body: Body) -> Wants:
    options = body.get("stream_options")
    chosen = options if isinstance(options, dict) else {}
    usage = chosen.get("include_usage") is True
    return Wants(
        usage=usage,
        continuous_usage=usage and chosen.get("continuous_usage_stats") is True,
        token_ids=body.get("return_token_ids") is True,
    )


def _max_tokens(endpoint: Endpoint, body: Body) -> tuple[str, int | None]:
    if endpoint is Endpoint.CHAT and body.get("max_completion_tokens") is not None:
        return "max_completion_tokens", _int(body.get("max_completion_tokens"))
    if endpoint is Endpoint.EMBEDDINGS:
        return "max_tokens", None
    limit = _int(body.get("max_tokens"))
    if limit == 0 and not body.get("echo"):
        raise invalid("`max_tokens` must be at least 1, got 0.", "max_tokens")
    least = _int(body.get("min_tokens"))
    if limit is not None and least is not None and least > limit:
        raise invalid(f"`min_tokens`={least} must not exceed `max_tokens`={limit}.", "min_tokens")
    return "max_tokens", limit


def _rest(body: Body, stream: bool, wants: Wants) -> bytes:
    """What goes upstream behind the model's name.

    Streams ask for token ids and running usage: they are metered as they pass, and the ids let a stream continue on
    another replica. An echoed prompt is the exception: the engine leaves its text out when ids are asked for.
    """
    kept = {field: value for field, value in body.items() if field not in _CONTROLLED}
    if stream:
        kept["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    if wants.token_ids or (stream and not body.get("echo")):
        kept["return_token_ids"] = True
    return bodies.encode(kept)[1:]


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
