"""Quantised weights and caches: what they take, told by the configuration or by the tensors' own names.

Sources: the formats' reference implementations as Hugging Face's `quantization_config` names them (GPTQ, AWQ,
fp8, compressed-tensors, ModelOpt, bitsandbytes) and the OCP Microscaling specification 1.0 for MXFP4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pilotlight.recommender._config import Config, number, section
from pilotlight.recommender._weights import Kind

# Bits of two cached values by vLLM's `kv_cache_dtype`; NVFP4 has a scale of 8 bits for every 16 values.
_PAIR_BITS = {
    "float32": 64, "float": 64, "float16": 32, "half": 32, "bfloat16": 32,
    "fp8": 16, "fp8_e4m3": 16, "fp8_e5m2": 16, "nvfp4": 9,
}  # fmt: skip
_SCALES = re.compile(
    r"(?:qzeros|scales?|scale_inv|g_idx|zero_point|absmax|weight_shape|input_scale|weight_scale_\d|quant_map"
    r"|quant_state\.\w+|perm)$"
)
_QUANTISED: frozenset[Kind] = frozenset({"attention", "mlp", "experts", "state_space"})


@dataclass(frozen=True)
class Scheme:
    """How weights are packed: bits of a value, and of the scales that go with each."""

    name: str
    bits: int
    overhead: float = 0.0  # bits of scales and zero points for each value
    kinds: frozenset[Kind] = _QUANTISED
    floating: bool = True

    @property
    def value_bytes(self) -> float:
        return (self.bits + self.overhead) / 8

    @property
    def arithmetic(self) -> str:
        """The number format of products; 4-bit integers are unpacked to 16 bits before they are multiplied."""
        if self.bits == 4 and self.floating:
            return "fp4"
        if self.bits != 8:
            return "bf16"
        return "fp8" if self.floating else "int8"


def scheme(config: Config) -> Scheme | None:
    """None for weights that are not quantised; a method that nobody described counts as 8 bits."""
    found = section(config, "quantization_config") or section(config, "compression_config")
    if found is None:
        return None
    method = str(found.get("quant_method", found.get("quant_algo", "unknown"))).lower()
    bits, overhead = _bits(found, method)
    skipped = str(found.get("modules_to_not_convert", "")) + str(found.get("ignore", ""))
    kinds = _QUANTISED - ({"attention"} if "self_attn" in skipped and "layers.*" in skipped else set())
    return Scheme(method, bits, overhead, kinds, _floating(found, method))


def _floating(found: Config, method: str) -> bool:
    """Whether packed values are floating-point numbers: by the method's name, else by the kind of a group's weights."""
    if method == "compressed-tensors":
        groups = (section(found, "config_groups") or {}).values()
        kinds = [(section(group, "weights") or {}).get("type") for group in groups if isinstance(group, Mapping)]
        return "float" in kinds
    return method not in ("gptq", "awq", "gptq_marlin", "awq_marlin", "bitsandbytes")


def _bits(found: Config, method: str) -> tuple[int, float]:
    algorithm = str(found.get("quant_algo", method)).upper()
    if method == "mxfp4":
        return 4, 8 / 32
    if "NVFP4" in algorithm or "FP4" in str(found.get("format", "")).upper():
        return 4, 8 / 16
    if method in ("gptq", "awq", "gptq_marlin", "awq_marlin"):
        bits, group = number(found, "bits") or number(found, "w_bit") or 4, number(found, "group_size") or 128
        return bits, (16 + bits) / group
    if method == "bitsandbytes":
        return (4, 8 / 64) if found.get("load_in_4bit") else (8, 0.0)
    if method == "compressed-tensors":
        return _compressed(found)
    return number(found, "bits") or 8, 0.0


def _compressed(found: Config) -> tuple[int, float]:
    groups = section(found, "config_groups") or {}
    for group in groups.values():
        weights = section(group, "weights") if isinstance(group, Mapping) else None
        if weights and number(weights, "num_bits"):
            size = number(weights, "group_size")
            return number(weights, "num_bits") or 8, 16 / size if size else 0.0
    return 8, 0.0


def is_scale(name: str) -> bool:
    """A tensor that belongs to another one's values: no parameter of its own."""
    return _SCALES.search(name) is not None


CACHE_FORMATS = ("auto", *_PAIR_BITS)
"""vLLM's names for `kv_cache_dtype`, as far as their bytes are known."""


def pair_bits(dtype: str, width: int) -> int:
    """Bits of two cached values: `auto` follows the model's number format of `width` bytes."""
    return _PAIR_BITS.get(dtype, 16 * width)
