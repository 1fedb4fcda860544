"""A revision's speed from a setup and what was seen of it."""

import subprocess
import sys

import pytest
from tests.recommender.asking import known_shapes

from pilotlight.recommender.accelerators import builtin
from pilotlight.recommender.performance import Observation, expected, fitted, observe
from pilotlight.recommender.roofline import Setup, itl, ttft

SETUP = Setup(known_shapes()["Qwen/Qwen3-32B"], builtin().find("h100"), prompt=1000, answer=500, tensor_parallel=2)


def seen(batch: float, prompt: float = 1000, factor: float = 1.0) -> Observation:
    return Observation(batch, prompt, factor * (0.02 + 0.0003 * batch), factor * (0.05 + 2e-6 * prompt * batch))


def test_before_a_measurement_it_is_the_roofline() -> None:
    known = expected(SETUP)

    assert known.itl_at(16).value == pytest.approx(itl(SETUP, 16))
    assert known.ttft_at(1000, 16).value == pytest.approx(ttft(SETUP, 1000, 16))


def test_measurements_replace_it() -> None:
    known = fitted([seen(batch) for batch in (1, 4, 16, 64)], SETUP)

    assert known.itl_at(32).value == pytest.approx(0.02 + 0.0003 * 32, rel=0.03)
    assert known.ttft_at(1000, 32).value == pytest.approx(0.05 + 2e-6 * 32_000, rel=0.06)


def test_longer_prompts_and_more_requests_wait_alike_for_a_first_token() -> None:
    known = fitted([seen(batch) for batch in (1, 4, 16, 64)], SETUP)

    assert known.ttft_at(2000, 8) == known.ttft_at(1000, 16)


def test_it_follows_observations_and_takes_what_was_measured() -> None:
    known = expected(SETUP)
    for _ in range(10):
        for batch in (2, 8, 32):
            known = observe(known, seen(batch))
    only_first = observe(known, Observation(8, 1000, ttft=0.07))

    assert known.itl_at(16).value == pytest.approx(0.02 + 0.0003 * 16, rel=0.03)
    assert only_first.itl is known.itl
    assert only_first.ttft is not known.ttft


def test_throughput_is_answers_over_their_time_and_the_bounds_go_with_it() -> None:
    known = fitted([seen(batch) for batch in (1, 4, 16, 64)], SETUP)
    rate = known.throughput(1000, 16)
    whole = known.ttft_at(1000, 16).value + 499 * known.itl_at(16).value

    assert rate.value == pytest.approx(16 * 500 / whole)
    assert rate.low < rate.value < rate.high


def test_neither_torch_nor_an_engine_is_loaded() -> None:
    code = "import sys, pilotlight.recommender.performance; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"torch", "vllm", "scipy", "pandas", "transformers"}.isdisjoint(done.stdout.split())
