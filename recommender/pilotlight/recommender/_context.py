"""How long a request a model was made for, as vLLM 0.32 derives it (config/model.py)."""

from __future__ import annotations

from collections.abc import Mapping

from pilotlight.recommender._config import LARGEST, Config, model_type, number

# The keys vLLM takes a model's length from (ModelArchitectureConfig), with sentence-transformers' own first.
_LENGTH_KEYS = (
    "max_seq_length",
    "max_position_embeddings",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "seq_len",
)
# Rope types whose factor is already inside max_position_embeddings.
_SCALED_ROPES = frozenset({"default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"})
_AFTER_PADDING = frozenset({"roberta", "xlm-roberta", "camembert"})
_DEFAULT = 2048  # vLLM's, where a configuration names no length


def context(text: Config, estimates: list[str]) -> int:
    """Tokens, from the language model's part of a configuration; says in `estimates` when it had to guess."""
    lengths = [length for key in _LENGTH_KEYS if (length := number(text, key))]
    if not lengths:
        estimates.append(f"context: the configuration names no length, so {_DEFAULT} tokens as vLLM assumes")
        return _DEFAULT
    length = min(lengths)
    if model_type(text) in _AFTER_PADDING and not number(text, "max_seq_length"):
        # These count positions from the padding token's number onwards.
        padding = text.get("pad_token_id", 1)
        length -= (padding if isinstance(padding, int) else 1) + 1
    return max(1, _scaled(text, length))


def _scaled(text: Config, length: int) -> int:
    rope = text.get("rope_scaling") or text.get("rope_parameters")
    if not isinstance(rope, Mapping) or "gemma3" in model_type(text):
        return length
    kind = str(rope.get("rope_type", rope.get("type", "default")))
    if kind == "longrope":
        return number(text, "original_max_position_embeddings") or length
    factor = rope.get("factor")
    if kind in _SCALED_ROPES or not isinstance(factor, int | float) or not 0 < factor <= LARGEST:
        return length
    return min(LARGEST, int(length * factor))
