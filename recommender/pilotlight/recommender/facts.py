"""What sizing needs to know of a model, read from its `config.json` and its safetensors headers.

Decoders (llama, qwen, mistral, gemma, phi and whatever else uses Hugging Face's generic keys) and encoder embedders
(BERT's family) are read exactly. Anything else gets a bounded estimate from its tensors, and says so in `estimates`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pilotlight.recommender._units import FLOAT_WIDTHS, STORED_NAMES
from pilotlight.recommender.consistency import check

_ALIASES = {  # GPT-2's and its descendants' names
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "hidden_dim"),
}
# The keys vLLM 0.32 takes a model's length from (ModelArchitectureConfig), with sentence-transformers' own first.
_LENGTH_KEYS = (
    "max_seq_length",
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "seq_len",
)
# Rope types whose factor is already inside max_position_embeddings (vLLM 0.32, config/model.py).
_SCALED_ROPES = frozenset({"default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"})
_ENCODER_TYPES = frozenset(
    {"bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "nomic_bert", "modernbert", "camembert", "electra"}
)
_DEFAULT_CONTEXT = 2048  # vLLM's, where a configuration names no length
_LARGEST = 2**31  # of any number in a configuration: a tokenizer's "no limit" (1e30) must not become a size


@dataclass(frozen=True)
class Tensor:
    """One tensor as its safetensors header states it."""

    dtype: str  # safetensors' name: F32, BF16, I64, ...
    shape: tuple[int, ...]
    bytes: int


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


def read_facts(config: Mapping[str, object], tensors: Mapping[str, Tensor]) -> ModelFacts:
    """Read a model's numbers.

    Args:
        config: `config.json`; a `max_seq_length` (sentence-transformers' limit) may be merged in.
        tensors: Every tensor by name.

    Raises:
        ModelMismatch: The tensors contradict the configuration: shapes, layers, vocabulary, a missing output head.
    """
    text = _text_config(config)
    quantized = "quantization_config" in config
    architecture = _architecture(config)
    encoder = str(text.get("model_type", "")) in _ENCODER_TYPES
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    check(text, shapes, quantized=quantized, decoder=architecture.endswith("ForCausalLM"))
    estimates: list[str] = []
    dtype, width = _stored_format(tensors)
    hidden = _number(text, "hidden_size") or _guess_hidden(shapes, estimates)
    layers = _number(text, "num_hidden_layers") or _guess_layers(shapes, estimates)
    kv_heads, values = (0, 0) if encoder else _kv_values(text, hidden, layers, estimates)
    return ModelFacts(
        architecture=architecture,
        weight_bytes=sum(tensor.bytes for tensor in tensors.values()),
        parameters=_parameters(config, tensors, quantized=quantized),
        kv_bytes_per_token=values * width,
        context=_context(text, estimates),
        vocabulary=_number(text, "vocab_size") or 0,
        hidden_size=hidden,
        layers=layers,
        task="embed" if encoder or _is_pooler(architecture) else "generate",
        kv_values_per_token=values,
        kv_heads=kv_heads,
        heads=_number(text, "num_attention_heads") or 0,
        intermediate_size=_number(text, "intermediate_size") or 4 * hidden,
        dtype=dtype,
        quantized=quantized,
        encoder=encoder,
        estimates=tuple(estimates),
    )


def _text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """The language model's part: multimodal configurations nest it."""
    nested = config.get("text_config")
    return {**config, **nested} if isinstance(nested, Mapping) else config


def _architecture(config: Mapping[str, object]) -> str:
    names = config.get("architectures")
    if isinstance(names, list | tuple) and names:
        return str(names[0])
    return str(config.get("model_type", "unknown"))


def _is_pooler(architecture: str) -> bool:
    """Without a language model's head; GPT-2's name ends alike but has one."""
    return architecture.endswith(("Model", "ForMaskedLM")) and not architecture.endswith("LMHeadModel")


def _number(config: Mapping[str, object], key: str) -> int | None:
    for name in _ALIASES.get(key, (key,)):
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST:
            return value
    return None


def _stored_format(tensors: Mapping[str, Tensor]) -> tuple[str, int]:
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        if tensor.dtype in STORED_NAMES:
            sizes[tensor.dtype] += tensor.bytes
    if not sizes:
        return "bfloat16", 2
    name = sizes.most_common(1)[0][0]
    return STORED_NAMES[name], min(FLOAT_WIDTHS[name], 4)


def _parameters(config: Mapping[str, object], tensors: Mapping[str, Tensor], *, quantized: bool) -> int:
    plain = sum(
        tensor.bytes // FLOAT_WIDTHS[tensor.dtype] for tensor in tensors.values() if tensor.dtype in FLOAT_WIDTHS
    )
    if not quantized:
        return plain
    scheme = config.get("quantization_config")
    bits = scheme.get("bits", 8) if isinstance(scheme, Mapping) else 8
    packed = sum(tensor.bytes for tensor in tensors.values() if tensor.dtype not in FLOAT_WIDTHS)
    return plain + packed * 8 // (bits if isinstance(bits, int) and bits > 0 else 8)


def _kv_values(text: Mapping[str, object], hidden: int, layers: int, estimates: list[str]) -> tuple[int, int]:
    """KV heads and cached values per token over all layers.

    Sliding-window layers count in full: an upper bound, and true wherever the engine's hybrid cache manager is off.
    """
    latent, rope = _number(text, "kv_lora_rank"), _number(text, "qk_rope_head_dim")
    if latent and rope:  # multi-head latent attention keeps one latent per layer, whatever the heads
        return 1, layers * (latent + rope)
    heads = _number(text, "num_attention_heads")
    attending = _attending_layers(text, layers)
    if heads is None:
        estimates.append("KV cache: the configuration names no attention heads, so every layer counts as full width")
        return 1, attending * 2 * hidden
    kv_heads = _number(text, "num_key_value_heads") or (1 if text.get("multi_query") is True else heads)
    head_size = _number(text, "head_dim") or max(1, hidden // heads)
    return kv_heads, attending * 2 * kv_heads * head_size


def _attending_layers(text: Mapping[str, object], layers: int) -> int:
    kinds = text.get("layer_types")
    if isinstance(kinds, list | tuple) and len(kinds) == layers:
        return sum(str(kind) not in ("linear_attention", "mamba", "conv") for kind in kinds)
    return layers


def _context(text: Mapping[str, object], estimates: list[str]) -> int:
    lengths = [length for key in _LENGTH_KEYS if (length := _number(text, key))]
    if not lengths:
        estimates.append(f"context: the configuration names no length, so {_DEFAULT_CONTEXT} tokens as vLLM assumes")
        return _DEFAULT_CONTEXT
    context = min(lengths)
    if str(text.get("model_type", "")) in ("roberta", "xlm-roberta", "camembert") and not _number(
        text, "max_seq_length"
    ):
        # These count positions from the padding token's number onwards.
        padding = text.get("pad_token_id", 1)
        context -= (padding if isinstance(padding, int) else 1) + 1
    return max(1, _scaled(text, context))


def _scaled(text: Mapping[str, object], context: int) -> int:
    rope = text.get("rope_scaling") or text.get("rope_parameters")
    if not isinstance(rope, Mapping) or "gemma3" in str(text.get("model_type", "")):
        return context
    kind = str(rope.get("rope_type", rope.get("type", "default")))
    if kind == "longrope":
        return _number(text, "original_max_position_embeddings") or context
    factor = rope.get("factor")
    if kind in _SCALED_ROPES or not isinstance(factor, int | float) or not 0 < factor <= _LARGEST:
        return context
    return min(_LARGEST, int(context * factor))


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
