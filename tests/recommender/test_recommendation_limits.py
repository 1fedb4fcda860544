"""What is given wins, and what cannot be is refused with what can."""

import math
import subprocess
import sys
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.recommender.asking import CHAT, EMBEDDER, H100, HOST, LARGE, LLAMA, SMALL, llama, measured

from pilotlight.recommender import (
    Accelerator,
    Constraints,
    DoesNotFit,
    Lengths,
    ModelFacts,
    Observation,
    OptionRefused,
    Recommendation,
    Refusal,
    Slo,
    SloUnreachable,
    Workload,
    WorkloadRefused,
    builtin,
    compare,
    fitted,
    recommend,
    routing_weights,
    setup_for,
)


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
