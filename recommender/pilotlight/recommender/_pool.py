"""The pool of blocks that an engine with the manifest's options makes."""

from __future__ import annotations

from collections.abc import Mapping

from pilotlight.recommender import _options
from pilotlight.recommender._units import ENGINE_WIDTHS
from pilotlight.recommender.cache import CacheLayer, Geometry, Pool, make_pool
from pilotlight.recommender.facts import ModelFacts
from pilotlight.recommender.quantization import pair_bits


def pool(
    model: ModelFacts, overrides: Mapping[str, object], width: int, block: int, in_flight: int, ranks: int = 1
) -> Pool:
    """On each of `ranks`.

    Args:
        model: What is cached.
        overrides: The manifest's engine options: `block_size`, `kv_cache_dtype`, `mamba_ssm_cache_dtype`,
            `enable_prefix_caching`.
        width: Bytes of a number in the engine.
        block: Tokens of a block where the manifest is silent.
        in_flight: Tokens that are scheduled and not settled at most.
        ranks: Tensor-parallel size.
    """
    recurrent = ENGINE_WIDTHS.get(_options.text(overrides, "mamba_ssm_cache_dtype") or "auto", width)
    geometry = Geometry(
        block=_options.integer(overrides, "block_size") or block,
        pair_bits=pair_bits(_options.text(overrides, "kv_cache_dtype") or "auto", width),
        state_bytes=width,
        recurrent_bytes=recurrent,
        ranks=ranks,
        prefix_caching=overrides.get("enable_prefix_caching") is not False,
        step=in_flight,
    )
    return make_pool(model.cache or _uniform(model), geometry)


def _uniform(model: ModelFacts) -> tuple[CacheLayer, ...]:
    """Facts that were not read from a configuration name values per token only."""
    if not model.kv_values_per_token:
        return ()
    heads = max(1, model.kv_heads)
    return (CacheLayer("full", heads, model.kv_values_per_token // heads),)
