"""What a verdict may add to the replicas that demand asks for, and for how long: it has a credit.

Trouble (overload, degraded) raises by one replica, and keeps what demand would let go. Both cost replica-seconds beyond
demand; they are paid from a credit that grows by a share of those that demand asks for. A detector that always cries
trouble thus costs that share, whatever it is shown.

Where `replace_degraded` says so, the replica that `degraded` adds stands in for another, which goes when it is ready.
"""

from __future__ import annotations

from pilotlight.detector.values import Health, Limits, Reason, State

MOST_CREDIT_SECONDS = 3600.0
"""Replica-seconds: an hour of one replica, however long there was no trouble."""
LONGEST_TICK_SECONDS = 60.0
"""Of a longer time between two decisions nothing is known, so that it earns no more than this."""


def elapsed(state: State, now: float) -> float:
    """Seconds since the last decision; 0 for a clock that went back, and before the first."""
    return 0.0 if state.decided_at is None else max(0.0, now - state.decided_at)


def credit(state: State, limits: Limits, now: float) -> float:
    """Replica-seconds that verdicts may cost now."""
    seconds = elapsed(state, now)
    earned = limits.trouble_share * max(0, state.desired - state.raised) * min(seconds, LONGEST_TICK_SECONDS)
    return min(MOST_CREDIT_SECONDS, state.credit + earned - state.raised * seconds)


def added(
    state: State, demand: int, limits: Limits, health: Health | None, left: float, may_go: bool
) -> tuple[int, Reason, str]:
    """Replicas to add to `demand`, with the reason; an empty sentence changes nothing.

    Args:
        state: Before this decision; `state.desired` has the present extra ones in it.
        demand: Replicas that demand asks for, within the limits.
        limits: The function's.
        health: The verdict; None: there is none.
        left: The credit.
        may_go: The rate of change lets a replica go now.
    """
    if health is None or not health.trouble:
        return 0, Reason.DEMAND, ""
    kept = min(state.desired, limits.maximum) - demand
    if kept > 0 and demand and health is Health.DEGRADED and may_go and _stand_in_is_ready(state):
        sentence = "the revision looks degraded, and a replica has come in the oldest one's place"
        return (kept - 1 if left > 0 else 0), Reason.REPLACE, sentence
    if kept > 0 and left > 0:
        return kept, Reason.VETO, f"the revision looks {_word(health)}; {kept} more than demand asks for stay"
    # A replica that cannot be paid for until it has served would be started for nothing.
    if demand and demand < limits.maximum and left >= limits.lead_seconds + limits.shrink_seconds:
        reason = Reason.DEGRADED if health is Health.DEGRADED else Reason.OVERLOAD
        return 1, reason, f"the revision looks {_word(health)}; one more than demand asks for"
    return 0, Reason.DEMAND, ""


def replacing_since(state: State, limits: Limits, reason: Reason, raised: int, now: float) -> float | None:
    """`State.replacing_since` after a decision with that reason, which has `raised` replicas beyond demand."""
    if not raised or reason is Reason.REPLACE:
        return None
    return now if reason is Reason.DEGRADED and limits.replace_degraded else state.replacing_since


def _stand_in_is_ready(state: State) -> bool:
    asked = state.replacing_since
    return asked is not None and not state.starting and state.alive >= state.desired and state.ready_at > asked


def _word(health: Health) -> str:
    return "degraded" if health is Health.DEGRADED else "overloaded"
