"""What each layer keeps of a sequence, and how vLLM 0.32 cuts its memory for that into blocks.

Sources, vLLM 0.32: v1/kv_cache_interface.py (bytes of a page and pages of a request, by kind of layer) and
v1/core/kv_cache_utils.py (groups of layers, blocks, and the tokens that the engine's log line names). Layers are put
into groups of equal size; every group draws blocks from one pool, and a block is as wide as a group has layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pilotlight.recommender import _states
from pilotlight.recommender._config import Config, heads, need, number
from pilotlight.recommender._layers import Mixer, mixers, window
from pilotlight.recommender._units import ceil_div

CHUNK = 8192  # Llama 4's, where the configuration is silent
# One group takes the larger count instead of the smaller where they are this close (kv_cache_utils.py).
_CLOSE = 1.5


@dataclass(frozen=True)
class CacheLayer:
    """What one layer keeps; values, not bytes."""

    kind: Literal["full", "sliding", "chunked", "latent", "state"]
    heads: int = 0  # key-value heads: split over ranks, repeated where they are fewer
    values: int = 0  # of one head (key and value) or latent, for one token
    window: int = 0  # tokens: of a sliding window or a chunk
    convolution: int = 0  # of one sequence's state, split over ranks
    recurrent: int = 0
    checkpoints: int = 0  # further states beside a sequence's own and the cached prefix's


@dataclass(frozen=True)
class Geometry:
    """How an engine lays its cache out."""

    block: int  # tokens
    pair_bits: int = 32  # of two cached values: NVFP4 takes 4.5 bits for one, its scales counted in
    state_bytes: int = 2  # of a value of a convolution's state
    recurrent_bytes: int = 2
    ranks: int = 1  # of tensor parallelism
    prefix_caching: bool = True
    step: int = 2048  # tokens scheduled but not settled: of one step, or of two with asynchronous scheduling


@dataclass(frozen=True)
class Group:
    """Layers that share a block table."""

    layer: CacheLayer
    layers: int
    block: int
    states: int = 1  # of a sequence

    def request_blocks(self, tokens: int, step: int) -> int:
        """Blocks that a request of so many tokens holds at most."""
        if self.layer.kind == "state":
            return self.states
        if self.layer.kind == "sliding":
            return ceil_div(min(self.layer.window - 1 + step, tokens), self.block) + 1
        if self.layer.kind == "chunked":
            return ceil_div(min(self.layer.window + step, tokens), self.block)
        return ceil_div(tokens, self.block)


@dataclass(frozen=True)
class Pool:
    """Groups over one pool of blocks; bytes and blocks of one rank."""

    groups: tuple[Group, ...]
    block_bytes: int
    step: int

    def blocks(self, size: int) -> int:
        return size // self.block_bytes if self.groups else 0

    def request_blocks(self, tokens: int) -> int:
        """Of all groups together."""
        return sum(group.request_blocks(tokens, self.step) for group in self.groups)

    def request_bytes(self, tokens: int) -> int:
        """For one request beside the block that the engine keeps (vLLM's null block)."""
        return (self.request_blocks(tokens) + 1) * self.block_bytes if self.groups else 0

    def log_tokens(self, size: int, context: int) -> int:
        """The tokens that vLLM logs as its KV cache size: requests of the longest kind that fit, times their length."""
        return int(self.blocks(size) / self.request_blocks(context) * context) if self.groups else 0

    def longest(self, size: int, limit: int) -> int:
        """Tokens of the longest request, at most `limit`, that fits into `size` bytes; 0 when none does."""
        usable = self.blocks(size) - 1
        if not self.groups or self.request_blocks(limit) <= usable:
            return limit
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.request_blocks(middle) <= usable else (low, middle - 1)
        return low

    def sequences(self, size: int, tokens: int) -> int:
        """Requests of so many tokens that fit at once."""
        return max(0, self.blocks(size) - 1) // self.request_blocks(tokens) if self.groups else 0

    @cached_property
    def token_bytes(self) -> float:
        """Of one more token in a long request: layers with a window or a state cost nothing more."""
        growing = [group for group in self.groups if group.layer.kind in ("full", "latent")]
        return sum(self.block_bytes / group.block for group in growing)


def read_cache(text: Config) -> tuple[CacheLayer, ...]:
    """What each layer keeps, from the language model's part of a configuration. Raises `BadConfig`."""
    return tuple(kept for mixer in mixers(text) for kept in _kept(text, mixer))


def _kept(text: Config, mixer: Mixer) -> list[CacheLayer]:
    if mixer == "both":
        return [_state(_states.mamba(text)), _attending(text, "full")]
    if mixer == "mamba":
        return [_state(_states.mamba(text))]
    if mixer == "delta":
        return [_state(_states.delta(text))]
    if mixer == "conv":
        return [_state(_states.convolution(text))]
    return [_attending(text, mixer)]


def _state(state: _states.StateSpace) -> CacheLayer:
    return CacheLayer("state", convolution=state.convolution, recurrent=state.recurrent, checkpoints=state.checkpoints)


def _attending(text: Config, mixer: Mixer) -> CacheLayer:
    latent = number(text, "kv_lora_rank")
    if latent:
        return CacheLayer("latent", 1, latent + need(text, "qk_rope_head_dim"))
    _, kv_heads, size = heads(text)
    seen = window(text)
    if mixer == "sliding" and seen:
        return CacheLayer("sliding", kv_heads, 2 * size, seen)
    if mixer == "chunked":
        return CacheLayer("chunked", kv_heads, 2 * size, number(text, "attention_chunk_size") or CHUNK)
    return CacheLayer("full", kv_heads, 2 * size)


def make_pool(layers: Sequence[CacheLayer], geometry: Geometry) -> Pool:
    """Group layers as vLLM's hybrid cache manager does, which is on by default."""
    if not layers:
        return Pool((), 0, geometry.step)
    block, page = _block_and_page(layers, geometry)
    counts = Counter(layers)
    size = min(counts.values())
    if len(counts) == 1 or max(counts.values()) < size * _CLOSE:
        size = max(counts.values())
    groups = []
    for layer, count in counts.items():
        pages = _page_bytes(layer, geometry, block)
        longer = block * (page // pages) if layer.kind != "state" and page % pages == 0 else block
        states = _states_of(layer, counts, geometry)
        number_of_groups = ceil_div(count, size)
        groups += [
            Group(layer, len(range(first, count, number_of_groups)), longer, states)
            for first in range(number_of_groups)
        ]
    return Pool(tuple(groups), max(group.layers for group in groups) * page, geometry.step)


def _states_of(layer: CacheLayer, others: Collection[CacheLayer], geometry: Geometry) -> int:
    """Beside attention with cached prefixes a sequence keeps two states, its own and that of the last whole block."""
    hybrid = any(other.kind != "state" for other in others)
    return 2 + layer.checkpoints if hybrid and geometry.prefix_caching else 1


def _block_and_page(layers: Sequence[CacheLayer], geometry: Geometry) -> tuple[int, int]:
    """Tokens of a block and bytes of a layer's page: attention pages grow until a state fits into one."""
    kinds = set(layers)
    states = [_page_bytes(layer, geometry, 1) for layer in kinds if layer.kind == "state"]
    tokens = [_page_bytes(layer, geometry, 1) for layer in kinds if layer.kind != "state"]
    if not tokens:
        return geometry.block, max(states)
    block = geometry.block
    if states:
        block = max(block, geometry.block * ceil_div(max(states), geometry.block * max(tokens)))
    return block, block * max(tokens)


def _page_bytes(layer: CacheLayer, geometry: Geometry, block: int) -> int:
    if layer.kind == "state":
        sizes = (layer.convolution * geometry.state_bytes, layer.recurrent * geometry.recurrent_bytes)
        return sum(ceil_div(size, geometry.ranks) for size in sizes)
    held = layer.heads if layer.kind == "latent" else max(1, layer.heads // geometry.ranks)
    return block * ceil_div(held * layer.values * geometry.pair_bits, 16)
