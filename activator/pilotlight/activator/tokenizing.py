"""Is the prompt longer than the model's context? Told before holding, by the model's own tokenizer, in its own words.

A token stands for at least one byte of text, so most prompts pass by their size alone and never reach a tokenizer.
The rest is tokenized beside the event loop. What cannot be told here (images, a template that raises, a model without
`tokenizer.json`) is left to the engine.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pilotlight.activator.errors import RefusedError, invalid
from pilotlight.activator.requests import Prompt
from pilotlight.activator.settings import Settings
from pilotlight.activator.values import Route

_log = logging.getLogger(__name__)

# The most UTF-8 bytes that one byte of input becomes under NFKC or NFKD (UAX #15); other normalizers do not expand.
_EXPANSION = 11
_EXPANDING = ("NFK", "Precompiled")
_TEMPLATE_BYTES = 1 << 20


class Counter:
    """One model's tokenizer and chat template; everything here may take its time."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._config = _read_json(folder / "tokenizer_config.json")
        self._template = _template(folder, self._config)
        normalizer = repr(self._tokenizer.normalizer)
        self._expansion = _EXPANSION if any(kind in normalizer for kind in _EXPANDING) else 1
        self.characters_per_token: int = max(map(len, self._tokenizer.get_vocab()), default=1)

    def most_tokens(self, prompt: Prompt) -> int:
        """An upper bound from sizes alone: the body, and the template's own text once for every message."""
        messages = prompt.body.get("messages")
        count = len(messages) + 1 if isinstance(messages, list) else 1
        return prompt.size * self._expansion + count * len(self._template.encode())

    def texts(self, prompt: Prompt) -> list[str] | None:
        """The texts that the engine would tokenize; None: only the engine can tell."""
        if prompt.inputs is not None:
            return [entry for entry in prompt.inputs if isinstance(entry, str)]
        messages = _plain(prompt.body.get("messages"))
        if messages is None or not self._template:
            return None
        return [self._render(messages, prompt.body)]

    def count(self, text: str, *, special: bool) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def _render(self, messages: list[dict[str, object]], body: Mapping[str, object]) -> str:
        # Imported here: it takes two seconds, and most prompts are short.
        from transformers.utils.chat_template_utils import render_jinja_template

        special = {
            name: _content(self._config.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        }
        extra = body.get("chat_template_kwargs")
        rendered = render_jinja_template(
            conversations=[messages],
            tools=body.get("tools"),
            documents=body.get("documents"),
            chat_template=self._template,
            add_generation_prompt=body.get("add_generation_prompt") is not False,
            continue_final_message=body.get("continue_final_message") is True,
            **{name: token for name, token in special.items() if token},
            **(extra if isinstance(extra, dict) else {}),
        )
        texts = rendered[0] if isinstance(rendered, tuple) else rendered
        return str(texts[0])


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
        """Read a route's tokenizer before its first request needs it."""
        if route.tokenizer is not None and route.tokenizer not in self._kept:
            self._counter(route.tokenizer)

    async def check(self, route: Route, prompt: Prompt) -> None:
        """Raises `RefusedError` (400) in the engine's words when the prompt exceeds the route's context."""
        if prompt.body.get("truncate_prompt_tokens") is not None:
            return
        _check_ids(route, prompt)
        if route.tokenizer is None:
            return
        counter = await asyncio.shield(self._counter(route.tokenizer))
        if counter is None or counter.most_tokens(prompt) <= route.context:
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
        _log.exception("tokenizer in %s cannot be used; prompt lengths are left to the engine", folder)
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
        return _too_long(
            route,
            f"contains {len(text)} characters (more than {most} characters, which is the upper bound for "
            f"{route.context} input tokens)",
        )
    if counter.count(text, special=special) > route.context:
        # The engine stops counting at one more than fits; so do its words.
        return _too_many(route, f"at least {route.context + 1}")
    return None


def _check_ids(route: Route, prompt: Prompt) -> None:
    for entry in prompt.inputs or ():
        if isinstance(entry, list) and len(entry) > route.context:
            qualifier = "at least " if len(entry) == route.context + 1 else ""
            raise _too_many(route, f"{qualifier}{len(entry)}")


def check_max_tokens(route: Route, field: str, tokens: int | None) -> None:
    """Raises `RefusedError` (400) in the engine's words when more is asked for than the context holds."""
    if tokens is not None and tokens > route.context:
        raise invalid(
            f"{field}={tokens} cannot be greater than max_model_len={route.context}. "
            "Please request fewer output tokens.",
            field,
            "context_length_exceeded",
        )


def _too_many(route: Route, count: str) -> RefusedError:
    return _too_long(route, f"contains {count} input tokens, which exceeds this limit even without any output tokens")


def _too_long(route: Route, finding: str) -> RefusedError:
    return invalid(
        f"This model's maximum context length is {route.context} tokens. However, your prompt {finding}. "
        "Please reduce the length of the input prompt.",
        None,
        "context_length_exceeded",
    )


def _plain(messages: object) -> list[dict[str, object]] | None:
    """Messages with text parts joined, as the engine does for templates that expect text; None: not only text."""
    plain: list[dict[str, object]] = []
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content")
        if isinstance(content, list):
            parts = [part.get("text") for part in content]
            if not all(isinstance(part, str) for part in parts):
                return None
            content = "\n".join(part for part in parts if isinstance(part, str))
        plain.append({**message, "content": content if content is not None else ""})
    return plain


def _template(folder: Path, config: Mapping[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file() and file.stat().st_size <= _TEMPLATE_BYTES:
        return file.read_text("utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else ""


def _read_json(file: Path) -> dict[str, Any]:
    value = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return value if isinstance(value, dict) else {}


def _content(token: object) -> str:
    """A special token: its text, or an object that has it."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""
