"""Do the tensors belong to the configuration? Only contradictions that are certain are named."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pilotlight.recommender.errors import ModelMismatch

_LAYER = re.compile(r"^(?:\w+\.)*?(?:layers|layer|h)\.(\d{1,5})\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|word_embeddings|wte)\.weight$")
_HEAD = re.compile(r"^lm_head\.weight$")
_QUERY = re.compile(r"\.(?:q_proj|attention\.self\.query)\.weight$")
_KEY = re.compile(r"\.(?:k_proj|attention\.self\.key)\.weight$")
_WIDEN = re.compile(r"\.(?:mlp\.(?:gate_proj|up_proj)|\d+\.intermediate\.dense)\.weight$")
_NARROW = re.compile(r"\.(?:mlp\.down_proj|\d+\.output\.dense)\.weight$")
_VISION = re.compile(r"(?:^|\.)(?:vision_tower|vision_model|visual|audio_tower|multi_modal_projector)\.")

# Families whose names and shapes follow the configuration's generic keys to the letter.
_KNOWN = frozenset(
    {
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "bert",
        "roberta",
        "xlm-roberta",
        "camembert",
    }
)
Shapes = Mapping[str, tuple[int, ...]]


def check(text: Mapping[str, object], shapes: Shapes, *, quantized: bool, decoder: bool) -> None:
    """Raise `ModelMismatch` with every contradiction found; unknown families and quantised weights pass unread."""
    if str(text.get("model_type", "")) not in _KNOWN or quantized:
        return
    language = {name: shape for name, shape in shapes.items() if not _VISION.search(name)}
    problems = (
        *_embedding(text, language),
        *_layers(text, language),
        *_attention(text, language),
        *_feed_forward(text, language),
        *(_output(text, language) if decoder else ()),
    )
    if problems:
        raise ModelMismatch(problems)


def _embedding(text: Mapping[str, object], shapes: Shapes) -> Iterator[str]:
    expected = (text.get("vocab_size"), text.get("hidden_size"))
    found = [name for name in shapes if _EMBEDDING.search(name)]
    if not found:
        yield "no token embedding is among the tensors"
    for name in (*found, *(name for name in shapes if _HEAD.search(name))):
        if None not in expected and shapes[name] != expected:
            yield _shape(name, shapes[name], expected, "vocab_size", "hidden_size")


def _layers(text: Mapping[str, object], shapes: Shapes) -> Iterator[str]:
    expected = text.get("num_hidden_layers")
    seen = {int(match[1]) for name in shapes if (match := _LAYER.match(name))}
    if not isinstance(expected, int) or (len(seen) == expected and max(seen, default=-1) == expected - 1):
        return
    # As many numbers as were seen, and some more, are enough to find the first that miss; `expected` may be anything.
    missing = [number for number in range(min(expected, len(seen) + 5)) if number not in seen][:5]
    most = max(seen, default=None)
    what = f"layer {', '.join(map(str, missing))} missing" if missing else f"layers up to {most}"
    yield f"{len(seen)} layers are among the tensors ({what}), but num_hidden_layers is {expected}"


def _attention(text: Mapping[str, object], shapes: Shapes) -> Iterator[str]:
    hidden, heads = text.get("hidden_size"), text.get("num_attention_heads")
    if not isinstance(hidden, int) or not isinstance(heads, int) or heads <= 0:
        return
    kv_heads = text.get("num_key_value_heads")
    head_size = text.get("head_dim")
    size = head_size if isinstance(head_size, int) else hidden // heads
    widths = {_QUERY: (heads, "num_attention_heads"), _KEY: (kv_heads or heads, "num_key_value_heads")}
    for pattern, (count, key) in widths.items():
        if not isinstance(count, int):
            continue
        keys = (f"{key} x head size {size}", "hidden_size")
        yield from _first_other(shapes, pattern, (count * size, hidden), *keys)


def _feed_forward(text: Mapping[str, object], shapes: Shapes) -> Iterator[str]:
    """vLLM 0.32 takes the first rows of weights that are larger than the configuration says, and answers nonsense."""
    hidden, inner = text.get("hidden_size"), text.get("intermediate_size")
    if isinstance(hidden, int) and isinstance(inner, int):
        yield from _first_other(shapes, _WIDEN, (inner, hidden), "intermediate_size", "hidden_size")
        yield from _first_other(shapes, _NARROW, (hidden, inner), "hidden_size", "intermediate_size")


def _first_other(shapes: Shapes, pattern: re.Pattern[str], expected: tuple[int, int], *keys: str) -> Iterator[str]:
    """The first tensor of that name and another shape: one is enough to see, they are wrong alike."""
    wrong = next((name for name, shape in shapes.items() if pattern.search(name) and shape != expected), None)
    if wrong:
        yield _shape(wrong, shapes[wrong], expected, *keys)


def _output(text: Mapping[str, object], shapes: Shapes) -> Iterator[str]:
    if text.get("tie_word_embeddings") is False and not any(_HEAD.search(name) for name in shapes):
        yield "tie_word_embeddings is false, but there is no lm_head.weight"


def _shape(name: str, found: tuple[int, ...], expected: tuple[object, ...], *keys: str) -> str:
    return f"{name} has shape {list(found)}, but {' and '.join(keys)} make it {list(expected)}"
