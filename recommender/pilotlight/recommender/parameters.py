"""How many parameters a configuration has, by kind: from `config.json` alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from pilotlight.recommender import _states, _vision
from pilotlight.recommender._config import Config, heads, model_type, need, number, ratio, text_config, truth
from pilotlight.recommender._families import family
from pilotlight.recommender._layers import Mixer, mixers
from pilotlight.recommender._weights import (
    Experts,
    Family,
    Kind,
    Weights,
    attention,
    feed_forward,
    mixture,
    on,
    width,
)

_ATTENTION_FREE = frozenset({"mamba", "mamba2", "falcon_mamba"})
_STATES = {"mamba": _states.mamba, "both": _states.mamba, "delta": _states.delta, "conv": _states.convolution}


def count_parameters(config: Config) -> dict[Kind, int]:
    """Parameters by kind, none of them zero.

    Equal to those of Hugging Face's implementation for every family in `_families`; for another model type, those that
    Llama's block would have with these dimensions (see `estimated`).

    Raises:
        BadConfig: A key without which nothing can be counted is missing, or heads contradict each other.
    """
    counts: Counter[Kind] = Counter()
    for part in weights(config):
        counts[part.kind] += 0 if part.buffer else part.values
    return {kind: count for kind, count in counts.items() if count}


def rank_parameters(config: Config, ranks: int) -> int:
    """Parameters on each of `ranks` tensor-parallel ranks. Raises `BadConfig`."""
    text = text_config(config)
    kv_heads = heads(text)[1] if number(text, "num_attention_heads") else 0
    return sum(part.on_rank(ranks, kv_heads) for part in weights(config) if not part.buffer)


def estimated(config: Config) -> bool:
    """Whether counts are what Llama's block would have: an unknown family, tower or variant of a family."""
    text = text_config(config)
    return family(text) is None or not _vision.known(config) or truth(text, "qk_layernorm")


def weights(config: Config) -> Iterator[Weights]:
    """Every weight of the model, buffers among them."""
    text = text_config(config)
    traits = family(text) or Family(experts=_any_experts(text))
    yield from _tables(config, text, traits)
    # Layers of one sort have the same weights, and there are few sorts.
    sorts = Counter((mixer, _sparse(text, traits, layer), layer == 0) for layer, mixer in enumerate(mixers(text)))
    for (mixer, sparse, first), count in sorts.items():
        for part in _layer(text, traits, mixer, sparse=sparse, first=first):
            yield replace(part, values=part.values * count)
    yield from _vision.weights(config)


def _any_experts(text: Config) -> Experts | None:
    """Of a family that nobody described: in every layer, as wide as the configuration says."""
    if not number(text, "num_experts"):
        return None
    key = "moe_intermediate_size" if number(text, "moe_intermediate_size") else "intermediate_size"
    return Experts(lambda _config, _layer: True, width=key)


def _tables(config: Config, text: Config, traits: Family) -> Iterator[Weights]:
    hidden, vocabulary = need(text, "hidden_size"), need(text, "vocab_size")
    embedded = number(text, "word_embed_proj_dim") or hidden
    yield Weights("embedding", vocabulary * embedded)
    yield Weights("other", 2 * hidden * embedded if embedded != hidden else 0, "copy")
    if traits.positions is not None:
        yield Weights("embedding", (need(text, "max_position_embeddings") + traits.positions) * hidden, "copy")
    if traits.encoder:
        kinds = text.get("type_vocab_size", 0)
        yield Weights("embedding", (kinds if isinstance(kinds, int) else 0) * hidden, "copy")
    final = traits.final_norm and text.get("do_layer_norm_before") is not False
    yield Weights(
        "norm", ((traits.norm if final else 0) + (traits.norm if traits.embedding_norm else 0)) * hidden, "copy"
    )
    if traits.pooler:
        yield Weights("other", hidden * hidden + hidden, "copy")
    if has_head(config, text, traits):
        yield Weights("lm_head", vocabulary * hidden + (vocabulary if on(text, traits.head_bias) else 0))


def has_head(config: Config, text: Config, traits: Family) -> bool:
    """Whether there is an output matrix of its own: not in encoders, nor in embedders made of a decoder's body."""
    tied = truth(config, "tie_word_embeddings", truth(text, "tie_word_embeddings", traits.tied))
    if traits.encoder or tied:
        return False
    architectures = config.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list | tuple) and architectures else ""
    return not name.endswith("Model") or name.endswith("LMHeadModel")


def _sparse(text: Config, traits: Family, layer: int) -> bool:
    return traits.experts is not None and bool(number(text, "num_experts")) and traits.experts.sparse(text, layer)


def _layer(text: Config, traits: Family, mixer: Mixer, *, sparse: bool, first: bool) -> Iterator[Weights]:
    if mixer in _STATES:
        yield Weights("state_space", _STATES[mixer](text).parameters)
    if mixer in ("full", "sliding", "chunked", "both"):
        yield from attention(text, traits)
    yield Weights("norm", _norms(text, traits, first=first) * traits.norm * need(text, "hidden_size"), "copy")
    if model_type(text) in _ATTENTION_FREE:
        return
    if traits.experts and sparse:
        yield from mixture(text, traits, traits.experts)
    elif traits.experts and model_type(text) == "granitemoehybrid":
        yield feed_forward(text, traits, need(text, "shared_intermediate_size"))
    else:
        yield feed_forward(text, traits, _dense_width(text), bias=on(text, traits.mlp_bias))


def _norms(text: Config, traits: Family, *, first: bool) -> int:
    kind = model_type(text)
    if kind == "modernbert" and first:
        return traits.norms - 1  # the embedding's norm stands for it
    if kind == "falcon":
        two = number(text, "num_ln_in_parallel_attn") or (2 if truth(text, "new_decoder_architecture") else 1)
        return two if truth(text, "parallel_attn", True) or truth(text, "new_decoder_architecture") else 2
    if kind == "stablelm" and truth(text, "use_parallel_residual"):
        return traits.norms - 1
    return traits.norms


def _dense_width(text: Config) -> int:
    kind = model_type(text)
    if kind == "llama4_text":
        return need(text, "intermediate_size_mlp")
    if kind != "lfm2" or not truth(text, "block_auto_adjust_ff_dim", True):
        return width(text)
    adjusted = int(2 * (number(text, "block_ff_dim") or width(text)) / 3)
    adjusted = int((ratio(text, "block_ffn_dim_multiplier") or 1.0) * adjusted)
    multiple = number(text, "block_multiple_of") or 256
    return multiple * -(-adjusted // multiple)
