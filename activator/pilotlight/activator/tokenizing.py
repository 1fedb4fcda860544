"""A model's own tokenizer and chat template: the texts of a prompt, and how many tokens they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from pilotlight.activator.requests import Prompt

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
