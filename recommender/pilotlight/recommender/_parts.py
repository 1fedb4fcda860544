"""A model's weights summed up by what they are for, how they are stored and how tensor parallelism lays them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil

from pilotlight.recommender import quantization
from pilotlight.recommender._config import Config
from pilotlight.recommender._units import ENGINE_WIDTHS, FLOAT_WIDTHS, STORED_NAMES, ceil_div
from pilotlight.recommender._weights import Kind, Share
from pilotlight.recommender.kinds import kind_of, share_of
from pilotlight.recommender.parameters import weights

_SAFETENSORS_NAMES = {engine: stored for stored, engine in STORED_NAMES.items() if stored != "F64"}


@dataclass(frozen=True)
class Tensor:
    """One tensor as its safetensors header states it."""

    dtype: str  # safetensors' name: F32, BF16, I64, ...
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class WeightPart:
    """Tensors of one kind, storage and share."""

    kind: Kind
    share: Share
    dtype: str  # safetensors' name; from a configuration alone: that, or the quantisation's
    parameters: int
    bytes: int
    buffer: bool = False
    """No parameters, and the engine keeps the stored format."""

    def rank_bytes(self, ranks: int, kv_heads: int, width: int | None) -> int:
        """Bytes on each rank; `width` is that of plain numbers where the engine runs another format than the stored."""
        plain = width is not None and self.dtype in STORED_NAMES and not self.buffer
        size = self.parameters * (width or 0) if plain else self.bytes
        if self.share == "copy" or ranks == 1:
            return size
        if self.share == "heads" and kv_heads:
            return ceil_div(size, kv_heads) * ceil_div(kv_heads, ranks)
        return ceil_div(size, ranks)


def of_tensors(config: Config, tensors: Mapping[str, Tensor]) -> tuple[WeightPart, ...]:
    """Parts of a checkpoint; packed values count as what they unpack to, their scales as no parameters."""
    scheme = quantization.scheme(config)
    return _sum(
        WeightPart(
            kind_of(name), share_of(name), tensor.dtype, _values(name, tensor, scheme), tensor.bytes, _is_buffer(name)
        )
        for name, tensor in tensors.items()
    )


def _is_buffer(name: str) -> bool:
    return name.endswith((".e_score_correction_bias", ".inv_freq"))


def _values(name: str, tensor: Tensor, scheme: quantization.Scheme | None) -> int:
    if _is_buffer(name):
        return 0
    if scheme is None:
        return tensor.bytes // FLOAT_WIDTHS[tensor.dtype] if tensor.dtype in FLOAT_WIDTHS else 0
    if quantization.is_scale(name):
        return 0
    if tensor.dtype in FLOAT_WIDTHS:
        return tensor.bytes // FLOAT_WIDTHS[tensor.dtype]
    return tensor.bytes * 8 // scheme.bits


def of_config(config: Config) -> tuple[WeightPart, ...]:
    """Parts that a checkpoint of this configuration has. Raises `BadConfig`."""
    scheme, (dtype, width) = quantization.scheme(config), _plain_format(config)
    return _sum(
        WeightPart(part.kind, part.share, "F32", 0, 4 * part.values, buffer=True)
        if part.buffer
        else WeightPart(part.kind, part.share, *_stored(part.kind, part.values, dtype, width, scheme))
        for part in weights(config)
        if part.values
    )


def _stored(
    kind: Kind, values: int, dtype: str, width: int, scheme: quantization.Scheme | None
) -> tuple[str, int, int]:
    if scheme is None or kind not in scheme.kinds:
        return dtype, values, values * width
    return scheme.name, values, ceil(values * scheme.value_bytes)


def _plain_format(config: Config) -> tuple[str, int]:
    """What is not quantised, by the configuration's own word; bfloat16 where it is silent."""
    for source in (config, config.get("text_config")):
        named = source.get("dtype", source.get("torch_dtype")) if isinstance(source, Mapping) else None
        if isinstance(named, str) and named in _SAFETENSORS_NAMES:
            return _SAFETENSORS_NAMES[named], ENGINE_WIDTHS[named]
    return "BF16", 2


def _sum(parts: Iterable[WeightPart]) -> tuple[WeightPart, ...]:
    sums: dict[tuple[Kind, Share, str, bool], WeightPart] = {}
    for part in parts:
        key = (part.kind, part.share, part.dtype, part.buffer)
        before = sums.get(key)
        sums[key] = (
            part
            if before is None
            else replace(part, parameters=before.parameters + part.parameters, bytes=before.bytes + part.bytes)
        )
    return tuple(sums.values())
