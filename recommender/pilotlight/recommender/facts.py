"""What sizing needs to know of a model, read from its `config.json` and, where they are there, its tensors' headers.

Families that `parameters` knows are read exactly. Anything else gets a bounded estimate, and says so in `estimates`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pilotlight.recommender import _context, _parts
from pilotlight.recommender._config import MOST_LAYERS, Config, model_type, number, text_config
from pilotlight.recommender._families import family
from pilotlight.recommender._parts import Tensor, WeightPart
from pilotlight.recommender._units import ENGINE_WIDTHS, FLOAT_WIDTHS, STORED_NAMES
from pilotlight.recommender._weights import Kind
from pilotlight.recommender.cache import CacheLayer, read_cache
from pilotlight.recommender.consistency import check
from pilotlight.recommender.errors import BadConfig
from pilotlight.recommender.parameters import count_parameters, estimated
from pilotlight.recommender.quantization import scheme

__all__ = ["ModelFacts", "Tensor", "WeightPart", "config_facts", "read_facts"]

_ROWS = 64  # vLLM 0.32, VocabParallelEmbedding's padding
_ENCODER_TYPES = frozenset(
    {"bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "nomic_bert", "modernbert", "camembert", "electra"}
)


@dataclass(frozen=True)
class ModelFacts:
    """A model in numbers; bytes, tokens and counts."""

    architecture: str
    weight_bytes: int
    """As stored."""
    parameters: int
    """Floating-point values; packed quantised values count as what they unpack to."""
    kv_bytes_per_token: int
    """At the stored number format; `kv_values_per_token` times the width that the engine runs otherwise."""
    context: int
    vocabulary: int
    hidden_size: int
    layers: int
    task: str  # "generate" | "embed": what the architecture is made for
    kv_values_per_token: int = 0
    """Over all layers; those with a window count in full, states not at all."""
    kv_heads: int = 0
    heads: int = 0
    """Attention heads; 0: unknown."""
    intermediate_size: int = 0
    dtype: str = "float32"
    """The stored format of most weights, by vLLM's name."""
    quantized: bool = False
    encoder: bool = False
    """Sees the whole prompt at once and keeps no KV cache."""
    estimates: tuple[str, ...] = field(default=())
    """What had to be guessed, one sentence each; empty: everything was read."""
    active_parameters: int = 0
    """That one token passes: of a mixture's experts only the chosen. 0: not known."""
    parts: tuple[WeightPart, ...] = ()
    cache: tuple[CacheLayer, ...] = ()
    """What each layer keeps of a sequence."""
    routed_values: int = 0
    """Values that a token has at once in the experts it was sent to; 0: no mixture."""
    arithmetic: str = "bf16"
    """The number format of its products, where an accelerator has units for it; `bf16` for weights of 16 or 32 bits,
    and for those that are unpacked first."""
    padding: int = 0
    """Values that the engine adds to the embedding tables: it rounds their rows up to 64."""

    @property
    def parameters_by_kind(self) -> dict[Kind, int]:
        counts: Counter[Kind] = Counter()
        for part in self.parts:
            counts[part.kind] += part.parameters
        return {kind: count for kind, count in counts.items() if count}

    @property
    def parameters_by_dtype(self) -> dict[str, int]:
        """By safetensors' names of number formats."""
        counts: Counter[str] = Counter()
        for part in self.parts:
            counts[part.dtype] += part.parameters
        return {dtype: count for dtype, count in counts.items() if count}

    @property
    def state_values(self) -> int:
        """Values that one sequence keeps whatever its length, over all layers: state spaces and convolutions."""
        return sum(layer.convolution + layer.recurrent for layer in self.cache)

    def rank_weight_bytes(
        self,
        ranks: int,
        width: int | None = None,
        *,
        head: bool = True,
        expert_ranks: int | None = None,
        stages: int = 1,
    ) -> int:
        """Weights on each of `ranks` tensor-parallel ranks; of the heaviest stage where there are several.

        Args:
            ranks: Tensor-parallel size.
            width: Bytes of a plain number in the engine; None: as stored. Quantised values stay as they are.
            head: Whether the output matrix is loaded: not where the model embeds; then neither is a pooler.
            expert_ranks: Ranks that experts are spread over; None: as the rest.
            stages: Pipeline-parallel size: layers are spread evenly, the tables are at the two ends.
        """
        if not self.parts:
            whole = self.weight_bytes if self.quantized or width is None else self.parameters * width
            return -(-whole // (ranks * stages))
        held = [part for part in self.parts if head or part.kind not in ("lm_head", "other")]
        padding = self.padding + (-self.vocabulary % _ROWS * self.hidden_size if _has_head(held) else 0)
        sums: Counter[str] = Counter(ends=-(-padding * (width or self.stored_width) // ranks))
        for part in held:
            spread = expert_ranks or ranks if part.kind == "experts" else ranks
            sums[_place(part.kind)] += part.rank_bytes(spread, self.kv_heads, width)
        if stages == 1:
            return sums.total()
        longest = -(-self.layers // stages)
        return -(-sums["layers"] * longest // self.layers) + sums["ends"]

    @property
    def stored_width(self) -> int:
        """Bytes of a plain number as stored."""
        return ENGINE_WIDTHS.get(self.dtype, 2)


def _place(kind: Kind) -> Literal["layers", "ends"]:
    """Of two ends one stage may have both, as with a tied table: they count as on one."""
    return "ends" if kind in ("embedding", "lm_head", "vision", "audio", "other") else "layers"


def _has_head(parts: Iterable[WeightPart]) -> bool:
    return any(part.kind == "lm_head" for part in parts)


def read_facts(config: Config, tensors: Mapping[str, Tensor]) -> ModelFacts:
    """Read a model's numbers.

    Args:
        config: `config.json`; a `max_seq_length` (sentence-transformers' limit) may be merged in.
        tensors: Every tensor by name.

    Raises:
        ModelMismatch: The tensors contradict the configuration: shapes, layers, vocabulary, a missing output head.
        BadConfig: A known family's configuration lacks a dimension, or its heads contradict each other.
    """
    text = text_config(config)
    quantized = scheme(config) is not None
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    check(text, shapes, quantized=quantized, decoder=_architecture(config).endswith("ForCausalLM"))
    estimates: list[str] = []
    hidden = number(text, "hidden_size") or _guess_hidden(shapes, estimates)
    layers = number(text, "num_hidden_layers") or _guess_layers(shapes, estimates)
    dtype, width = _stored_format(tensors)
    return _facts(config, _parts.of_tensors(config, tensors), hidden, layers, dtype, width, estimates)


def config_facts(config: Config) -> ModelFacts:
    """The same from `config.json` alone, as a checkpoint would have them.

    Raises:
        BadConfig: A dimension is missing without which nothing can be counted, or heads contradict each other.
    """
    text, estimates = text_config(config), []
    parts = _parts.of_config(config)
    if estimated(config):
        estimates.append(_bounds(config))
    packing = scheme(config)
    if packing is not None:
        estimates.append(f"weights: the configuration's {packing.name} at {packing.value_bytes * 8:.3g} bits a value")
    plain = next((part for part in parts if part.dtype in STORED_NAMES), None)
    name = plain.dtype if plain else "BF16"
    hidden, layers = number(text, "hidden_size") or 0, number(text, "num_hidden_layers") or 0
    return _facts(config, parts, hidden, layers, STORED_NAMES[name], min(FLOAT_WIDTHS[name], 4), estimates)


def _facts(
    config: Config,
    parts: tuple[WeightPart, ...],
    hidden: int,
    layers: int,
    dtype: str,
    width: int,
    estimates: list[str],
) -> ModelFacts:
    text, architecture, packing = text_config(config), _architecture(config), scheme(config)
    encoder = model_type(text) in _ENCODER_TYPES
    cache = () if encoder else _cache(text, hidden, layers, estimates)
    values = sum(layer.heads * layer.values for layer in cache)
    parameters = sum(part.parameters for part in parts)
    return ModelFacts(
        architecture=architecture,
        weight_bytes=sum(part.bytes for part in parts),
        parameters=parameters,
        kv_bytes_per_token=values * width,
        context=_context.context(text, estimates),
        vocabulary=number(text, "vocab_size") or 0,
        hidden_size=hidden,
        layers=layers,
        task="embed" if encoder or _is_pooler(architecture) else "generate",
        kv_values_per_token=values,
        kv_heads=max((layer.heads for layer in cache), default=0),
        heads=number(text, "num_attention_heads") or 0,
        intermediate_size=number(text, "intermediate_size") or 4 * hidden,
        dtype=dtype,
        quantized=packing is not None,
        arithmetic=packing.arithmetic if packing else "bf16",
        encoder=encoder,
        estimates=tuple(estimates),
        active_parameters=parameters - _idle(text, parts),
        parts=parts,
        cache=cache,
        routed_values=_routed(text, hidden, parts),
        padding=_padding(text, hidden, encoder=encoder),
    )


def _routed(text: Config, hidden: int, parts: tuple[WeightPart, ...]) -> int:
    """Gate and up side by side, and what comes back, once for each chosen expert (vLLM's fused_moe caches)."""
    chosen, width = number(text, "num_experts_per_tok"), number(text, "moe_intermediate_size")
    if not chosen or all(part.kind != "experts" for part in parts):
        return 0
    return chosen * (2 * (width or number(text, "intermediate_size") or 4 * hidden) + hidden)


def _padding(text: Config, hidden: int, *, encoder: bool) -> int:
    """The engine keeps token types in a table like the vocabulary's."""
    tables = (number(text, "vocab_size"), number(text, "type_vocab_size") if encoder else None)
    return sum(-rows % _ROWS * hidden for rows in tables if rows)


def _idle(text: Config, parts: tuple[WeightPart, ...]) -> int:
    """Parameters of the experts that a token does not pass."""
    experts = sum(part.parameters for part in parts if part.kind == "experts")
    count, chosen = number(text, "num_experts"), number(text, "num_experts_per_tok")
    if not experts or not count or not chosen:
        return 0
    return experts - int(experts * min(count, chosen) // count)


def _architecture(config: Config) -> str:
    names = config.get("architectures")
    if isinstance(names, list | tuple) and names:
        return str(names[0])
    return str(config.get("model_type", "unknown"))


def _is_pooler(architecture: str) -> bool:
    """Without a language model's head; GPT-2's name ends alike but has one."""
    return architecture.endswith(("Model", "ForMaskedLM")) and not architecture.endswith("LMHeadModel")


def _stored_format(tensors: Mapping[str, Tensor]) -> tuple[str, int]:
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype in STORED_NAMES:
            sizes[tensor.dtype] += tensor.bytes
    if not sizes:
        return "bfloat16", 2
    name = sizes.most_common(1)[0][0]
    return STORED_NAMES[name], min(FLOAT_WIDTHS[name], 4)


def _cache(text: Config, hidden: int, layers: int, estimates: list[str]) -> tuple[CacheLayer, ...]:
    try:
        return read_cache(text)
    except BadConfig as error:
        if family(text) is not None:
            raise
        estimates.append(f"KV cache: every layer counts as full width, because {error}")
        return (CacheLayer("full", 1, 2 * hidden),) * min(layers, MOST_LAYERS)


def _bounds(config: Config) -> str:
    counted = count_parameters(config)
    total, widened = sum(counted.values()), counted.get("mlp", 0) + counted.get("experts", 0)
    return (
        f"parameters: {_architecture(config)} is not a family whose layers are known, so those of Llama's block with"
        f" these dimensions; between {total - widened // 3:,} (two feed-forward matrices) and {total:,} (three)"
    )


def _guess_hidden(shapes: Mapping[str, tuple[int, ...]], estimates: list[str]) -> int:
    widths = Counter(shape[-1] for shape in shapes.values() if len(shape) == 2)
    guess = widths.most_common(1)[0][0] if widths else 1024
    estimates.append(f"hidden size: not in the configuration, so {guess}, the commonest width of its matrices")
    return guess


def _guess_layers(shapes: Mapping[str, tuple[int, ...]], estimates: list[str]) -> int:
    numbers = {part for name in shapes for part in name.split(".") if part.isdecimal() and len(part) <= 4}
    guess = max((int(number) + 1 for number in numbers), default=1)
    estimates.append(f"layers: not in the configuration, so {guess}, the highest number in a tensor's name")
    return guess
