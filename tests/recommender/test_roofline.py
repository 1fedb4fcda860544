"""Expected latencies: the datasheet's bounds, the right directions, and no load without an answer."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.recommender.asking import known_shapes

from pilotlight.recommender.accelerators import builtin
from pilotlight.recommender.roofline import Rates, Setup, itl, prefill, step, throughput, ttft

models = st.sampled_from(sorted(known_shapes()))
devices = st.sampled_from([entry.name for entry in builtin().entries])
batches = st.floats(1, 4096)


def setup(model: str = "meta-llama/Llama-3.1-70B", device: str = "h100", **changes: object) -> Setup:
    plain = Setup(
        known_shapes()[model], builtin().find(device), prompt=1024, answer=1024, tensor_parallel=4, resident=64
    )
    return replace(plain, **changes)  # type: ignore[arg-type] # fields of Setup


def ideal(model: str = "meta-llama/Llama-3.1-70B", device: str = "h100", **changes: object) -> Setup:
    """Every rate as on the datasheet, and nothing but reading and computing."""
    rates = Rates(bandwidth=1, attention_bandwidth=1, arithmetic=1, layer=0, expert_layer=0, collective=0, spread=1)
    return setup(model, device, rates=rates, **changes)


def test_one_stream_costs_reading_the_weights_once() -> None:
    whole = 69.5e9 * 2 / 4 / 3.35e12

    assert step(ideal(), 1).weights == pytest.approx(whole, rel=0.01)


def test_the_cache_costs_its_bytes() -> None:
    at_half_of_the_answer = 8 * (1024 + 512) * 80 * 2 * 8 * 128 * 2 / 4 / 3.35e12

    assert step(ideal(), 8).attention == pytest.approx(at_half_of_the_answer)


def test_heads_are_repeated_where_there_are_fewer_than_devices() -> None:
    eight, sixteen = ideal(tensor_parallel=8), ideal(tensor_parallel=16)

    assert step(sixteen, 8).attention == pytest.approx(step(eight, 8).attention)


def test_a_latent_cache_is_not_divided() -> None:
    one, eight = (ideal(model="moonshotai/Kimi-K2.5", tensor_parallel=size) for size in (1, 8))

    assert step(eight, 1).attention == pytest.approx(step(one, 1).attention)


def test_a_batch_touches_more_experts_until_it_touches_all() -> None:
    sparse = ideal(model="MiniMaxAI/MiniMax-M2.5", device="b200")
    shape = sparse.shape
    every = (shape.expert_bytes + shape.dense_bytes + shape.head_bytes) / 4 / 7.7e12

    assert step(sparse, 1).weights < 0.1 * every
    assert step(sparse, 4096).weights <= every
    assert step(replace(sparse, resident=4096), 4096).weights == pytest.approx(every, rel=1e-6)


def test_a_prompt_costs_two_operations_per_active_parameter_and_its_attention() -> None:
    tokens, shape = 4096.0, known_shapes()["meta-llama/Llama-3.1-70B"]
    matrices = 2 * shape.active_parameters * tokens
    attention = 4 * 80 * 8192 * tokens**2 / 2

    assert prefill(ideal(), tokens) == pytest.approx((matrices + attention) / 4 / 989e12)


def test_stages_take_turns_so_each_group_of_requests_has_the_latency_of_its_own_size() -> None:
    one, two = setup(resident=1000), setup(resident=1000, pipeline=2)

    assert itl(two, 64) == itl(one, 32)
    assert throughput(two, 64) == pytest.approx(throughput(one, 32), rel=0.05)
    assert two.devices == 2 * one.devices


@given(models, st.floats(1, 4))
def test_fewer_requests_than_stages_are_as_slow_as_one_alone(model: str, batch: float) -> None:
    assert itl(setup(model, pipeline=4), batch) == itl(setup(model), 1)


def test_where_the_cache_is_full_more_requests_wait_instead_of_running() -> None:
    full = setup().resident

    assert itl(setup(), 2 * full) == itl(setup(), full)
    assert ttft(setup(), 1024, 2 * full) > ttft(setup(), 1024, full) + 0.9 * 1024 * itl(setup(), full)


@given(models, devices, batches, batches)
def test_more_load_is_never_faster(model: str, device: str, one: float, other: float) -> None:
    less, more = sorted((one, other))

    assert itl(setup(model, device), less) <= itl(setup(model, device), more) * (1 + 1e-12)
    assert ttft(setup(model, device), 512, less) <= ttft(setup(model, device), 512, more) * (1 + 1e-12)


@given(models, devices, batches, st.integers(1, 64), st.floats(1, 1e6), st.floats(1, 1e6))
def test_every_setup_has_a_finite_answer(
    model: str, device: str, batch: float, parallel: int, prompt: float, answer: float
) -> None:
    there = setup(model, device, tensor_parallel=parallel, prompt=prompt, answer=answer)

    assert 0 < itl(there, batch) < math.inf
    assert 0 < ttft(there, prompt, batch) < math.inf
    assert 0 < throughput(there, batch) < math.inf


@given(models, batches)
def test_a_device_that_is_better_in_everything_is_faster(model: str, batch: float) -> None:
    assert itl(setup(model, "h100-sxm"), batch) < itl(setup(model, "a100-sxm-80gb"), batch)


def test_the_parts_add_up() -> None:
    parts = step(setup(), 32)

    assert itl(setup(), 32) == parts.overhead + parts.weights + parts.attention + parts.arithmetic + parts.prefill
