"""What a decision rests on, written down so that it can be made again."""

from __future__ import annotations

from pilotlight.detector.values import Health, Inputs, Limits, Load, State


def inputs(state: State, load: Load | None, limits: Limits, now: float, health: Health | None) -> Inputs:
    """Everything that `decide` was given, flat; `replay` reads it."""
    return {
        "queued": load.queued if load else None,
        "in_flight": load.in_flight if load else None,
        "last_active": load.last_active if load else None,
        "now": now,
        "since": state.since,
        "desired": state.desired,
        "alive": state.alive,
        "starting": state.starting,
        "ready_at": state.ready_at,
        "surplus_since": state.surplus_since,
        "surplus_peak": state.surplus_peak,
        "failures": state.back_off.failures,
        "retry_at": state.back_off.retry_at,
        "served": state.back_off.served,
        "decided_at": state.decided_at,
        "raised": state.raised,
        "credit": state.credit,
        "replacing_since": state.replacing_since,
        "changes": state.changes,
        "health": health.value if health else None,
        "minimum": limits.minimum,
        "maximum": limits.maximum,
        "keep_alive_seconds": limits.keep_alive_seconds,
        "slots": limits.slots,
        "target": limits.target,
        "shrink_seconds": limits.shrink_seconds,
        "headroom": limits.headroom,
        "busy_share": limits.busy_share,
        "lead_seconds": limits.lead_seconds,
        "changes_per_minute": limits.changes_per_minute,
        "trouble_share": limits.trouble_share,
        "replace_degraded": limits.replace_degraded,
        "underload_patience": limits.underload_patience,
    }
