"""Reading requests into checked values; what cannot be done is refused in vLLM's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar
from zlib import crc32

from pydantic import ValidationError

from .options import Options
from .protocol import Chat, Completion, Embeddings, StreamOptions
from .sequence import Limits
from .tokens import encode, encode_chat

# vLLM's own bounds (VLLM_MAX_N_SEQUENCES and VLLM_MAX_COMPLETION_PROMPTS in its envs.py, 0.32).
MAX_N = 16_384
MAX_PROMPTS = 1024
_MAX_REPORTED = 10  # of the errors of one body, as vLLM does


class RefusedError(Exception):
    """A request that is answered with an error; carries OpenAI's error fields and the HTTP status."""

    def __init__(self, message: str, kind: str = "BadRequestError", param: str | None = None, code: int = 400) -> None:
        super().__init__(message)
        self.message, self.kind, self.param, self.code = message, kind, param, code


@dataclass(frozen=True)
class Served:
    """The names that an engine answers to: of its model, the first of which it calls itself, and of adapters."""

    names: tuple[str, ...]
    adapters: tuple[str, ...] = ()

    def resolve(self, asked: str | None) -> str:
        """The name in the answer. Raises `RefusedError` for a name that is not served."""
        if asked in self.adapters:
            return asked
        if asked and asked not in self.names:
            message = f"The model `{asked[:200]}` does not exist. Valid aliases: {', '.join(self.names)}."
            raise RefusedError(message, "NotFoundError", "model", 404)
        return self.names[0]

    def salt(self, resolved: str) -> int:
        """Tells an adapter's answers and cached prompts from those of the model itself, which has 0."""
        return crc32(resolved.encode()) if resolved in self.adapters else 0


@dataclass(frozen=True)
class Generation:
    """A checked request for text."""

    model: str  # as resolved
    chat: bool
    prompts: tuple[tuple[int, ...], ...]
    limits: tuple[Limits, ...]  # one for each prompt
    n: int
    seed: int | None  # None: the engine's
    greedy: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool


@dataclass(frozen=True)
class Embedding:
    """A checked request for vectors."""

    model: str  # as resolved
    prompts: tuple[tuple[int, ...], ...]
    dimensions: int
    base64: bool


_Model = TypeVar("_Model", Chat, Completion, Embeddings)


def read_chat(body: bytes, served: Served, options: Options) -> Generation:
    """Read the body of a chat completion. Raises `RefusedError`."""
    request, model = _parse(Chat, body, served)
    prompt = tuple(encode_chat((message.role, message.text) for message in request.messages))
    limit = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    param = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    return _generation(request, model, (prompt,), limit, param, options)


def read_completion(body: bytes, served: Served, options: Options) -> Generation:
    """Read the body of a completion. Raises `RefusedError`."""
    request, model = _parse(Completion, body, served)
    limit = 16 if request.max_tokens is None else request.max_tokens
    return _generation(request, model, _prompts(request.prompt, "prompt"), limit, "max_tokens", options)


def read_embedding(body: bytes, served: Served, options: Options) -> Embedding:
    """Read the body of an embedding request. Raises `RefusedError`."""
    request, model = _parse(Embeddings, body, served)
    prompts = _prompts(request.input, "input")
    for prompt in prompts:
        _check_length(prompt, options.max_model_len)
    width = request.dimensions or options.simulated_dimensions
    if width > options.simulated_dimensions:
        raise RefusedError(
            f"dimensions must be at most {options.simulated_dimensions}, got {width}.", param="dimensions"
        )
    return Embedding(model, prompts, width, request.encoding_format == "base64")


def _parse(kind: type[_Model], body: bytes, served: Served) -> tuple[_Model, str]:
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error) from error
    return request, served.resolve(request.model)


def _invalid(error: ValidationError) -> RefusedError:
    """Name the fields and what was expected, without the input that pydantic repeats."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    places = [".".join(["body", *(str(part) for part in one["loc"][:1])]) for one in found]
    problems = [
        f"  {{'type': {one['type']!r}, 'loc': {place!r}, 'msg': {one['msg']!r}}}"
        for one, place in zip(found[:_MAX_REPORTED], places, strict=False)
    ]
    count = f"{len(found)} validation error{'s' if len(found) > 1 else ''}"
    return RefusedError("\n".join([f"{count}:", *problems]), "Bad Request", places[0])


def _prompts(given: str | list[str] | list[int] | list[list[int]], param: str) -> tuple[tuple[int, ...], ...]:
    if isinstance(given, str):
        prompts: tuple[tuple[int, ...], ...] = (tuple(encode(given)),)
    elif all(isinstance(one, int) for one in given):
        prompts = (tuple(token for token in given if isinstance(token, int)),)
    else:
        prompts = tuple(
            tuple(encode(one) if isinstance(one, str) else one) for one in given if not isinstance(one, int)
        )
    if not all(prompts):
        raise RefusedError("Either prompt or prompt_embeds must be provided and non-empty.", param=param)
    if len(prompts) > MAX_PROMPTS:
        message = f"prompt list length {len(prompts)} exceeds the maximum allowed count of {MAX_PROMPTS}."
        raise RefusedError(message, param=param)
    return prompts


def _generation(
    request: Chat | Completion,
    model: str,
    prompts: tuple[tuple[int, ...], ...],
    limit: int | None,
    param: str,
    options: Options,
) -> Generation:
    n = 1 if request.n is None else request.n
    _check_features(request)
    _check_n(n, len(prompts))
    if limit is not None and limit > options.max_model_len:
        message = f"{param}={limit} cannot be greater than max_model_len={options.max_model_len}. "
        raise RefusedError(message + "Please request fewer output tokens.", param=param)
    stream_options = request.stream_options or StreamOptions()
    return Generation(
        model=model,
        chat=isinstance(request, Chat),
        prompts=prompts,
        limits=tuple(_limits(request, prompt, limit, options.max_model_len) for prompt in prompts),
        n=n,
        seed=request.seed,
        greedy=request.temperature == 0,
        stream=bool(request.stream),
        include_usage=bool(stream_options.include_usage),
        continuous_usage=bool(stream_options.include_usage and stream_options.continuous_usage_stats),
        return_token_ids=bool(request.return_token_ids),
    )


def _check_features(request: Chat | Completion) -> None:
    """A toy model has no probabilities and obeys no grammar: better refused than answered wrongly."""
    if request.stream_options and not request.stream:
        raise RefusedError("Stream options can only be defined when `stream=True`.", "Bad Request", "stream_options")
    if request.temperature is not None and not 0 <= request.temperature <= 2:
        raise RefusedError(f"temperature must be in [0, 2], got {request.temperature}.", param="temperature")
    if request.priority:
        raise RefusedError(f"Got priority {request.priority} but Priority scheduling is not enabled.")
    asked = {
        "logprobs": request.logprobs not in (None, False),
        "prompt_logprobs": request.prompt_logprobs is not None,
        "response_format": (request.response_format or {}).get("type", "text") != "text",
        "structured_outputs": request.structured_outputs is not None,
        "use_beam_search": request.use_beam_search,
        "echo": bool(request.echo),
    }
    for name, wanted in asked.items():
        if wanted:
            raise RefusedError(f"The simulated engine does not support `{name}`.", param=name)


def _check_n(n: int, prompts: int) -> None:
    if n < 1:
        raise RefusedError(f"n must be at least 1, got {n}.")
    if n > MAX_N:
        raise RefusedError(
            f"n must be at most {MAX_N}, got {n}. To increase this limit, "
            "set the VLLM_MAX_N_SEQUENCES environment variable."
        )
    if n * prompts > MAX_N:
        # vLLM would try; here one request must not exhaust the memory of a test machine.
        raise RefusedError(f"n times prompts asks for {n * prompts} sequences, at most {MAX_N} are made.", param="n")


def _check_length(prompt: tuple[int, ...], context: int) -> None:
    if len(prompt) > context:
        raise RefusedError(
            f"This model's maximum context length is {context} tokens. However, your prompt contains {len(prompt)} "
            "input tokens, which exceeds this limit even without any output tokens. "
            "Please reduce the length of the input prompt.",
            param="input_tokens",
        )


def _limits(request: Chat | Completion, prompt: tuple[int, ...], limit: int | None, context: int) -> Limits:
    _check_length(prompt, context)
    room = context - len(prompt)
    max_tokens = room if limit is None else min(limit, room)
    if max_tokens < 1:
        raise RefusedError(f"max_tokens must be at least 1, got {max_tokens}.", param="max_tokens")
    if request.min_tokens > max_tokens:
        message = f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {request.min_tokens}."
        raise RefusedError(message)
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    if not all(stop):
        raise RefusedError("stop cannot contain an empty string.", param="stop")
    return Limits(
        max_tokens=max_tokens,
        min_tokens=request.min_tokens,
        ignore_eos=request.ignore_eos,
        stop=stop,
        stop_token_ids=frozenset(request.stop_token_ids or ()),
        include_stop=request.include_stop_str_in_output,
    )
