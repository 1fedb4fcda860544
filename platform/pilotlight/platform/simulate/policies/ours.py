"""The production policy, and what it becomes with a fixed keep-alive: the very `decide` that the platform calls."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from sys import maxsize

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
        # A start that goes on is looked at when it ends; of what is too many, starts go first.
        goes_on = site.starting and after.desired > site.ready
        if not (load.queued or load.in_flight or goes_on) and after.desired > limits.minimum:
            when = min(when, max(site.last_active, site.ready_at) + limits.keep_alive_seconds)
        return max(now + self.period, when)


def _most_for_one(limits: Limits) -> int:
    """Requests in hand that one replica is enough for, or all there can be."""
    if limits.maximum == 1:
        return maxsize
    work = limits.slots + 1
    while work and needed(Load(work, 0, 0.0), limits) > 1:
        work -= 1
    return work


TARGET, HEADROOM, PATIENCE_SECONDS = 0.7, 1.0, 20.0
"""The demand model's settings: of those tried on three days of ServeGen's small model, the ones that gave more in time,
and no more cold starts, than others at the same cost. Patience as long as a start cost more than it gained."""
USUAL_SECONDS, USUAL_PRICE = 300.0, 800.0
"""The keep-alive before gaps are known, and what a cold start is worth, replica-seconds."""


def demand_limits(setting: Setting, keep_alive_seconds: float, minimum: int = 0) -> Limits:
    """The demand model with a fixed keep-alive."""
    scenario = setting.scenario
    return Limits(
        minimum,
        scenario.most,
        keep_alive_seconds,
        scenario.slots,
        target=TARGET,
        headroom=HEADROOM,
        shrink_seconds=PATIENCE_SECONDS,
    )


def learning(setting: Setting, busy_share: float = 1.0) -> Pilotlight:
    """The demand model with a keep-alive that is learned from half to four times the usual one; both scale with the
    price of a cold start, which is the knob. `busy_share`: backpressure beside it."""
    price = USUAL_PRICE if setting.knob is None else setting.knob
    usual = USUAL_SECONDS * price / USUAL_PRICE
    worth = Worth(low=usual / 2, high=4 * usual, usual=usual, cold=price)
    limits = replace(demand_limits(setting, usual), busy_share=busy_share)
    return Pilotlight(limits, Gaps(worth))
