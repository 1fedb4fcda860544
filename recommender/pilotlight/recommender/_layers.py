"""What each layer of a model mixes its tokens with: the one place that knows how configurations say so."""

from __future__ import annotations

from typing import Literal

from pilotlight.recommender._config import MOST_LAYERS, Config, indices, model_type, names, need, number, truth
from pilotlight.recommender.errors import BadConfig

Mixer = Literal["full", "sliding", "chunked", "mamba", "delta", "conv", "both"]
"""Attention over everything, a window or a chunk; a state space; gated delta rule; short convolution; the first and
a state space side by side."""

_NAMED: dict[str, Mixer] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "delta",
    "mamba": "mamba",
    "conv": "conv",
}
_ALIKE: dict[str, Mixer] = {"mamba": "mamba", "mamba2": "mamba", "falcon_mamba": "mamba", "falcon_h1": "both"}
_MAMBA_HYBRIDS = frozenset({"granitemoehybrid", "bamba", "jamba"})  # here linear_attention is another name of mamba
# Every Nth layer sees everything, the others a window: key, N where silent.
_PATTERNS = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4, "gpt_oss": 2, "exaone4": 4, "gemma3n_text": 5}
_NO_WINDOW = frozenset({"smollm3", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe"})  # unless use_sliding_window


def mixers(config: Config) -> tuple[Mixer, ...]:
    """One of each layer, from the language model's part of a configuration. Raises `BadConfig`."""
    count = need(config, "num_hidden_layers")
    if count > MOST_LAYERS:
        raise BadConfig("num_hidden_layers", f"config.json: num_hidden_layers is {count}, more than {MOST_LAYERS}")
    kind = model_type(config)
    if kind in _ALIKE:
        return (_ALIKE[kind],) * count
    named = names(config, "layer_types", count) or names(config, "layers_block_type", count)
    if named is not None:
        return tuple(_of_name(name, kind) for name in named)
    if kind in _MAMBA_HYBRIDS:
        return tuple(_of_hybrid(config, layer) for layer in range(count))
    if kind == "qwen3_next":
        every = number(config, "full_attention_interval") or 4
        return tuple("full" if (layer + 1) % every == 0 else "delta" for layer in range(count))
    if kind == "lfm2":
        attending = indices(config, "full_attn_idxs") or frozenset(range(count))
        return tuple("full" if layer in attending else "conv" for layer in range(count))
    if kind == "llama4_text":
        return tuple("full" if (layer + 1) % 4 == 0 else "chunked" for layer in range(count))
    return _windowed(config, kind, count)


def _of_name(name: str, kind: str) -> Mixer:
    if name == "linear_attention" and kind in _MAMBA_HYBRIDS:
        return "mamba"
    return _NAMED.get(name, "full")


def _of_hybrid(config: Config, layer: int) -> Mixer:
    attending = indices(config, "attn_layer_indices")
    period, offset = number(config, "attn_layer_period"), config.get("attn_layer_offset")
    if period and isinstance(offset, int):
        return "full" if layer % period == offset else "mamba"
    return "full" if layer in attending else "mamba"


def _windowed(config: Config, kind: str, count: int) -> tuple[Mixer, ...]:
    full: Mixer = "full"
    sliding: Mixer = "sliding"
    if window(config) is None:
        return (full,) * count
    if kind in _PATTERNS:
        every = number(config, "sliding_window_pattern") or _PATTERNS[kind]
        return tuple(full if (layer + 1) % every == 0 else sliding for layer in range(count))
    if kind in _NO_WINDOW:
        first = config.get("max_window_layers", count)
        start = first if isinstance(first, int) else count
        return tuple(sliding if layer >= start else full for layer in range(count))
    return (sliding,) * count


def window(config: Config) -> int | None:
    """Tokens that a sliding layer sees; None where no layer has a window."""
    if config.get("use_sliding_window") is False:
        return None
    if model_type(config) in _NO_WINDOW and not truth(config, "use_sliding_window"):
        return None
    return number(config, "sliding_window")
