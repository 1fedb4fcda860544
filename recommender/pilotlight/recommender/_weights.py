"""The weights of one layer or table, counted from a configuration: no model is built and no file but it is read.

Shapes follow Hugging Face's reference implementations; a parameter is a floating-point value that training sets
(buffers, as DeepSeek-V3's router correction, are none).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from pilotlight.recommender._config import Config, heads, need, number, truth
from pilotlight.recommender._units import ceil_div

Kind = Literal[
    "embedding", "attention", "mlp", "experts", "router", "norm", "lm_head", "state_space", "vision", "audio", "other"
]
"""`mlp` has the shared experts too: every token passes them. `vision` and `audio` count towers and projectors."""
Share = Literal["split", "heads", "copy"]
"""How vLLM lays it over tensor-parallel ranks: a part each; key-value heads, repeated where they are fewer than ranks;
the whole on every rank."""


@dataclass(frozen=True)
class Weights:
    """Parameters of one kind that are laid over ranks alike."""

    kind: Kind
    values: int
    share: Share = "split"
    buffer: bool = False
    """Stored beside the parameters but set by no training step; kept in 32 bits."""

    def on_rank(self, ranks: int, kv_heads: int) -> int:
        """Values on each of `ranks`, the largest where they do not divide."""
        if self.share == "copy" or ranks == 1:
            return self.values
        if self.share == "heads" and kv_heads:
            return self.values // kv_heads * ceil_div(kv_heads, ranks)
        return ceil_div(self.values, ranks)


@dataclass(frozen=True)
class Flag:
    """A choice that a configuration may make under `key`."""

    key: str
    default: bool = False


def on(config: Config, choice: bool | Flag) -> bool:
    return truth(config, choice.key, choice.default) if isinstance(choice, Flag) else choice


@dataclass(frozen=True)
class Experts:
    """A mixture of experts: the keys it is read from, and which layers have one."""

    sparse: Callable[[Config, int], bool]
    width: str = "moe_intermediate_size"
    shared: Callable[[Config], int] = lambda _: 0  # width of what every token passes beside the chosen ones
    shared_gate: bool = False
    bias: bool = False
    correction: bool = False  # one value per expert that balances their load: a buffer


@dataclass(frozen=True)
class Family:
    """What tells a family from Llama, whose block every other one varies. Defaults are Llama's."""

    tied: bool = False  # input and output embedding, where the configuration is silent
    norm: int = 1  # vectors of a norm: 1 RMS, 2 with a bias, 0 without parameters
    norms: int = 2  # per layer
    final_norm: bool = True
    embedding_norm: bool = False
    qk_norm: Literal["", "head", "width"] = ""
    qk_norm_when: bool | Flag = True
    qkv_bias: bool | Flag = False
    out_bias: bool | Flag = False
    mlp_bias: bool | Flag = False
    head_bias: bool | Flag = False
    gated: bool = True
    gated_query: bool = False  # a query projection twice as wide, for an output gate
    sinks: bool = False  # one learned value per head
    experts: Experts | None = None
    positions: int | None = None  # learned positions; that many rows more than the context
    pooler: bool = False
    encoder: bool = False


def matrix(rows: int, columns: int, *, bias: bool = False) -> int:
    """Values of a linear layer with that many outputs and inputs."""
    return rows * columns + (rows if bias else 0)


def attention(config: Config, family: Family) -> Iterator[Weights]:
    """Multi-head, grouped or multi-query attention; latent attention where the configuration names its rank."""
    if number(config, "kv_lora_rank"):
        yield from _latent(config)
        return
    hidden = need(config, "hidden_size")
    count, kv_heads, size = heads(config)
    bias = on(config, family.qkv_bias)
    yield Weights("attention", matrix(count * size * (2 if family.gated_query else 1), hidden, bias=bias))
    yield Weights("attention", 2 * matrix(kv_heads * size, hidden, bias=bias), "heads")
    out_bias = on(config, family.out_bias)
    yield Weights("attention", hidden * count * size)
    yield Weights("attention", hidden if out_bias else 0, "copy")
    yield Weights("attention", count if family.sinks else 0)
    if family.qk_norm and on(config, family.qk_norm_when):
        yield Weights("norm", 2 * size if family.qk_norm == "head" else (count + kv_heads) * size, "copy")


def _latent(config: Config) -> Iterator[Weights]:
    """DeepSeek's multi-head latent attention: what projects into the latents is on every rank, heads are split."""
    hidden, count = need(config, "hidden_size"), need(config, "num_attention_heads")
    latent, rope, plain, value = (
        need(config, key) for key in ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
    )
    bias, rank = truth(config, "attention_bias"), number(config, "q_lora_rank")
    if rank:
        yield Weights("attention", matrix(rank, hidden, bias=bias), "copy")
        yield Weights("norm", rank, "copy")
    yield Weights("attention", count * (plain + rope) * (rank or hidden))
    yield Weights("attention", matrix(latent + rope, hidden, bias=bias), "copy")
    yield Weights("norm", latent, "copy")
    yield Weights("attention", count * (plain + value) * latent)
    yield Weights("attention", hidden * count * value)
    yield Weights("attention", hidden if bias else 0, "copy")


def feed_forward(config: Config, family: Family, width: int, *, bias: bool = False, kind: Kind = "mlp") -> Weights:
    """Two matrices, or three where a gate multiplies the first."""
    hidden = need(config, "hidden_size")
    widen = 2 if family.gated else 1
    return Weights(kind, widen * matrix(width, hidden, bias=bias) + matrix(hidden, width, bias=bias))


def mixture(config: Config, family: Family, experts: Experts) -> Iterator[Weights]:
    hidden, count, width = need(config, "hidden_size"), need(config, "num_experts"), need(config, experts.width)
    yield Weights("router", matrix(count, hidden, bias=experts.bias), "copy")
    if experts.correction:
        yield Weights("router", count, "copy", buffer=True)
    each = feed_forward(config, family, width, bias=experts.bias, kind="experts")
    yield Weights("experts", count * each.values)
    if shared := experts.shared(config):
        yield feed_forward(config, family, shared)
        yield Weights("router", hidden if experts.shared_gate else 0, "copy")


def width(config: Config) -> int:
    """Of the dense feed-forward part: four times the hidden size where the configuration is silent."""
    return number(config, "intermediate_size") or 4 * need(config, "hidden_size")
