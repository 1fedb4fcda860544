"""Recommendations: bounds are kept, nothing is told without its reason, and what cannot be is refused with what can."""

import math
import subprocess
import sys
from dataclasses import replace
from functools import cache
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender import (
    Accelerator,
    Constraints,
    DoesNotFit,
    Figure,
    Lengths,
    ModelFacts,
    Observation,
    OptionRefused,
    Performance,
    Recommendation,
    Refusal,
    Slo,
    SloUnreachable,
    Workload,
    WorkloadRefused,
    builtin,
    compare,
    config_facts,
    fitted,
    recommend,
    routing_weights,
    setup_for,
)

GIB = 2**30
H100 = builtin().find("h100")
CHAT = Workload(
    Lengths(((0.0, 10), (0.5, 500), (0.9, 2000), (0.99, 6000), (1.0, 9000))),
    Lengths(((0.0, 1), (0.5, 200), (0.9, 500), (0.99, 900), (1.0, 4000))),
    rate=50.0,
)
HOST = Accelerator("cpu", 16 * GIB, 30e9, {"fp32": 180e9}, "measured", kind="cpu")


def llama(**changes: object) -> ModelFacts:
    return config_facts(
        {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            **changes,
        }
    )


LLAMA = llama()
LARGE = llama(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64)
SMALL = llama(
    hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3
)
EMBEDDER = config_facts(
    {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": 30522,
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
)


def measured(slower: float = 1.0, workload: Workload = CHAT) -> Performance:
    """Latencies that rise by steady steps."""
    seen = [
        Observation(batch, workload.prompt.mean, slower * (0.008 + 1e-4 * batch), slower * (0.05 + 2e-3 * batch))
        for batch in (1, 8, 32, 128)
    ]
    return fitted(seen, setup_for(LLAMA, H100, workload))


@cache
def known() -> Recommendation:
    return recommend(LLAMA, H100, measured(), Slo(ttft=5.0, itl=0.02), CHAT)


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


def test_what_is_given_wins() -> None:
    given_ = Constraints(
        tensor_parallel=2, pipeline_parallel=2, utilization=0.5, context=4096, max_num_seqs=7, step_tokens=1024
    )
    made = recommend(LLAMA, H100, None, Slo(), CHAT, given_)

    names = ("tensor_parallel_size", "pipeline_parallel_size", "max_model_len", "max_num_seqs")
    assert {name: made.options[name] for name in names} == {
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 2,
        "max_model_len": 4096,
        "max_num_seqs": 7,
    }
    assert made.options["max_num_batched_tokens"] == 1024
    assert made.number("gpu_memory_utilization") == pytest.approx(0.5, abs=0.001)
    assert made.number("concurrency") <= 7


def test_more_accelerators_are_taken_where_fewer_do_not_hold_the_model() -> None:
    made = recommend(LARGE, H100)

    assert made.number("tensor_parallel_size") in (2, 4)
    assert made.options["tensor_parallel_size"] == made.number("tensor_parallel_size")


def test_layers_are_spread_over_stages_only_where_no_split_of_a_layer_holds_the_model() -> None:
    huge = llama(hidden_size=16384, intermediate_size=53248, num_hidden_layers=126, num_attention_heads=128)
    made = recommend(huge, H100)

    assert (made.number("tensor_parallel_size"), made.number("pipeline_parallel_size")) == (8, 2)
    assert (made.options["tensor_parallel_size"], made.options["pipeline_parallel_size"]) == (8, 2)
    assert made.plan.total_bytes <= 0.92 * H100.memory_bytes
    assert made["cost_per_million_tokens"].inputs["accelerators"] == 16
    assert "pipeline_parallel_size" not in recommend(LARGE, H100).options


def test_a_replica_takes_no_more_accelerators_than_there_are() -> None:
    l4 = builtin().find("l4")
    wanted = int(recommend(LARGE, l4).plan.request.accelerators)
    assert wanted > 4

    assert recommend(LARGE, replace(l4, count=wanted)).plan.request.accelerators == wanted
    with pytest.raises(DoesNotFit, match="weights") as caught:
        recommend(LARGE, replace(l4, count=wanted - 1))
    assert not any("x l4" in change for change in caught.value.changes)
    with pytest.raises(OptionRefused, match="4 x l4 is asked for, but there are 3"):
        recommend(LLAMA, replace(l4, count=3), constraints=Constraints(tensor_parallel=2, pipeline_parallel=2))


def test_more_accelerators_are_taken_where_fewer_do_not_keep_the_bound() -> None:
    alone, bound = recommend(LLAMA, H100), 0.005

    assert alone.number("tensor_parallel_size") == 1
    assert alone.performance.itl_at(1).value > bound
    assert recommend(LLAMA, H100, slo=Slo(itl=bound)).number("tensor_parallel_size") > 1


@pytest.mark.parametrize("slo", [Slo(itl=1e-4), Slo(ttft=1e-3)])
def test_a_bound_that_physics_forbids_is_refused_with_one_that_can_be_kept(slo: Slo) -> None:
    with pytest.raises(SloUnreachable) as caught:
        recommend(LLAMA, H100, slo=slo, workload=CHAT)
    refusal = caught.value

    assert f"{refusal.reachable:.3g} s or more" in str(refusal)
    reachable = replace(slo, **{refusal.bound: refusal.reachable * 1.001})
    made = recommend(LLAMA, H100, slo=reachable, workload=CHAT)
    assert made.number("concurrency") >= 1
    assert not any("measure it" in note for note in made.notes)


def test_a_bound_that_only_luck_would_keep_is_recommended_for_with_its_doubt() -> None:
    alone = recommend(LLAMA, H100, constraints=Constraints(tensor_parallel=1)).performance.itl_at(1)
    slo = Slo(itl=(alone.low + alone.value) / 2)
    made = recommend(LLAMA, H100, slo=slo, constraints=Constraints(tensor_parallel=1))

    assert made.number("concurrency") == 1
    assert any("itl: one request alone" in note and "measure it" in note for note in made.notes)


def test_a_bound_that_is_out_of_reach_here_names_an_accelerator_that_keeps_it() -> None:
    with pytest.raises(SloUnreachable, match="take 1 x h100-sxm") as caught:
        recommend(
            LLAMA,
            builtin().find("l4"),
            slo=Slo(itl=0.02),
            constraints=Constraints(tensor_parallel=1),
            others=[HOST, H100],
        )

    assert caught.value.changes == ("take 1 x h100-sxm",)


def test_a_model_that_no_number_holds_is_refused_with_the_arithmetic_and_what_holds_it() -> None:
    with pytest.raises(DoesNotFit, match=r"weights .* on each.*take \d x h100-sxm"):
        recommend(LARGE, builtin().find("t4"), constraints=Constraints(tensor_parallel=1), others=[H100])


def test_heads_that_cannot_be_split_so_are_refused() -> None:
    with pytest.raises(OptionRefused, match="3 accelerators cannot split"):
        recommend(LLAMA, H100, constraints=Constraints(tensor_parallel=3))


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0, 1e307])
def test_senseless_bounds_and_rates_are_refused_by_name(value: float) -> None:
    with pytest.raises(WorkloadRefused, match=r"slo\.ttft"):
        Slo(ttft=value)
    with pytest.raises(WorkloadRefused, match=r"slo\.itl"):
        Slo(itl=value)
    with pytest.raises(WorkloadRefused, match="rate"):
        Workload.usual(rate=value)


def test_classes_that_share_an_engine_get_the_tightest_bounds() -> None:
    assert Slo.strictest([Slo(ttft=2, itl=0.2), Slo(itl=0.1), Slo()]) == Slo(ttft=2, itl=0.1)


def test_metrics_that_are_no_numbers_change_nothing() -> None:
    seen = [
        Observation(8, 500, 0.01, 0.1),
        Observation(8, 500, math.nan, math.nan),
        Observation(math.inf, 1, 1.0, -1.0),
    ]
    setup = setup_for(LLAMA, H100, CHAT)
    one, all_ = (recommend(LLAMA, H100, fitted(rows, setup), Slo(itl=0.02), CHAT) for rows in (seen[:1], seen))

    assert one.figures == all_.figures


def test_processors_get_an_engine_of_their_own() -> None:
    made = recommend(SMALL, HOST, workload=CHAT)

    assert made.options["dtype"] == "float32"
    assert made.options["enforce_eager"] is True
    assert "gpu_memory_utilization" not in made.options
    assert made.number("memory_bytes") <= HOST.memory_bytes
    assert made.plan.weight_bytes >= 4 * SMALL.parameters


def test_processors_without_the_memory_are_not_advised_what_only_accelerators_have() -> None:
    with pytest.raises(DoesNotFit) as caught:
        recommend(LARGE, HOST)

    assert "fp8" not in str(caught.value)
    assert "split" not in str(caught.value)


def test_an_embedder_is_sized_by_its_prompts() -> None:
    made = recommend(EMBEDDER, H100, slo=Slo(ttft=0.5), workload=Workload.usual(200))

    assert made.options["runner"] == "pooling"
    assert made.number("kv_cache_memory_bytes") == 0
    assert not {"itl", "max_tokens"} & made.figures.keys()
    assert made.number("tokens_per_second") == pytest.approx(200 * made.number("requests_per_second"))


def test_past_starts_tell_the_next_one() -> None:
    starts = [{"fetch": 10.0, "import": 5.0, "load": 20.0, "warmup": 1.0, "schedule": 1.0}]

    assert recommend(LLAMA, H100, starts=starts).number("start_seconds") == 37.0


def test_unlike_replicas_get_requests_as_they_can_serve_them() -> None:
    fast, slow = (recommend(LLAMA, H100, measured(factor), Slo(itl=0.05), CHAT) for factor in (1.0, 2.0))
    weights = routing_weights({"fast": fast, "slow": slow})

    assert fmean(float(weight.value) for weight in weights.values()) == pytest.approx(0.5)
    ratio = fast.number("requests_per_second") / slow.number("requests_per_second")
    assert float(weights["fast"].value) / float(weights["slow"].value) == pytest.approx(ratio)


def test_a_comparison_has_every_accelerator_in_its_order_and_the_reason_of_each_refusal() -> None:
    accelerators = [HOST, H100, builtin().find("l4")]
    rows = compare(LARGE, accelerators, Slo(itl=0.05))

    assert [row.accelerator for row in rows] == accelerators
    assert isinstance(rows[0], Refusal)
    assert "weights" in str(rows[0].error)
    assert isinstance(rows[1], Recommendation)


def test_recommending_imports_no_engine() -> None:
    script = (
        "import sys, pilotlight.recommender as r, pilotlight.recommender.probing;"
        "assert not {'torch', 'vllm', 'transformers', 'scipy'} & sys.modules.keys()"
    )

    subprocess.run([sys.executable, "-Ic", script], check=True)


tokens = st.lists(st.integers(1, 200_000), min_size=1, max_size=5).map(sorted)
lengths = tokens.map(
    lambda found: Lengths(tuple(((index + 1) / len(found), count) for index, count in enumerate(found)))
)


@given(
    facts=st.sampled_from([LLAMA, LARGE, SMALL, EMBEDDER]),
    accelerator=st.sampled_from([*builtin().entries, HOST]),
    slo=st.builds(Slo, st.none() | st.floats(1e-6, 1e3), st.none() | st.floats(1e-6, 1e3)),
    workload=st.builds(Workload, lengths, lengths, rate=st.none() | st.floats(1e-3, 1e4)),
    constraints=st.builds(
        Constraints,
        context=st.none() | st.integers(1, 200_000),
        max_num_seqs=st.none() | st.integers(1, 2000),
        step_tokens=st.none() | st.integers(16, 16384),
        utilization=st.none() | st.floats(0.01, 1.0),
    ),
)
def test_whatever_is_asked_for_fits_or_is_refused(
    facts: ModelFacts, accelerator: Accelerator, slo: Slo, workload: Workload, constraints: Constraints
) -> None:
    (made,) = compare(facts, [accelerator], slo, workload, constraints)
    if isinstance(made, Refusal):
        assert str(made.error)
        return
    plan = made.plan

    assert 1 <= made.number("concurrency") <= made.number("max_num_seqs")
    assert made.number("max_num_seqs") <= made.number("max_num_batched_tokens")
    assert plan.total_bytes <= plan.limit_bytes <= accelerator.memory_bytes
    assert plan.pool.request_bytes(plan.context) <= made.number("kv_cache_memory_bytes") <= plan.cache_bytes
    assert made.number("requests_per_second") > 0
