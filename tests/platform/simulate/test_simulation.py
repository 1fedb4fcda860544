"""The simulation: times that can be worked out by hand, laws of queueing, and what holds whatever comes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.recommender.asking import known_shapes

from pilotlight.platform.simulate.arrivals.lengths import Same
from pilotlight.platform.simulate.arrivals.synthetic import Synthetic, synthetic
from pilotlight.platform.simulate.arrivals.values import Arrivals, Batch
from pilotlight.platform.simulate.errors import SimulationRefused
from pilotlight.platform.simulate.formats import Process
from pilotlight.platform.simulate.measuring import Outcome
from pilotlight.platform.simulate.policies.catalogue import CATALOGUE, NAMES, find
from pilotlight.platform.simulate.policies.values import Setting
from pilotlight.platform.simulate.scenario import Scenario, Target
from pilotlight.platform.simulate.simulation import simulate
from pilotlight.platform.simulate.speed import Linear, Tabulated
from pilotlight.recommender.accelerators import builtin
from pilotlight.recommender.performance import expected
from pilotlight.recommender.roofline import Setup

Run = Callable[..., Outcome]


def trace(requests: list[tuple[float, int]], answer: int = 10, names: int = 1) -> Arrivals:
    """(seconds, function) of each request, of 100 prompt tokens."""
    columns = np.array(requests, dtype=np.float64).reshape(-1, 2)
    places = columns[:, 1].astype(np.int64)
    batch = Batch(columns[:, 0], places, np.full(len(places), 100), np.full(len(places), answer))
    return Arrivals(lambda: iter([batch]), [f"f{place}" for place in range(names)])


def test_a_request_from_zero_waits_for_the_start_and_the_next_one_does_not(run: Run) -> None:
    # Ready at 11, served until 12 (1.1 s less 0.1: ten tokens), kept for 60 s from there, called again before.
    found = run("keepalive-60s", trace([(1.0, 0), (50.0, 0)]))

    assert found.starts == 1
    assert (found.cold_per_1000, found.cold_requests_per_1000) == (500.0, 500.0)
    assert found.starting_seconds == pytest.approx(10.0)
    assert found.serving_seconds == pytest.approx(2 * 1.0)
    assert found.idle_seconds == pytest.approx(50.0 - 12.0)
    assert found.wait_s[99] == pytest.approx(10.0, abs=0.2)
    assert found.slo_attainment == 0.5


def test_an_idle_replica_goes_when_its_keep_alive_is_over(run: Run) -> None:
    # Ready at 10, served until 11, gone at 71; called again at 100 and ready at 110.
    found = run("keepalive-60s", trace([(0.0, 0), (100.0, 0)]))

    assert found.starts == 2
    assert found.idle_seconds == pytest.approx(60.0)


def test_requests_share_a_replica_at_the_pace_of_its_batch() -> None:
    # Alone a token takes 1 s, two at once 2 s each. The first advances 4 tokens alone, both advance 2 in 4 s; so the
    # second (3 tokens after its first, at 2 s, which takes 2 s or one token of both) ends later, once more alone.
    speed = Linear(gap=1e-9, gap_per_request=1.0, first=0.0, first_per_token=0.0)
    scenario = Scenario(speed=speed, slots=2, targets={"interactive": Target(1e9), "batch": Target(1e9)})
    arrivals = trace([(0.0, 0), (4.0, 0)], answer=7)
    found = simulate(arrivals, find(["always-on"])[0], Setting(scenario))

    # 6 tokens each: the first has 2 left at 4 s and ends at 8 s; the second has 4 left there and ends at 12 s.
    assert found.seconds == pytest.approx(12.0, abs=1e-6)
    assert found.serving_seconds == pytest.approx(12.0, abs=1e-6)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_waits_of_one_server_are_those_of_queueing_theory(run: Run, load: float) -> None:
    # M/D/1 with a service of 1 s: P(wait <= t) = (1 - load) exp(load * t) for t <= 1 (Erlang 1909).
    arrivals = synthetic(Synthetic(Process.POISSON, rate=load, seconds=30_000, seed=2), Same(100, 10))
    for wait in (0.0, 0.5, 1.0):
        soon = {"interactive": Target(ttft=wait + 0.1 + 1e-6), "batch": Target(1.0)}
        found = run("always-on", arrivals, slots=1, most=1, targets=soon)
        assert found.slo_attainment == pytest.approx((1 - load) * np.exp(load * wait), abs=0.03)
        assert found.serving_seconds / found.seconds == pytest.approx(load, rel=0.03)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fleet", [None, 3])
def test_every_policy_serves_everything_the_same_way_each_time(run: Run, name: str, fleet: int | None) -> None:
    arrivals = synthetic(
        Synthetic(Process.GAMMA, rate=0.05, seconds=7_200, functions=6, seed=1, variation=3.0), Same(100, 50)
    )
    found = run(name, arrivals, slots=2, most=3, fleet=fleet, spread=0.2)

    assert found.requests == sum(len(batch) for batch in arrivals.read())
    assert found == run(name, arrivals, slots=2, most=3, fleet=fleet, spread=0.2)
    assert min(found.starting_seconds, found.serving_seconds, found.idle_seconds) >= 0
    if fleet is not None:
        assert found.replica_seconds <= fleet * found.seconds * (1 + 1e-9)


requests = st.lists(st.tuples(st.floats(0, 300), st.integers(0, 3)), min_size=1, max_size=40)


@settings(max_examples=60)
@example([(0.0, 0), (21.0, 1)], next(each for each in CATALOGUE if each.name == "always-on"), 2, 1)
@given(requests, st.sampled_from(CATALOGUE), st.none() | st.integers(1, 3), st.integers(1, 3))
def test_whatever_comes_is_served_within_the_fleet(
    coming: list[tuple[float, int]], policy: object, fleet: int | None, slots: int
) -> None:
    named = next(each for each in CATALOGUE if each is policy)
    scenario = Scenario(slots=slots, start={"load": 7.0}, most=3, fleet=fleet)
    found = simulate(trace(sorted(coming), names=4), named, Setting(scenario))

    assert found.requests == len(coming)
    assert 0 <= found.slo_attainment <= 1
    assert found.replica_seconds <= (fleet or 12) * found.seconds * (1 + 1e-9) + 1e-6


def test_the_least_recently_used_function_makes_way(run: Run) -> None:
    # Two places: 0 and 1 take them; 2 takes that of 0, which was used before 1; 1 is still there.
    found = run("lru", trace([(0, 0), (20, 1), (40, 2), (60, 1), (80, 0)], names=3), fleet=2)

    assert found.evictions == 2
    assert found.cold_per_1000 == 1000 * 4 / 5


def test_busy_replicas_never_make_way(run: Run) -> None:
    # One place, taken for 100 s: the other function waits for its end, and then for its own start.
    found = run("lru", trace([(0, 0), (20, 1)], answer=1000, names=2), fleet=1)

    assert found.evictions == 1
    assert found.wait_s[99] == pytest.approx(110 + 10 - 20, rel=0.02)


def test_a_class_is_held_to_its_own_target(run: Run) -> None:
    arrivals = trace([(0, 0), (0, 1)], names=2)
    arrivals.classes["f1"] = "batch"
    found = run("keepalive-60s", arrivals)

    assert found.by_class == {"interactive": 0.0, "batch": 1.0}


def test_no_requests_are_refused(run: Run) -> None:
    with pytest.raises(SimulationRefused, match="no requests"):
        run("kpa", trace([]))


def test_the_recommenders_model_can_be_taken() -> None:
    model = expected(Setup(known_shapes()["Qwen/Qwen3-32B"], builtin().find("h100"), prompt=1024, answer=256))
    table = Tabulated(model, slots=64)

    for batch in (1, 8, 64):
        assert table.itl(batch) == pytest.approx(model.itl_at(batch).value)
        assert table.ttft(1000, batch) == pytest.approx(model.ttft_at(1000, batch).value, rel=0.02)
    found = simulate(trace([(0, 0), (1, 0)]), find(["lru"])[0], Setting(Scenario(speed=table, slots=64)))
    assert found.requests == 2


def test_the_usual_speed_is_the_rooflines() -> None:
    shape = known_shapes()["nvidia/Llama-3.1-8B-Instruct-FP8"]
    model = expected(Setup(shape, builtin().find("h100"), prompt=512, answer=128))

    for batch in (1, 8, 32):
        assert Linear().itl(batch) == pytest.approx(model.itl_at(batch).value, rel=0.03)
        assert Linear().ttft(2000, batch) == pytest.approx(model.ttft_at(2000, batch).value, rel=0.03)
