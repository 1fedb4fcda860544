"""Dimensions that nested configurations leave out, because Hugging Face writes only what differs from a class's own.

A `config.json` of its own names them all, so these stand in for multimodal models' language parts only.
Source: the configuration classes of transformers 5 (compared in the tests).
"""

from __future__ import annotations

from collections.abc import Mapping

_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)


def _of(*values: int, **more: int) -> Mapping[str, int]:
    return dict(zip(_KEYS, values, strict=True)) | more


NESTED: Mapping[str, Mapping[str, int]] = {
    "llama": _of(32000, 4096, 11008, 32, 32, 2048),
    "mistral": _of(32000, 4096, 14336, 32, 32, 131072, num_key_value_heads=8, sliding_window=4096),
    "qwen2": _of(151936, 4096, 22016, 32, 32, 32768, num_key_value_heads=32),
    "qwen3": _of(151936, 4096, 22016, 32, 32, 32768, num_key_value_heads=32, head_dim=128),
    "gemma": _of(256000, 3072, 24576, 28, 16, 8192, num_key_value_heads=16, head_dim=256),
    "gemma2": _of(256000, 2304, 9216, 26, 8, 8192, num_key_value_heads=4, head_dim=256, sliding_window=4096),
    "gemma3_text": _of(262208, 2304, 9216, 26, 8, 131072, num_key_value_heads=4, head_dim=256, sliding_window=4096),
}
