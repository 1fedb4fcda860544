"""Towers that read images, and what projects them into the language model: counted, or bounded where unknown."""

from __future__ import annotations

from collections.abc import Iterator

from pilotlight.recommender._config import Config, model_type, need, number, section, text_config, truth
from pilotlight.recommender._weights import Weights, matrix

_KNOWN = frozenset({"llava", "gemma3", "qwen2_vl", "qwen2_5_vl", "mistral3"})


def known(config: Config) -> bool:
    """Whether there is no tower, or one whose parameters are counted exactly."""
    towers = ("vision_config", "audio_config")
    return not any(section(config, key) for key in towers) or (
        model_type(config) in _KNOWN and section(config, "audio_config") is None
    )


def weights(config: Config) -> Iterator[Weights]:
    """Raises `BadConfig` where a tower's configuration lacks its dimensions."""
    tower, hidden = section(config, "vision_config"), need(text_config(config), "hidden_size")
    if tower is not None:
        yield Weights("vision", _COUNTS.get(model_type(config), _bound)(config, tower, hidden))
    audio = section(config, "audio_config")
    if audio is not None:
        yield Weights("audio", _bound(config, audio, hidden))


def _block(width: int, inner: int, *, gated: bool = False, bias: bool = True, norm: int = 2) -> int:
    attention = 4 * matrix(width, width, bias=bias)
    mlp = (2 if gated else 1) * matrix(inner, width, bias=bias) + matrix(width, inner, bias=bias)
    return attention + mlp + 2 * norm * width


def _patch(tower: Config, width: int) -> int:
    channels = number(tower, "num_channels") or number(tower, "in_channels") or 3
    return width * channels * need(tower, "patch_size") ** 2


def _tower(tower: Config) -> tuple[int, int, int, int]:
    width, inner = need(tower, "hidden_size"), need(tower, "intermediate_size")
    patches = (need(tower, "image_size") // need(tower, "patch_size")) ** 2
    return width, inner, patches, need(tower, "num_hidden_layers")


def _llava(config: Config, tower: Config, hidden: int) -> int:
    width, inner, patches, layers = _tower(tower)
    bias = truth(config, "multimodal_projector_bias", True)
    projector = matrix(hidden, width, bias=bias) + matrix(hidden, hidden, bias=bias)
    embedding = width + _patch(tower, width) + (patches + 1) * width
    return embedding + layers * _block(width, inner) + 2 * 2 * width + projector


def _gemma3(_config: Config, tower: Config, hidden: int) -> int:
    width, inner, patches, layers = _tower(tower)
    embedding = _patch(tower, width) + width + patches * width
    head = 0 if tower.get("vision_use_head") is False else width + _block(width, inner) - 2 * width
    return embedding + layers * _block(width, inner) + 2 * width + head + width * hidden + width


def _qwen2(_config: Config, tower: Config, hidden: int) -> int:
    width, layers = need(tower, "embed_dim"), need(tower, "depth")
    inner = int(width * (number(tower, "mlp_ratio") or 4))
    merged = width * (number(tower, "spatial_merge_size") or 2) ** 2
    out = number(tower, "hidden_size") or hidden
    merger = 2 * width + matrix(merged, merged, bias=True) + matrix(out, merged, bias=True)
    return _patch(tower, width) * (number(tower, "temporal_patch_size") or 2) + layers * _block(width, inner) + merger


def _qwen2_5(_config: Config, tower: Config, hidden: int) -> int:
    width, layers = need(tower, "hidden_size"), need(tower, "depth")
    merged = width * (number(tower, "spatial_merge_size") or 2) ** 2
    out = number(tower, "out_hidden_size") or hidden
    merger = width + matrix(merged, merged, bias=True) + matrix(out, merged, bias=True)
    blocks = layers * _block(width, need(tower, "intermediate_size"), gated=True, norm=1)
    return _patch(tower, width) * (number(tower, "temporal_patch_size") or 2) + blocks + merger


def _mistral3(config: Config, tower: Config, hidden: int) -> int:
    width, inner, layers = (need(tower, key) for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    merged, bias = width * (number(config, "spatial_merge_size") or 2) ** 2, truth(config, "multimodal_projector_bias")
    projector = width + width * merged + matrix(hidden, width, bias=bias) + matrix(hidden, hidden, bias=bias)
    return _patch(tower, width) + width + layers * _block(width, inner, gated=True, bias=False, norm=1) + projector


def _bound(_config: Config, tower: Config, hidden: int) -> int:
    """An upper bound for a tower that nobody described: gated blocks with biases, tables of 4,096 positions."""
    width = number(tower, "hidden_size") or number(tower, "embed_dim") or number(tower, "width") or 1024
    inner = number(tower, "intermediate_size") or 4 * width
    layers = number(tower, "num_hidden_layers") or number(tower, "depth") or number(tower, "encoder_layers") or 24
    return layers * _block(width, inner, gated=True) + 4096 * width + 2 * matrix(hidden, 4 * width, bias=True)


_COUNTS = {
    "llava": _llava,
    "gemma3": _gemma3,
    "qwen2_vl": _qwen2,
    "qwen2_5_vl": _qwen2_5,
    "mistral3": _mistral3,
}
