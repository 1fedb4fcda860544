"""Deciding again from what a decision recorded: the same inputs must give the same answer."""

from __future__ import annotations

from collections.abc import Mapping

from pilotlight.detector.policy import decide
from pilotlight.detector.values import BackOff, Decision, Health, Limits, Load, State


class ReplayError(ValueError):
    """The inputs are not those of a decision; the message names the first that is missing or no number."""


def replay(inputs: Mapping[str, object]) -> Decision:
    """The decision that `Decision.inputs` led to. Raises ReplayError."""
    return decide(_state(inputs), _load(inputs), _limits(inputs), _float(inputs, "now"), _health(inputs))


def _state(inputs: Mapping[str, object]) -> State:
    return State(
        since=_float(inputs, "since"),
        desired=_int(inputs, "desired"),
        alive=_int(inputs, "alive"),
        starting=_int(inputs, "starting", 0),
        ready_at=_float(inputs, "ready_at", 0),
        surplus_since=_optional(inputs, "surplus_since"),
        surplus_peak=_int(inputs, "surplus_peak"),
        back_off=BackOff(_int(inputs, "failures"), _float(inputs, "retry_at"), served=bool(_int(inputs, "served", 0))),
        decided_at=_optional(inputs, "decided_at"),
        raised=_int(inputs, "raised", 0),
        credit=_float(inputs, "credit", 0),
        replacing_since=_optional(inputs, "replacing_since"),
        changes=_optional(inputs, "changes"),
    )


def _limits(inputs: Mapping[str, object]) -> Limits:
    return Limits(
        minimum=_int(inputs, "minimum"),
        maximum=_int(inputs, "maximum"),
        keep_alive_seconds=_float(inputs, "keep_alive_seconds"),
        slots=_int(inputs, "slots"),
        target=_float(inputs, "target"),
        shrink_seconds=_float(inputs, "shrink_seconds"),
        headroom=_float(inputs, "headroom", 0),
        busy_share=_float(inputs, "busy_share", Limits.busy_share),
        lead_seconds=_float(inputs, "lead_seconds", 0),
        changes_per_minute=_optional(inputs, "changes_per_minute"),
        trouble_share=_float(inputs, "trouble_share", Limits.trouble_share),
        replace_degraded=bool(_int(inputs, "replace_degraded", 0)),
        underload_patience=_float(inputs, "underload_patience", Limits.underload_patience),
    )


def _load(inputs: Mapping[str, object]) -> Load | None:
    if inputs.get("queued") is None:
        return None
    return Load(_int(inputs, "queued"), _int(inputs, "in_flight"), _float(inputs, "last_active"))


def _health(inputs: Mapping[str, object]) -> Health | None:
    value = inputs.get("health")
    if value is None:
        return None
    if not isinstance(value, str) or value not in list(Health):
        raise ReplayError(f"input health: expected one of {', '.join(Health)}, found {value!r}")
    return Health(value)


def _optional(inputs: Mapping[str, object], name: str) -> float | None:
    """None: it was not there, or not recorded yet."""
    return None if inputs.get(name) is None else _float(inputs, name)


def _float(inputs: Mapping[str, object], name: str, missing: float | None = None) -> float:
    """`missing`: for what was not recorded from the beginning."""
    value = inputs.get(name, missing)
    if not isinstance(value, int | float):
        raise ReplayError(f"input {name}: expected a number, found {value!r}")
    return value


def _int(inputs: Mapping[str, object], name: str, missing: int | None = None) -> int:
    return int(_float(inputs, name, missing))
