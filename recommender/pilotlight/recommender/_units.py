"""Bytes as people read them, and the widths of number formats."""

from __future__ import annotations

KIB = 2**10
MIB = 2**20
GIB = 2**30

# safetensors' names; quantised integers are counted by their stored bytes, not by these.
FLOAT_WIDTHS = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
}

# vLLM's names for `dtype` and `kv_cache_dtype`.
ENGINE_WIDTHS = {
    "float32": 4,
    "float": 4,
    "float16": 2,
    "half": 2,
    "bfloat16": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
}

STORED_NAMES = {"F64": "float32", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def human(size: float) -> str:
    """`1.50 GiB`, `512 MiB`, `45.0 KiB`; two significant decimals are enough to check a sum by hand."""
    if abs(size) >= GIB / 10:
        return f"{size / GIB:.2f} GiB"
    if abs(size) >= MIB:
        return f"{size / MIB:.0f} MiB"
    return f"{size / KIB:.1f} KiB"


def ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
