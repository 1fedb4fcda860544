"""Recommendations: bounds are kept, nothing is told without its reason, and what cannot be is refused with what can."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.recommender.asking import CHAT, EMBEDDER, H100, HOST, LARGE, LLAMA, SMALL, known, measured

from pilotlight.recommender import (
    Accelerator,
    Constraints,
    Figure,
    ModelFacts,
    Observation,
    Refusal,
    Slo,
    Workload,
    builtin,
    compare,
    config_facts,
    fitted,
    recommend,
    setup_for,
)


def test_the_bounds_hold_at_the_upper_ends_and_one_more_request_would_break_one() -> None:
    made = known()
    at_once = made.number("concurrency")

    assert made["itl"].high is not None
    assert made["itl"].high <= 0.02
    assert made["ttft"].high is not None
    assert made["ttft"].high <= 5.0
    assert made.performance.itl_at(at_once + 1).high > 0.02


def test_a_latency_that_was_not_measured_is_taken_at_its_value() -> None:
    seen = [Observation(batch, CHAT.prompt.mean, 0.008 + 1e-4 * batch) for batch in (1, 8, 32, 128)]
    slo = Slo(ttft=1.5)
    made = recommend(LLAMA, H100, fitted(seen, setup_for(LLAMA, H100, CHAT)), slo, CHAT)
    guessed = recommend(LLAMA, H100, None, slo, CHAT, Constraints(tensor_parallel=1))

    assert made.number("concurrency") == guessed.number("concurrency")


def test_the_first_token_is_bounded_for_long_prompts_that_come_among_usual_ones() -> None:
    made = recommend(LLAMA, H100, measured(), Slo(ttft=0.5), CHAT)
    usual = made.performance.ttft_at(CHAT.prompt.mean, made.number("concurrency")).value

    assert made["ttft"].inputs["prompt_tokens"] == CHAT.prompt.at(0.95) > 3 * CHAT.prompt.mean
    assert usual < made.number("ttft") < 4 * usual
    assert "TTFT" in made["concurrency"].reason


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_tighter_bound_never_lets_more_in(one: float, other: float) -> None:
    tight, loose = sorted((one, other))
    performance = measured()

    assert (
        recommend(LLAMA, H100, performance, Slo(itl=tight), CHAT).number("concurrency")
        <= recommend(LLAMA, H100, performance, Slo(itl=loose), CHAT).number("concurrency")
    )  # fmt: skip


def test_a_slower_machine_gets_fewer_requests() -> None:
    slo = Slo(itl=0.03)
    usual, slow = (recommend(LLAMA, H100, measured(factor), slo, CHAT) for factor in (1.0, 2.0))

    assert slow.number("concurrency") < usual.number("concurrency")
    assert slow.number("requests_per_second") < usual.number("requests_per_second")


def _width(figure: Figure) -> float:
    assert figure.low is not None
    assert figure.high is not None
    return figure.high / figure.low


def test_measurements_narrow_every_interval() -> None:
    guessed = recommend(LLAMA, H100, None, Slo(itl=0.02), CHAT, Constraints(tensor_parallel=1))

    for name in ("itl", "tokens_per_second", "requests_per_second", "cost_per_million_tokens"):
        wide, narrow = guessed[name], known()[name]
        assert _width(narrow) < _width(wide)
    assert "nothing was measured" in " ".join(guessed.notes)
    assert "nothing was measured" not in " ".join(known().notes)


@pytest.mark.parametrize("facts", [LLAMA, LARGE, SMALL, EMBEDDER], ids=["llama", "large", "small", "embedder"])
@pytest.mark.parametrize("accelerator", [H100, builtin().find("l4"), HOST], ids=["h100", "l4", "cpu"])
@pytest.mark.parametrize("workload", [CHAT, Workload.usual()], ids=["chat", "usual"])
def test_every_figure_is_a_number_within_its_interval_and_has_a_reason(
    facts: ModelFacts, accelerator: Accelerator, workload: Workload
) -> None:
    (made,) = compare(facts, [accelerator], Slo(ttft=600, itl=2), workload)
    if isinstance(made, Refusal):
        assert accelerator is HOST
        assert facts in (LARGE, LLAMA)
    else:
        for figure in made.figures.values():
            assert figure.reason, figure.name
            if not isinstance(figure.value, str):
                assert 0 <= figure.value < math.inf, figure
                low, high = figure.low or figure.value, figure.high or figure.value
                assert low <= figure.value <= high, figure


def test_capacity_is_the_requests_in_flight_by_the_seconds_of_one() -> None:
    made = known()
    at_once = made.number("concurrency")
    answer = CHAT.answer.mean
    seconds = made.performance.ttft_at(CHAT.prompt.mean, at_once).value + (answer - 1) * made.number("itl")

    assert made.number("requests_per_second") == pytest.approx(at_once / seconds)
    assert made.number("tokens_per_second") == pytest.approx(at_once / seconds * answer)


def test_capacity_is_of_these_answers_and_not_of_those_that_were_measured() -> None:
    longer = replace(measured(), answer=5000)

    assert recommend(LLAMA, H100, longer, Slo(ttft=5.0, itl=0.02), CHAT).figures == known().figures


def test_replicas_serve_the_rate_at_four_fifths_of_what_they_could() -> None:
    made = known()
    count, each = made.number("replicas"), made.number("requests_per_second")

    assert count * 0.8 * each >= 50 > (count - 1) * 0.8 * each
    assert made["replicas"].low is not None
    assert made["replicas"].low <= count


def test_a_million_tokens_cost_what_their_time_does() -> None:
    made = known()

    assert H100.price is not None
    seconds = 1e6 / made.number("tokens_per_second")
    assert made.number("cost_per_million_tokens") == pytest.approx(H100.price * seconds / 3600)
    assert made["cost_per_million_tokens"].inputs["source"] == H100.price_source


def test_without_a_price_there_is_no_cost() -> None:
    assert "cost_per_million_tokens" not in recommend(LLAMA, replace(H100, price=None)).figures


def test_the_context_is_made_for_all_but_one_request_in_a_thousand() -> None:
    made = known()

    assert CHAT.together.at(0.999) <= made.number("max_model_len") <= CHAT.together.at(0.999) + 64


def test_a_usual_length_bounds_neither_context_nor_answers() -> None:
    made = recommend(LLAMA, H100, workload=Workload.usual(200, 100))

    assert made.number("max_model_len") == LLAMA.context
    assert "max_tokens" not in made.figures
    assert any("only a usual length" in note for note in made.notes)


def test_where_the_cache_cannot_hold_the_model_s_context_it_is_what_it_can_hold() -> None:
    made = recommend(LLAMA, builtin().find("l4"), constraints=Constraints(tensor_parallel=1))
    plan = made.plan

    assert made.number("max_model_len") < LLAMA.context
    assert plan.pool.request_bytes(plan.context) <= plan.cache_bytes
    assert "KV cache" in made["max_model_len"].reason


def test_answers_get_a_limit_that_one_in_a_hundred_exceeds() -> None:
    assert known().number("max_tokens") == 900


def test_the_engine_s_limit_leaves_room_for_the_cap_to_grow() -> None:
    guessed = recommend(LLAMA, H100, None, Slo(itl=0.02), CHAT, Constraints(tensor_parallel=1))

    assert guessed.number("max_num_seqs") > guessed.number("concurrency")
    assert guessed.performance.itl_at(guessed.number("max_num_seqs") - 8).low <= 0.02


def test_without_bounds_no_more_run_than_raise_the_throughput() -> None:
    made = recommend(SMALL, H100, workload=CHAT)
    most = made.performance.throughput(CHAT.prompt.mean, 1024).value

    assert made.number("concurrency") < 1024
    assert most * 0.97 <= made.number("tokens_per_second") <= most


def test_longer_steps_than_a_bound_allows_are_cut() -> None:
    tight, loose = (recommend(LARGE, H100, None, Slo(itl=itl), CHAT) for itl in (0.04, 10.0))

    assert tight.number("max_num_batched_tokens") < loose.number("max_num_batched_tokens") == 8192
    assert tight.number("max_num_batched_tokens") >= tight.number("max_num_seqs")


@pytest.mark.parametrize("answer", [3, 9, 100])
@pytest.mark.parametrize("itl", [0.04, 0.06, 0.1])
@pytest.mark.parametrize("prompt", [50, 3000])
def test_steps_compute_what_arrives_and_say_whether_they_hold_the_bound(prompt: int, itl: float, answer: int) -> None:
    made = recommend(LARGE, H100, None, Slo(itl=itl), Workload.usual(prompt, answer))
    figure, steps = made.figures["max_num_batched_tokens"], made.number("max_num_batched_tokens")
    told = {name: float(str(value)) for name, value in figure.inputs.items()}

    assert steps >= min(8192, told["tokens_arriving_twice"])
    assert ("more than one bound" in figure.reason) == (steps * told["seconds_per_prompt_token"] > itl)


def test_another_kv_format_has_to_be_asked_for_and_names_its_check() -> None:
    packed = recommend(LLAMA, H100, None, Slo(), CHAT, Constraints(kv_dtype="fp8"))

    assert "kv_cache_dtype" not in known().options
    assert not known().checks
    assert packed.options["kv_cache_dtype"] == "fp8"
    assert len(packed.checks) == 1
    assert "greedy answers" in packed.checks[0]
    assert packed.plan.blocks > 1.9 * known().plan.blocks


def test_a_narrower_dtype_names_its_check() -> None:
    wide = config_facts({"model_type": "llama", "dtype": "float32", **TINY})

    assert not recommend(wide, HOST).checks
    assert "dtype bfloat16" in recommend(wide, HOST, constraints=Constraints(dtype="bfloat16")).checks[0]


TINY: dict[str, object] = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
