"""A memory plan: what fits, what is refused with its arithmetic, and that every advised change works."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender import (
    BadConfig,
    Device,
    DoesNotFit,
    Lengths,
    MemoryPlan,
    MemoryRequest,
    ModelFacts,
    OptionRefused,
    Tensor,
    config_facts,
    plan_memory,
)
from pilotlight.recommender.lora import read_adapter, slots_bytes
from pilotlight.recommender.memory import resident
from pilotlight.recommender.shape import known_configs

GIB = 2**30
H100 = Device("0", "H100", 80 * GIB)
H200 = Device("1", "H200", 141 * GIB)
L4 = Device("2", "L4", 24 * GIB)
CHAT = Lengths(((0.5, 800), (0.9, 3000), (0.99, 9000)))


def _llama(hidden: int, inner: int, layers: int, heads: int, **more: Any) -> ModelFacts:
    return config_facts(
        {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": 128256,
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            **more,
        }
    )


SMALL = _llama(4096, 14336, 32, 32)
LARGE = _llama(8192, 28672, 80, 64)


def test_a_plan_adds_up() -> None:
    plan = plan_memory(SMALL, H100)

    assert plan.total_bytes == plan.limit_bytes == int(80 * GIB * 0.92)
    assert plan.weight_bytes == SMALL.weight_bytes
    assert (plan.context, plan.request.ranks) == (131072, 1)
    assert plan.blocks == plan.cache_bytes // (16 * 128 * 1024)
    assert plan.tokens == plan.blocks * 16
    for part in (
        "weights 14.96 GiB",
        "CUDA context",
        "activations",
        "graphs",
        "KV cache",
        "of 73.60 GiB on each of 1 x",
    ):
        assert part in str(plan)


def test_a_refusal_shows_its_arithmetic_and_the_nearest_changes_first() -> None:
    with pytest.raises(DoesNotFit) as refusal:
        plan_memory(SMALL, L4, others=(H200, H100))

    error = refusal.value
    assert "KV cache for one request at 131072 tokens 16.00 GiB" in str(error)
    assert "but 92% of 1 x L4 is 22.08 GiB" in str(error)
    assert [change.split()[0] for change in error.changes] == ["lower", "split", "take"]
    assert error.changes[1:] == ("split the model over 2 x L4", "take 1 x H100")
    assert error.needed_bytes > error.available_bytes


def _follow(change: str, request: MemoryRequest) -> tuple[Device, MemoryRequest]:
    devices = {device.name: device for device in (H100, H200, L4)}
    if shorter := re.fullmatch(r"lower the context to (\d+) tokens", change):
        return L4, replace(request, context=int(shorter[1]))
    if change == "store the KV cache as fp8":
        return L4, replace(request, kv_dtype="fp8")
    found = re.fullmatch(r"(?:split the model over|take) (\d+) x (\w+)", change)
    assert found is not None
    return devices[found[2]], replace(request, ranks=int(found[1]))


@pytest.mark.parametrize(
    ("model", "request_"),
    [
        pytest.param(SMALL, MemoryRequest(), id="8B at its whole context"),
        pytest.param(SMALL, MemoryRequest(context=50_000), id="8B where an fp8 cache is enough"),
        pytest.param(LARGE, MemoryRequest(context=8192), id="70B"),
        pytest.param(LARGE, MemoryRequest(context=131072, dtype="float32"), id="70B in 32 bits: nothing alone helps"),
    ],
)
def test_every_advised_change_alone_fits(model: ModelFacts, request_: MemoryRequest) -> None:
    with pytest.raises(DoesNotFit) as refusal:
        plan_memory(model, L4, request_, (H100, H200))

    assert refusal.value.changes
    for change in refusal.value.changes:
        assert plan_memory(model, *_follow(change, request_)).sequences >= 1


@pytest.mark.parametrize(("model", "context"), [(SMALL, 131072), (LARGE, 8192)])
def test_no_more_accelerators_are_advised_than_there_are(model: ModelFacts, context: int) -> None:
    def advised(count: int | None) -> list[str]:
        with pytest.raises(DoesNotFit) as refusal:
            plan_memory(model, L4, MemoryRequest(context=context, count=count), (H100,))
        return [change for change in refusal.value.changes if change.endswith("x L4")]

    assert advised(None) == advised(8) != []
    assert advised(1) == []


def test_an_fp8_cache_is_advised_where_it_is_enough() -> None:
    with pytest.raises(DoesNotFit) as refusal:
        plan_memory(SMALL, L4, MemoryRequest(context=50_000))

    assert "store the KV cache as fp8" in refusal.value.changes


def test_without_any_change_that_helps_the_advice_is_another_model() -> None:
    with pytest.raises(DoesNotFit, match="take a smaller model or a larger accelerator") as refusal:
        plan_memory(LARGE, Device("3", "toy", GIB))

    assert refusal.value.changes == ()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        pytest.param(MemoryRequest(ranks=3), "3 accelerators cannot split", id="heads that do not divide"),
        pytest.param(MemoryRequest(context=10**6), "more than the model's 131072", id="a longer context"),
    ],
)
def test_what_no_memory_makes_possible_is_refused(request_: MemoryRequest, said: str) -> None:
    with pytest.raises(OptionRefused, match=said):
        plan_memory(SMALL, H100, request_)


def test_sequences_follow_the_lengths_of_requests() -> None:
    longest = plan_memory(SMALL, H100)
    chat = plan_memory(SMALL, H100, MemoryRequest(lengths=CHAT))

    assert longest.sequences == 3  # requests of 131,072 tokens in 55 GiB of 128 KiB each
    assert 150 < chat.sequences <= 256
    assert plan_memory(SMALL, H100, MemoryRequest(lengths=CHAT, sequences=8)).sequences == 8


def test_requests_of_one_length_fit_as_often_as_the_pool_divides() -> None:
    plan = plan_memory(SMALL, L4, MemoryRequest(context=8192, lengths=Lengths(((1.0, 1000),))))

    assert plan.sequences == (plan.blocks - 1) // 63


def test_an_embedder_is_bounded_by_its_slots_alone() -> None:
    model = config_facts(
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

    plan = plan_memory(model, L4, MemoryRequest(task="embed", sequences=64))

    assert (plan.cache_bytes, plan.blocks, plan.tokens, plan.sequences) == (0, 0, 0, 64)


def test_a_mixtures_step_holds_every_chosen_experts_values() -> None:
    sizes = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    mixture, single = (
        _llama(4096, 14336, 32, 32, **sizes),
        _llama(4096, 14336, 32, 32, **sizes | {"num_experts_per_tok": 1}),
    )

    def activations(model: ModelFacts) -> int:
        plan = plan_memory(model, Device("4", "large", 400 * GIB), MemoryRequest(step_tokens=8192, context=4096))
        return next(part.bytes for part in plan.parts if part.name == "activations")

    assert activations(mixture) - activations(single) == 8192 * (2 * 14336 + 4096) * 2


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 131072), st.integers(1, 131072))
def test_a_longer_context_never_holds_more_sequences(ranks: int, one: int, other: int) -> None:
    plans = [plan_memory(SMALL, H100, MemoryRequest(ranks=ranks, context=length)) for length in sorted((one, other))]

    assert plans[0].sequences >= plans[1].sequences
    assert plans[0].cache_bytes == plans[1].cache_bytes


@given(st.integers(1, 400), st.integers(1, 400))
def test_more_memory_is_never_worse(one: int, other: int) -> None:
    def sequences(gib: int) -> int:
        try:
            return plan_memory(
                SMALL, Device("0", "any", gib * GIB), MemoryRequest(lengths=CHAT, context=16384)
            ).sequences
        except DoesNotFit:
            return 0

    # From 70 GiB on a step is four times as long, and its peak with it.
    low, high = sorted((one, other))
    assert sequences(low) <= sequences(high) or low < 70 <= high


@given(st.sampled_from([1, 2, 4, 8]))
def test_ranks_share_weights_and_cache_between_them(ranks: int) -> None:
    plan: MemoryPlan = plan_memory(SMALL, H100, MemoryRequest(ranks=ranks))

    assert SMALL.weight_bytes <= ranks * plan.weight_bytes <= SMALL.weight_bytes * 1.01
    assert plan.pool.block_bytes * ranks == 16 * 128 * 1024


@pytest.mark.parametrize("quantiles", [(), ((0.9, 10), (0.5, 20)), ((0.5, 20), (0.9, 10)), ((0.5, 0),), ((1.5, 3),)])
def test_quantiles_that_do_not_rise_are_refused(quantiles: tuple[tuple[float, int], ...]) -> None:
    with pytest.raises(ValueError, match=r"quantiles|shares"):
        Lengths(quantiles)


def test_quantiles_are_interpolated() -> None:
    assert [CHAT.at(share) for share in (0.0, 0.5, 0.7, 0.9, 1.0)] == pytest.approx([800, 800, 1900, 3000, 9000])


def test_adapters_take_both_matrices_of_every_layer() -> None:
    one = slots_bytes(SMALL, 1, 16, 2)
    query = output = 4096 + 4096
    key = value = 4096 + 1024
    gate = up = down = 4096 + 14336

    assert one == 32 * 16 * 2 * (query + key + value + output + gate + up + down)
    assert slots_bytes(SMALL, 4, 16, 2) == slots_bytes(SMALL, 1, 64, 2) == 4 * one
    assert one / 2 < slots_bytes(SMALL, 1, 16, 2, ranks=2) < one


def test_adapters_are_part_of_the_plan() -> None:
    plain, served = (plan_memory(SMALL, H100, MemoryRequest(adapters=count, adapter_rank=64)) for count in (0, 4))

    assert plain.cache_bytes - served.cache_bytes == slots_bytes(SMALL, 4, 64, 2)


def _adapter(rank: int) -> dict[str, Tensor]:
    base = "base_model.model.model.layers.0.self_attn.q_proj"
    return {
        f"{base}.lora_A.weight": Tensor("F32", (rank, 4096), rank * 4096 * 4),
        f"{base}.lora_B.weight": Tensor("F32", (4096, rank), rank * 4096 * 4),
    }


def test_an_adapter_is_read() -> None:
    facts = read_adapter({"r": 8, "peft_type": "LORA"}, _adapter(8))

    assert (facts.rank, facts.parameters, facts.bytes) == (8, 2 * 8 * 4096, 2 * 8 * 4096 * 4)


@pytest.mark.parametrize(
    ("config", "tensors", "said"),
    [
        pytest.param({}, _adapter(8), "r is missing", id="no rank"),
        pytest.param({"r": 8}, {}, "no LoRA adapter", id="no matrices"),
        pytest.param({"r": 4}, _adapter(8), "a matrix has rank 8", id="a higher rank"),
    ],
)
def test_what_is_no_adapter_is_refused(config: dict[str, Any], tensors: dict[str, Tensor], said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        read_adapter(config, tensors)


def test_as_many_requests_are_resident_as_the_pool_has_blocks_for() -> None:
    request = MemoryRequest()
    plan = plan_memory(SMALL, H100, request)

    assert resident(SMALL, H100, request, 1024) == (plan.blocks - 1) / plan.pool.request_blocks(1024)


def test_where_weights_leave_no_room_none_is_resident() -> None:
    assert resident(SMALL, replace(H100, memory_bytes=2**30), MemoryRequest(), 1024) == 0


def test_experts_may_be_spread_wider_than_the_rest() -> None:
    facts = config_facts(known_configs()["Qwen/Qwen3-235B-A22B-FP8"])
    rest = sum(part.rank_bytes(4, facts.kv_heads, None) for part in facts.parts if part.kind != "experts")
    experts = facts.parameters_by_kind["experts"] * 2

    assert facts.rank_weight_bytes(4, expert_ranks=16) == rest + experts // 16


def test_a_stage_holds_its_layers_and_the_tables_of_the_ends() -> None:
    kinds = SMALL.parameters_by_kind
    tables = 2 * (kinds["embedding"] + kinds["lm_head"])
    layers = SMALL.rank_weight_bytes(1) - tables

    assert SMALL.rank_weight_bytes(1, stages=4) == tables + layers // 4
    assert SMALL.rank_weight_bytes(1, stages=3) == tables + -(-layers * 11 // 32)


def test_every_stage_caches_its_own_layers() -> None:
    whole, half = (plan_memory(SMALL, H100, MemoryRequest(stages=stages)) for stages in (1, 2))

    assert half.pool.token_bytes == whole.pool.token_bytes / 2
    assert half.tokens > 2 * whole.tokens
    assert "on each of 2 x H100" in str(half)


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(OptionRefused, match="33 stages cannot share the model's 32 layers"):
        plan_memory(SMALL, H100, MemoryRequest(stages=33))
