"""Policies: ours is the platform's, Knative's is by its own rules, and an oracle is hard to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pilotlight.detector.policy import decide
from pilotlight.detector.values import Limits, Load, State
from pilotlight.platform.simulate.arrivals.lengths import Same
from pilotlight.platform.simulate.arrivals.synthetic import Synthetic, synthetic
from pilotlight.platform.simulate.arrivals.values import Arrivals
from pilotlight.platform.simulate.errors import SimulationRefused
from pilotlight.platform.simulate.formats import Process
from pilotlight.platform.simulate.measuring import Outcome
from pilotlight.platform.simulate.policies.catalogue import NAMES, find
from pilotlight.platform.simulate.policies.knative import Keys, Kpa
from pilotlight.platform.simulate.policies.ours import Pilotlight
from pilotlight.platform.simulate.policies.public import EnovaPublic, KubeAi

Run = Callable[..., Outcome]


@dataclass
class Scene:
    """A `Sight` whose work changes only between two looks."""

    queued: int = 0
    in_flight: int = 0
    ready: int = 0
    starting: int = 0
    ready_at: float = 0.0
    last_active: float = 0.0
    seconds: float = 0.0
    at: float = 0.0

    def worked(self, now: float) -> float:
        self.seconds += (self.queued + self.in_flight) * (now - self.at)
        self.at = now
        return self.seconds


def test_ours_decides_as_the_platform_does() -> None:
    limits = Limits(maximum=4, slots=2)
    policy, scene = Pilotlight(limits), Scene(queued=5, last_active=10.0)
    state = State(since=0.0)
    for now in (10.0, 11.0, 40.0, 80.0, 200.0, 400.0):
        expected = decide(state, Load(scene.queued, scene.in_flight, scene.last_active), limits, now)
        assert policy.look(scene, now).desired == expected.desired
        state = expected.state
        scene.queued, scene.ready = 0, expected.desired

    assert state.desired == 0


@pytest.mark.parametrize("start", [10.0, 100.0])
@pytest.mark.parametrize("name", ["keepalive-60s", "pilotlight-no-vae"])
def test_looks_that_are_left_out_would_have_changed_little(
    run: Run, name: str, start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = synthetic(Synthetic(Process.GAMMA, rate=0.05, seconds=10_000, seed=3, variation=3.0), Same(100, 60))
    lazily = run(name, arrivals, slots=2, most=4, start={"load": start})
    look = Pilotlight.look

    def every_second(self: Pilotlight, site: Scene, now: float) -> object:
        return look(self, site, now)._replace(again=now + 1.0, quiet=-1)

    monkeypatch.setattr(Pilotlight, "look", every_second)
    eagerly = run(name, arrivals, slots=2, most=4, start={"load": start})

    # Ticks fall up to a second after what they wait for, and some bursts are over by then. A look that is missing
    # altogether changes starts by a quarter.
    assert lazily.starts == pytest.approx(eagerly.starts, rel=0.1)
    assert lazily.slo_attainment == pytest.approx(eagerly.slo_attainment, abs=0.02)
    assert lazily.replica_seconds == pytest.approx(eagerly.replica_seconds, rel=0.05)


def look_every_two_seconds(policy: Kpa, scene: Scene, begin: float, end: float) -> list[int]:
    found = []
    now = begin
    while now < end:
        found.append(policy.look(scene, now).desired)
        now += 2.0
    return found


def test_knative_goes_to_zero_when_its_stable_window_is_empty() -> None:
    policy, scene = Kpa(Keys(target=7.0)), Scene(in_flight=1)
    assert look_every_two_seconds(policy, scene, 0, 10) == [1] * 5
    scene.worked(10.0)
    scene.in_flight, scene.ready = 0, 1
    found = look_every_two_seconds(policy, scene, 10, 80)

    assert found.index(0) == 30  # at 70 s: nothing was in flight since 10 s
    assert not any(found[30:])


def test_knative_keeps_its_last_pod_for_the_retention_period() -> None:
    policy, scene = Kpa(Keys(target=7.0, retention=20.0)), Scene(in_flight=1)
    policy.look(scene, 0.0)
    scene.worked(2.0)
    scene.in_flight, scene.ready = 0, 1

    assert look_every_two_seconds(policy, scene, 2, 100).index(0) == 40  # the window's 60 s, and 20 s more


def test_knative_panics_at_twice_what_it_has_and_takes_nothing_back_for_a_stable_window() -> None:
    policy, scene = Kpa(Keys(target=7.0)), Scene(in_flight=5, ready=1)
    look_every_two_seconds(policy, scene, 0, 60)
    scene.worked(60.0)
    scene.queued = 30  # 35 in hand, five replicas' worth: the panic window of 6 s sees it at once, the stable one later
    panicking = look_every_two_seconds(policy, scene, 60, 68)
    scene.worked(68.0)
    scene.queued, scene.ready = 0, 5
    after = look_every_two_seconds(policy, scene, 68, 140)

    assert panicking == [1, 3, 4, 5]
    assert set(after[: after.index(min(after))]) == {5}
    assert after.index(min(after)) * 2 + 68 > 66 + 60
    assert min(after) == 2  # half of what is ready at most in one step down


def test_knative_counts_anew_after_a_time_at_zero() -> None:
    policy, scene = Kpa(Keys(target=1.0)), Scene(queued=1)
    assert policy.look(scene, 0.0).desired == 1
    scene.worked(1.0)
    scene.queued = 0
    look_every_two_seconds(policy, scene, 2, 70)
    scene.worked(1000.0)
    policy.woken(999.0)
    scene.queued = 3

    assert policy.look(scene, 1000.0).desired == 3


def test_enova_adds_one_after_three_minutes_of_a_long_queue_and_never_goes_to_zero() -> None:
    policy, scene = EnovaPublic(slots=8, most=4), Scene(queued=60, ready=1)
    assert [policy.look(scene, 60.0 * minute).desired for minute in range(5)] == [1, 1, 1, 2, 2]
    scene.queued = 0
    assert [policy.look(scene, 600 + 60.0 * minute).desired for minute in range(8)] == [2, 2, 2, 1, 1, 1, 1, 1]


def test_kubeai_follows_ten_minutes_mean_and_leaves_zero_at_once() -> None:
    policy, scene = KubeAi(most=9, target=10.0), Scene(queued=1)
    assert policy.look(scene, 0.0).desired == 1
    scene.queued, scene.ready, scene.in_flight = 0, 1, 20
    found = [policy.look(scene, 10.0 * step).desired for step in range(1, 62)]
    assert found[28:31] == [1, 1, 2]  # half of the window at twice the target is one replica
    scene.in_flight = 0
    found = [policy.look(scene, 620 + 10.0 * step).desired for step in range(64)]
    assert found[-1] == 0
    assert found.index(0) == 59 + 2  # an empty window, and the third time of 30 s


def test_an_oracle_lets_nobody_wait_and_holds_nothing_that_it_could_get_back(run: Run) -> None:
    arrivals = synthetic(Synthetic(Process.POISSON, rate=0.01, seconds=50_000, seed=1), Same(100, 10))
    oracle, kept = run("oracle", arrivals), run("keepalive-60s", arrivals)

    assert oracle.slo_attainment >= 1 - 2 / oracle.requests  # the first one may come before a start could end
    assert kept.slo_attainment < 0.8
    assert oracle.replica_seconds < kept.replica_seconds


def test_a_learned_keep_alive_pays_for_regular_callers(run: Run) -> None:
    # Called every 400 s: five minutes always end too early, and one call in 14 min is enough to see it.
    def calls() -> Arrivals:
        return synthetic(Synthetic(Process.GAMMA, rate=1 / 400, seconds=200_000, seed=1, variation=0.05), Same(100, 10))

    assert run("keepalive-5m", calls()).slo_attainment < 0.05
    assert run("pilotlight-no-vae", calls()).slo_attainment > 0.95


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("keepalive-5", "did you mean keepalive-5m"),
        ("best", f"there are {', '.join(NAMES)}"),
        ("pilotlight", "needs a trained detector"),
    ],
)
def test_policies_that_are_not_there_are_refused(name: str, said: str) -> None:
    with pytest.raises(SimulationRefused, match=said):
        find([name])
