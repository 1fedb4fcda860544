"""The production policy, and what it becomes with a fixed keep-alive: the very `decide` that the platform calls."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from pilotlight.detector.keepalive import Gaps, Worth, keep_alive, observe
from pilotlight.detector.policy import decide, needed, patience_seconds
from pilotlight.detector.values import Limits, Load, State
from pilotlight.platform.simulate.policies.values import Setting, Sight, Wish


class Pilotlight:
    """`pilotlight.detector.policy.decide` for one function, looked at as the platform does: at once when a request
    begins to wait, and every second while anything changes."""

    period = 1.0
    eager = True

    def __init__(self, limits: Limits, gaps: Gaps | None = None) -> None:
        """`gaps`: learn the keep-alive from these on."""
        self._limits = limits
        self._gaps = gaps
        self.initial = limits.minimum
        self._state = State(since=0.0, desired=self.initial)
        self._few = _most_for_one(limits)

    def look(self, site: Sight, now: float) -> Wish:
        was = self._state
        state = replace(was, alive=site.ready + site.starting, starting=site.starting, ready_at=site.ready_at)
        load = Load(site.queued, site.in_flight, site.last_active)
        decision = decide(state, load, self._limits, now)
        self._state = decision.state
        return Wish(decision.desired, self._again(site, load, now), self._few if decision.desired == 1 else -1)

    @property
    def idle(self) -> float:
        return self._limits.keep_alive_seconds

    def woken(self, gap: float) -> None:
        if self._gaps is not None and gap > self._gaps.worth.low:
            self._gaps = observe(self._gaps, gap)
            self._limits = replace(self._limits, keep_alive_seconds=keep_alive(self._gaps))

    def _again(self, site: Sight, load: Load, now: float) -> float:
        """When time alone may change the decision."""
        limits, after = self._limits, self._state
        if after.surplus_since is not None:  # a shrink has waited long enough
            when = after.surplus_since + patience_seconds(limits)
        elif after.desired > max(1, limits.minimum, needed(load, limits)):  # a shrink begins to wait
            when = now
        else:
            when = inf
        if not (load.queued or load.in_flight or site.starting) and after.desired > limits.minimum:
            when = min(when, max(site.last_active, site.ready_at) + limits.keep_alive_seconds)
        return max(now + self.period, when)


def _most_for_one(limits: Limits) -> int:
    """Requests in hand that one replica is enough for."""
    work = limits.slots + 1
    while work and needed(Load(work, 0, 0.0), limits) > 1:
        work -= 1
    return work


def demand_limits(setting: Setting, keep_alive_seconds: float, minimum: int = 0) -> Limits:
    """The demand model as it has always been, with a fixed keep-alive."""
    scenario = setting.scenario
    return Limits(minimum, scenario.most, keep_alive_seconds, scenario.slots)


def improved(setting: Setting) -> Pilotlight:
    """All that the policy has without verdicts; the knob is the price of a cold start in idle replica-seconds."""
    scenario = setting.scenario
    worth = Worth() if setting.knob is None else _priced(setting.knob)
    limits = replace(demand_limits(setting, worth.usual), headroom=HEADROOM, lead_seconds=scenario.start_seconds)
    return Pilotlight(limits, Gaps(worth))


HEADROOM = 1.0
"""Standard deviations; see docs/simulator.md for what others cost and gain."""


def _priced(cold: float) -> Worth:
    """Until gaps are known, half the price is kept, as the usual 300 s are half of the usual price."""
    usual = max(1.0, cold / 2)
    return Worth(low=min(60.0, usual), high=max(1800.0, 6 * usual), usual=usual, cold=cold)
