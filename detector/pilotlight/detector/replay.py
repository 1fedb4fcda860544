"""Deciding again from what a decision recorded: the same inputs must give the same answer."""

from __future__ import annotations

from collections.abc import Mapping

from pilotlight.detector.policy import decide
from pilotlight.detector.values import BackOff, Decision, Limits, Load, State


class ReplayError(ValueError):
    """The inputs are not those of a decision; the message names the first that is missing or no number."""


def replay(inputs: Mapping[str, object]) -> Decision:
    """The decision that `Decision.inputs` led to. Raises ReplayError."""
    state = State(
        since=_float(inputs, "since"),
        desired=_int(inputs, "desired"),
        alive=_int(inputs, "alive"),
        starting=_int(inputs, "starting", 0),
        ready_at=_float(inputs, "ready_at", 0),
        surplus_since=None if inputs.get("surplus_since") is None else _float(inputs, "surplus_since"),
        surplus_peak=_int(inputs, "surplus_peak"),
        back_off=BackOff(_int(inputs, "failures"), _float(inputs, "retry_at"), served=bool(_int(inputs, "served", 0))),
    )
    limits = Limits(
        minimum=_int(inputs, "minimum"),
        maximum=_int(inputs, "maximum"),
        keep_alive_seconds=_float(inputs, "keep_alive_seconds"),
        slots=_int(inputs, "slots"),
        target=_float(inputs, "target"),
        shrink_seconds=_float(inputs, "shrink_seconds"),
    )
    return decide(state, _load(inputs), limits, _float(inputs, "now"))


def _load(inputs: Mapping[str, object]) -> Load | None:
    if inputs.get("queued") is None:
        return None
    return Load(_int(inputs, "queued"), _int(inputs, "in_flight"), _float(inputs, "last_active"))


def _float(inputs: Mapping[str, object], name: str, missing: float | None = None) -> float:
    """`missing`: for what was not recorded from the beginning."""
    value = inputs.get(name, missing)
    if not isinstance(value, int | float):
        raise ReplayError(f"input {name}: expected a number, found {value!r}")
    return value


def _int(inputs: Mapping[str, object], name: str, missing: int | None = None) -> int:
    return int(_float(inputs, name, missing))
