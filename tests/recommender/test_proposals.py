"""Settings are proposed where what is set is surely wrong, and left alone everywhere else."""

import re

import numpy as np
import pytest

from pilotlight.recommender._kv import SHORTEST_CONTEXT
from pilotlight.recommender.learning import learned
from pilotlight.recommender.lengths import TAIL
from pilotlight.recommender.performance import Observation, Performance
from pilotlight.recommender.proposals import LEAST_REQUESTS, Evidence, Proposal, Settings, propose
from pilotlight.recommender.sketches import RequestLengths, Served
from pilotlight.recommender.workload import Slo

PROMPT = 200.0
LOADS = (2.0, 8.0, 16.0, 32.0, 60.0)


def itl(batch: float) -> float:
    return 0.02 + 0.0005 * batch


def watched(count: int = 60, loads: tuple[float, ...] = LOADS) -> Performance:
    """Older ones count less, so 60 weigh as 45. ITL is 45 ms (what 50 ms promised allow) at 50 in flight."""
    random = np.random.default_rng(3)
    performance: Performance | None = None
    for turn in range(count):
        batch, noise = loads[turn % len(loads)], random.normal(1, 0.02, 2)
        seen = Observation(batch, PROMPT, itl(batch) * float(noise[0]), (0.1 + 1e-6 * PROMPT * batch) * float(noise[1]))
        performance = learned(performance, seen)
    assert performance is not None
    return performance


def requests(count: int, prompt: int = 100, answer: int = 50, asked: int = 0) -> RequestLengths:
    random = np.random.default_rng(5)
    pairs = zip(random.integers(1, prompt, count), random.integers(1, answer, count), strict=True)
    return RequestLengths().plus(Served(int(one), int(other), asked) for one, other in pairs)


def only(proposals: tuple[Proposal, ...]) -> Proposal:
    [proposal] = proposals
    return proposal


def test_more_requests_at_once_are_proposed_where_the_promise_holds_them() -> None:
    evidence = Evidence(watched(), prompt=PROMPT, busiest=24.0)
    found = only(propose(Settings(24, 2048), evidence, Slo(itl=0.05, ttft=2.0)))

    assert (found.option, found.now) == ("engine.maxNumSeqs", 24)
    assert 31 <= found.proposed <= 48
    assert found.low <= found.proposed <= found.high
    assert "ITL" in found.reason
    assert "from 45 observations" in found.reason


def test_fewer_are_proposed_where_the_promise_cannot_hold_them() -> None:
    found = only(propose(Settings(256, 2048), Evidence(watched(), prompt=PROMPT), Slo(itl=0.05)))

    assert found.proposed == pytest.approx(50, rel=0.15)
    assert found.low <= 50 <= found.high < 205


@pytest.mark.parametrize(
    ("seqs", "evidence", "slo"),
    [
        (50, Evidence(watched(), prompt=PROMPT, busiest=50.0), Slo(itl=0.05)),
        (24, Evidence(watched(), prompt=PROMPT, busiest=5.0), Slo(itl=0.05)),
        (256, Evidence(watched(5), prompt=PROMPT, busiest=60.0), Slo(itl=0.05)),
        (256, Evidence(watched(60, (1.0, 1.2)), prompt=PROMPT, busiest=1.2), Slo(itl=0.05)),
        (256, Evidence(watched(), prompt=PROMPT, busiest=60.0), Slo()),
        (256, Evidence(watched(), prompt=PROMPT, busiest=60.0), Slo(itl=0.001)),
        (256, Evidence(None, prompt=PROMPT, busiest=60.0), Slo(itl=0.05)),
        (256, Evidence(watched(), prompt=0.0, busiest=60.0), Slo(ttft=0.05)),
    ],
    ids=["right", "nobody asks", "too little", "never that busy", "no bound", "out of reach", "nothing", "no prompt"],
)
def test_the_batch_is_left_alone(seqs: int, evidence: Evidence, slo: Slo) -> None:
    assert propose(Settings(seqs, 2048), evidence, slo) == ()


def test_a_context_that_nobody_uses_is_proposed_shorter() -> None:
    found = only(propose(Settings(16, 32_768), Evidence(lengths=requests(5000, prompt=2000)), Slo()))

    assert (found.option, found.proposed % 64) == ("engine.maxModelLen", 0)
    assert 1.25 * 2000 <= found.proposed <= 1.25 * 2050 * 1.02 + 64
    assert re.findall(r"had at most (\d+) tokens", found.reason) == [
        f"{requests(5000, prompt=2000).total.at(TAIL):.0f}"
    ]


def test_no_context_is_proposed_that_refuses_what_requests_ask_for() -> None:
    found = only(propose(Settings(16, 32_768), Evidence(lengths=requests(5000, asked=4096)), Slo()))

    assert found.proposed >= 1.25 * 4096
    assert propose(Settings(16, 5000), Evidence(lengths=requests(5000, asked=4096)), Slo()) == ()


def test_no_context_is_proposed_that_is_shorter_than_recommendations_have_it() -> None:
    assert only(propose(Settings(16, 32_768), Evidence(lengths=requests(5000)), Slo())).proposed == SHORTEST_CONTEXT


@pytest.mark.parametrize(
    ("settings", "lengths"),
    [
        (Settings(16, 32_768), requests(LEAST_REQUESTS - 1)),
        (Settings(16, 1200), requests(5000)),
        (Settings(16, 2048), RequestLengths()),
    ],
    ids=["too few", "right", "none"],
)
def test_lengths_are_left_alone(settings: Settings, lengths: RequestLengths) -> None:
    assert propose(settings, Evidence(lengths=lengths), Slo()) == ()
