"""Is the prompt longer than the model's context? Told before holding, by the model's own tokenizer, in its own words.

A token stands for at least one byte of text, so most prompts pass by their size alone and never reach a tokenizer.
The rest is tokenized beside the event loop. What cannot be told here (images, a template that raises, a model without
`tokenizer.json`) is left to the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pilotlight.activator.errors import RefusedError, invalid
from pilotlight.activator.requests import Prompt
from pilotlight.activator.settings import Settings
from pilotlight.activator.tokenizing import Counter
from pilotlight.activator.values import Route

_log = logging.getLogger(__name__)


class Lengths:
    """The check, with tokenizers kept for the functions that were used last."""

    def __init__(self, settings: Settings) -> None:
        self._kept: OrderedDict[Path, asyncio.Future[Counter | None]] = OrderedDict()
        self._limit = settings.tokenizer_folders
        self._pool = ThreadPoolExecutor(settings.tokenizer_threads, thread_name_prefix="tokenizing")

    def __len__(self) -> int:
        return len(self._kept)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def prepare(self, route: Route) -> None:
        """Read a route's tokenizers before its first request needs them."""
        for tokenizer in (route.tokenizer, *(facts.tokenizer for facts in route.revisions)):
            if tokenizer is not None and tokenizer not in self._kept:
                self._counter(tokenizer)

    async def check(self, route: Route, prompt: Prompt) -> None:
        """Raises `RefusedError` (400) in the engine's words when the prompt exceeds the route's context."""
        if prompt.body.get("truncate_prompt_tokens") is not None:
            return
        _check_ids(route, prompt)
        if route.tokenizer is None:
            return
        counter = await asyncio.shield(self._counter(route.tokenizer))
        if counter is None:  # its file may be there the next time
            self._kept.pop(route.tokenizer, None)
            return
        if counter.most_tokens(prompt) <= route.context:
            return
        loop = asyncio.get_running_loop()
        refusal = await loop.run_in_executor(self._pool, _judge, counter, route, prompt)
        if refusal is not None:
            raise refusal

    def _counter(self, folder: Path) -> asyncio.Future[Counter | None]:
        kept = self._kept.get(folder)
        if kept is None:
            kept = self._kept[folder] = asyncio.get_running_loop().run_in_executor(self._pool, _load, folder)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        self._kept.move_to_end(folder)
        return kept


def _load(folder: Path) -> Counter | None:
    try:
        return Counter(folder)
    except Exception:  # noqa: BLE001 - the library raises bare Exception for what it cannot read
        _log.warning("tokenizer in %s cannot be used; lengths are left to the engine", folder, exc_info=True)
        return None


def _judge(counter: Counter, route: Route, prompt: Prompt) -> RefusedError | None:
    try:
        texts = counter.texts(prompt)
    except Exception:  # noqa: BLE001 - a template is a program; what it raises is for the engine to say
        _log.debug("the chat template of %s raised", route.function, exc_info=True)
        return None
    special = prompt.body.get("add_special_tokens")
    special = special if isinstance(special, bool) else prompt.inputs is not None
    for text in texts or ():
        refusal = _judge_text(counter, route, text, special=special)
        if refusal is not None:
            return refusal
    return None


def _judge_text(counter: Counter, route: Route, text: str, *, special: bool) -> RefusedError | None:
    most = route.context * counter.characters_per_token
    if len(text) > most:
        finding = f"contains {len(text)} characters (more than {most} characters, which is the upper bound for "
        return _too_long(route, f"{finding}{route.context} input tokens)", "input_text", len(text))
    # The engine stops counting at one more than fits; so do its words.
    return _judge_count(route, min(counter.count(text, special=special), route.context + 1))


def _judge_count(route: Route, count: int) -> RefusedError | None:
    if count > route.context:
        return _too_many(route, count)
    if count == route.context and route.task == "generate":  # it fits, and leaves no room for an answer
        return _exceeded("max_tokens must be at least 1, got 0.", "max_tokens", 0)
    return None


def _check_ids(route: Route, prompt: Prompt) -> None:
    for entry in prompt.inputs or ():
        refusal = _judge_count(route, len(entry)) if isinstance(entry, list) else None
        if refusal is not None:
            raise refusal


def check_max_tokens(route: Route, field: str, tokens: int | None) -> None:
    """Raises `RefusedError` (400) in the engine's words when more is asked for than the context holds."""
    if tokens is not None and tokens > route.context:
        finding = f"{field}={tokens} cannot be greater than max_model_len={route.context}."
        raise _exceeded(f"{finding} Please request fewer output tokens.", field, tokens)


def _too_many(route: Route, count: int) -> RefusedError:
    qualifier = "at least " if count == route.context + 1 else ""
    finding = f"contains {qualifier}{count} input tokens, which exceeds this limit even without any output tokens"
    return _too_long(route, finding, "input_tokens", count)


def _too_long(route: Route, finding: str, parameter: str, value: int) -> RefusedError:
    message = (
        f"This model's maximum context length is {route.context} tokens. However, your prompt {finding}. "
        "Please reduce the length of the input prompt."
    )
    return _exceeded(message, parameter, value)


def _exceeded(message: str, parameter: str, value: int) -> RefusedError:
    """Down to the parenthesis that vLLM adds to every error that names a parameter."""
    return invalid(f"{message} (parameter={parameter}, value={value})", parameter, "context_length_exceeded")
