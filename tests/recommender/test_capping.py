"""The in-flight cap follows a machine that changes, holds its bounds, and never acts on what it does not know."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotlight.recommender.capping import CapDecision, CapReason, CapState, decide_cap, follow
from pilotlight.recommender.learning import learned
from pilotlight.recommender.performance import Observation, Performance
from pilotlight.recommender.workload import Slo

WINDOW = 5.0
"""Seconds of one observation."""
MOST = 64
Law = Callable[[float, float], float]
"""Seconds by requests in flight and prompt tokens."""


def itl_law(batch: float, prompt: float) -> float:
    return 0.02 + 0.0002 * batch + 2e-7 * batch * prompt


def ttft_law(batch: float, prompt: float) -> float:
    return 0.05 + 1e-4 * prompt + 5e-6 * prompt * batch


@dataclass
class Machine:
    """A replica under more demand than its cap; the test changes it mid-run."""

    slo: Slo
    random: np.random.Generator
    slower: float = 1.0
    prompt: float = 200.0
    demand: float = 48.0
    noise: float = 0.02
    state: CapState = field(default_factory=lambda: CapState(MOST))
    performance: Performance | None = None
    decisions: list[CapDecision] = field(default_factory=list)

    def itl(self) -> float:
        return self.slower * itl_law(min(self.state.cap, self.demand), self.prompt)

    def ttft(self) -> float:
        return self.slower * ttft_law(min(self.state.cap, self.demand), self.prompt)

    def look(self, incident: bool = False) -> None:
        batch = min(float(self.state.cap), self.demand)
        noise = self.random.normal(1, self.noise, 2)
        seen = Observation(batch, self.prompt, self.itl() * float(noise[0]), self.ttft() * float(noise[1]))
        decision, self.performance = follow(self.state, self.performance, [seen], self.slo, MOST, incident=incident)
        self.decisions.append(decision)
        self.state = decision.state

    def looks(self, seconds: float) -> float:
        """Returns for how many seconds together a bound was broken."""
        broken = 0
        for _ in range(round(seconds / WINDOW)):
            broken += self.breaks()
            self.look()
        return broken * WINDOW

    def breaks(self) -> bool:
        itl, ttft = self.slo.itl, self.slo.ttft
        return (itl is not None and self.itl() > itl) or (ttft is not None and self.ttft() > ttft)


def settled(slo: Slo, demand: float = 48.0, seed: int = 7) -> Machine:
    machine = Machine(slo, demand=demand, random=np.random.default_rng(seed))
    machine.looks(120)
    return machine


@settings(max_examples=15)
@given(st.floats(1.2, 3.0), st.integers(0, 2**16))
def test_a_throttled_machine_is_followed_within_thirty_seconds(slower: float, seed: int) -> None:
    machine = settled(Slo(itl=0.08), seed=seed)
    machine.slower = slower

    broken = machine.looks(30)
    later = machine.looks(120)

    assert broken <= 30
    assert later <= 30
    assert machine.itl() <= 0.08 * 1.02


def test_longer_prompts_are_followed_as_well() -> None:
    machine = settled(Slo(itl=0.06, ttft=1.0))
    assert machine.state.cap >= 48
    machine.prompt = 4000.0

    machine.looks(30)

    assert not machine.breaks()
    assert machine.looks(120) <= 10
    assert 8 <= machine.state.cap <= 48


def test_it_grows_again_when_the_machine_recovers() -> None:
    machine = settled(Slo(itl=0.05))
    machine.slower = 1.8
    machine.looks(60)
    low = machine.state.cap
    machine.slower = 1.0
    machine.looks(180)

    assert low <= 30
    assert machine.state.cap >= 40


def test_it_comes_to_rest() -> None:
    machine = settled(Slo(itl=0.035), demand=MOST)
    machine.looks(300)
    caps = {decision.state.cap for decision in machine.decisions[-40:]}

    best = next(cap for cap in range(MOST, 0, -1) if itl_law(cap, 200.0) <= 0.035)
    assert max(caps) <= best
    assert min(caps) >= 0.6 * best


def test_a_cap_that_nobody_uses_is_not_raised() -> None:
    machine = settled(Slo(itl=0.05))
    machine.slower = 1.8
    machine.looks(60)
    low = machine.state.cap
    machine.slower, machine.demand = 1.0, 0.5 * low
    machine.looks(120)

    assert machine.state.cap == low


def test_a_curve_that_is_wrong_lowers_no_cap_below_what_holds_in_flight() -> None:
    wrong: Performance | None = None
    for _ in range(10):
        wrong = learned(wrong, Observation(40.0, 100.0, 0.2, 0.1))
    decision = decide_cap(CapState(40), wrong, Observation(20.0, 100.0, 0.03), Slo(itl=0.05), MOST)

    assert decision.reason is CapReason.LOWERED
    assert decision.state.cap == 20


def test_a_bound_out_of_reach_costs_no_throughput() -> None:
    machine = settled(Slo(itl=0.005))
    machine.looks(120)

    assert machine.state.cap == MOST
    assert machine.decisions[-1].reason is CapReason.UNREACHABLE


def spiked(windows: int) -> Machine:
    """Prompts of 600 tokens, and after a while far longer ones that no cap brings to their first token in time."""
    machine = Machine(Slo(ttft=0.2), np.random.default_rng(11), prompt=600.0, state=CapState(10))
    machine.looks(120)
    machine.prompt = 30_000.0
    machine.looks(windows * WINDOW)
    return machine


def test_one_window_of_long_prompts_moves_no_cap() -> None:
    machine = spiked(1)
    before = machine.decisions[-2].state.cap
    machine.prompt = 600.0
    machine.looks(60)

    best = next(cap for cap in range(MOST, 0, -1) if ttft_law(cap, 600.0) <= 0.2)
    assert 1 < before < MOST
    assert {decision.reason for decision in machine.decisions[-13:]} <= {CapReason.KEPT, CapReason.RAISED}
    assert before <= machine.state.cap <= best


def test_prompts_that_stay_too_long_are_given_up_after_a_few_observations() -> None:
    machine = spiked(6)

    assert CapReason.UNREACHABLE in {decision.reason for decision in machine.decisions[-6:]}


def test_a_bound_is_not_given_up_by_a_single_observation() -> None:
    slow: Performance | None = None
    for turn in range(20):
        slow = learned(slow, Observation(1.0 + turn % 8, 100.0, 0.2, 0.1))
    seen = Observation(8.0, 100.0, 0.2, 0.1)
    first = decide_cap(CapState(10), slow, seen, Slo(itl=0.01), MOST)
    second = decide_cap(first.state, slow, seen, Slo(itl=0.01), MOST)

    at_once = decide_cap(CapState(10, broken=1), slow, seen, Slo(itl=0.01), MOST)

    assert at_once.reason is CapReason.BROKEN
    assert (first.state.cap, first.reason) == (10, CapReason.KEPT)
    assert (second.state.cap, second.reason) == (MOST, CapReason.UNREACHABLE)


def test_a_cut_is_smaller_than_the_cap_however_large_it_is() -> None:
    state = CapState(1000, broken=1)

    assert decide_cap(state, None, Observation(1000.0, 100.0, itl=0.1001), Slo(itl=0.1), 1024).state.cap < 1000


def test_one_broken_observation_changes_nothing() -> None:
    machine = settled(Slo(itl=0.08))
    before = machine.state.cap
    machine.slower = 3.0
    machine.look()
    machine.slower = 1.0
    machine.looks(60)

    assert {decision.state.cap for decision in machine.decisions[-12:]} == {before}


@pytest.mark.parametrize("slower", [0.2, 3.0, 10.0])
def test_nothing_changes_during_an_incident(slower: float) -> None:
    machine = settled(Slo(itl=0.08))
    machine.slower = slower
    before = machine.state.cap
    for _ in range(10):
        machine.look(incident=True)

    assert machine.state.cap == before
    assert machine.decisions[-1].reason is CapReason.INCIDENT


def test_without_a_new_observation_the_cap_stays() -> None:
    assert decide_cap(CapState(7), None, None, Slo(itl=0.1), MOST).state.cap == 7


def test_where_nothing_is_promised_any_more_the_engines_limit_holds() -> None:
    assert decide_cap(CapState(7), None, Observation(4.0, 100.0, 9.0, 9.0), Slo(), MOST).state.cap == MOST


def test_what_still_runs_since_before_a_cut_cuts_no_further() -> None:
    state = CapState(16, broken=1)
    seen = Observation(40.0, 100.0, itl=0.2)

    assert decide_cap(state, None, seen, Slo(itl=0.1), MOST).state == CapState(16, broken=1, prompts=(100.0,))


@settings(max_examples=40)
@given(
    st.lists(
        st.builds(
            Observation,
            st.floats(0.01, 1e4),
            st.just(0.0) | st.floats(1.0, 1e6),
            st.none() | st.floats(1e-7, 1e5),
            st.none() | st.floats(1e-7, 1e5),
        ),
        max_size=12,
    ),
    st.none() | st.floats(1e-4, 100),
    st.none() | st.floats(1e-4, 100),
    st.integers(1, 300),
)
def test_the_cap_stays_between_one_and_the_engines_limit_whatever_is_seen(
    observations: list[Observation], itl: float | None, ttft: float | None, most: int
) -> None:
    start: Performance | None = None
    state, performance = CapState(most), start
    for seen in observations:
        decision, performance = follow(state, performance, [seen], Slo(itl, ttft), most)
        state = decision.state
        assert 1 <= state.cap <= most
        assert decision.sentence


@pytest.mark.parametrize("most", [1, 2, 300])
def test_a_smaller_engine_bounds_an_old_cap(most: int) -> None:
    assert decide_cap(CapState(50), None, None, Slo(itl=0.1), most).state.cap == min(50, most)
