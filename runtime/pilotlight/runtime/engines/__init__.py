"""Kinds of engine by name."""

from __future__ import annotations

from pilotlight.runtime.engines.protocol import BadEngineSpecError, Engine

KINDS = ("vllm", "simulated")


def engine_of(kind: str) -> Engine:
    """Raises BadEngineSpecError."""
    if kind == "vllm":
        from pilotlight.runtime.engines.vllm import VllmEngine

        return VllmEngine()
    if kind == "simulated":
        from pilotlight.runtime.engines.simulated import SimulatedEngine

        return SimulatedEngine()
    raise BadEngineSpecError(f"engine kind {kind!r} is unknown: expected one of {', '.join(KINDS)}")
