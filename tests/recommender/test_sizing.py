"""From model, machine and manifest to an engine's configuration, or a refusal with the arithmetic."""

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender import (
    Device,
    DoesNotFit,
    Machine,
    ModelFacts,
    OptionRefused,
    RecommenderError,
    SizingRequest,
    Tensor,
    read_facts,
    size,
)

GIB = 2**30
SMALL = Machine(memory_bytes=20 * GIB, cpus=2)
H100 = "NVIDIA H100 80GB HBM3"
SERVER = Machine(
    memory_bytes=200 * GIB,
    cpus=32,
    devices=(
        Device("GPU-a", H100, 80 * GIB),
        Device("GPU-b", H100, 80 * GIB),
        Device("GPU-c", "NVIDIA L40S", 45 * GIB),
    ),
)
EMBEDDER = ModelFacts(
    architecture="BertModel",
    weight_bytes=90_856_960,
    parameters=22_713_216,
    kv_bytes_per_token=0,
    context=256,
    vocabulary=30_522,
    hidden_size=384,
    layers=6,
    task="embed",
    intermediate_size=1536,
    encoder=True,
)


def generate(memory: float | None = None, **overrides: object) -> SizingRequest:
    return SizingRequest("generate", memory_bytes=int(memory * GIB) if memory else None, overrides=overrides)


def on_gpu(count: int = 1, accelerator: str = "nvidia-h100", **overrides: object) -> SizingRequest:
    return SizingRequest("generate", accelerator=accelerator, count=count, overrides=overrides)


def test_on_processors_the_engine_runs_float32_eagerly_with_a_cache_to_the_byte(smollm2: ModelFacts) -> None:
    sizing = size(smollm2, SMALL, generate())

    assert sizing.options["dtype"] == "float32"
    assert sizing.options["enforce_eager"] is True
    assert sizing.options["kv_cache_memory_bytes"] == (8 * 2048 + 128) * 30 * 2 * 3 * 64 * 4
    assert sizing.options["max_num_seqs"] == sizing.slots == 8
    assert (sizing.context, sizing.device_bytes) == (8192, 0)
    assert "max_model_len" not in sizing.options  # the model's own, which the engine knows best


def test_the_cache_holds_as_many_tokens_as_the_engine_says(smollm2: ModelFacts) -> None:
    """vLLM 0.32 started with 800,000,000 bytes in float32 logs `CPU KV cache size: 17,280 tokens`."""
    reasons = size(smollm2, SMALL, generate(kv_cache_memory_bytes=800_000_000)).reasons

    block = 128  # of which the engine keeps one
    assert any(f"{17_280 - block} tokens of 45.0 KiB" in reason for reason in reasons)


def test_memory_counts_weights_engine_activations_and_cache(smollm2: ModelFacts) -> None:
    sizing = size(smollm2, SMALL, generate())

    cache = sizing.options["kv_cache_memory_bytes"]
    assert isinstance(cache, int)
    assert sizing.memory_bytes > 4 * smollm2.parameters + cache + 2 * GIB
    assert sizing.memory_bytes < 5 * GIB


def test_a_memory_request_is_what_counts_and_is_filled_with_cache(smollm2: ModelFacts) -> None:
    sizing = size(smollm2, SMALL, generate(memory=6))

    assert sizing.memory_bytes == 6 * GIB
    assert sizing.options["kv_cache_memory_bytes"] == pytest.approx(2.7 * GIB, rel=0.05)


def test_a_cache_never_exceeds_what_the_slots_can_use(smollm2: ModelFacts) -> None:
    sizing = size(smollm2, SMALL, generate(memory=16, max_num_seqs=1))

    assert sizing.options["kv_cache_memory_bytes"] == (8192 + 128) * 30 * 2 * 3 * 64 * 4


def test_a_context_is_lowered_to_what_the_cache_holds(smollm2: ModelFacts) -> None:
    sizing = size(smollm2, SMALL, generate(memory=3.4))

    assert 1024 <= sizing.context < 8192
    assert sizing.options["max_model_len"] == sizing.context
    assert any("instead of the model's 8192" in reason for reason in sizing.reasons)


def test_a_given_context_is_never_lowered_but_refused_with_the_arithmetic(smollm2: ModelFacts) -> None:
    with pytest.raises(DoesNotFit) as refusal:
        size(smollm2, SMALL, generate(memory=3.4, max_model_len=8192))

    text = str(refusal.value)
    assert "weights 0.50 GiB + engine 2.70 GiB + activations 54 MiB" in text
    assert "KV cache for one request at 8192 tokens 0.36 GiB" in text
    assert "but resources.memory is 3.40 GiB" in text
    assert refusal.value.available_bytes == int(3.4 * GIB) < refusal.value.needed_bytes


def test_following_the_advice_of_a_refusal_works(smollm2: ModelFacts) -> None:
    with pytest.raises(DoesNotFit) as refusal:
        size(smollm2, SMALL, generate(memory=3.4, max_model_len=8192))

    advised = re.search(r"engine.maxModelLen to at most (\d+)", str(refusal.value))
    assert advised is not None
    assert size(smollm2, SMALL, generate(memory=3.4, max_model_len=int(advised[1]))).context == int(advised[1])
    memory = re.search(r"raise resources.memory to at least (\d+)Mi,", str(refusal.value))
    assert memory is not None
    enough = generate(memory=int(memory[1]) / 1024, max_model_len=8192)
    assert size(smollm2, SMALL, enough).context == 8192


def test_the_overrides_of_the_manifest_win(smollm2: ModelFacts) -> None:
    overrides: dict[str, object] = {
        "dtype": "float16",
        "enforce_eager": False,
        "max_num_batched_tokens": 512,
        "seed": 7,
    }

    sizing = size(smollm2, SMALL, SizingRequest("generate", overrides=overrides))

    assert {name: sizing.options[name] for name in overrides} == overrides


@pytest.mark.parametrize(
    ("dtype", "width"),
    [
        pytest.param("float32", 4, id="float32"),
        pytest.param("bfloat16", 2, id="bfloat16"),
        pytest.param("auto", 2, id="auto follows the stored bfloat16"),
    ],
)
def test_the_number_format_decides_the_cache(smollm2: ModelFacts, dtype: str, width: int) -> None:
    sizing = size(smollm2, SMALL, generate(dtype=dtype))

    assert sizing.options["kv_cache_memory_bytes"] == (8 * 2048 + 128) * 30 * 2 * 3 * 64 * width


def test_a_given_cache_size_is_kept_and_bounds_the_slots(smollm2: ModelFacts) -> None:
    sizing = size(smollm2, SMALL, generate(kv_cache_memory_bytes=400 * 2**20))

    assert sizing.options["kv_cache_memory_bytes"] == 400 * 2**20
    assert sizing.slots == 4


def test_few_tokens_in_a_step_bound_the_slots(smollm2: ModelFacts) -> None:
    assert size(smollm2, SMALL, generate(max_num_batched_tokens=4)).slots == 4


def test_a_step_holds_the_longest_prompt_where_prompts_cannot_be_split(smollm2: ModelFacts) -> None:
    sizing = size(smollm2, SMALL, generate(enable_chunked_prefill=False))

    assert sizing.options["max_num_batched_tokens"] == 8192
    with pytest.raises(OptionRefused, match=r"set it to at least 8192, or engine.maxModelLen to at most 512"):
        size(smollm2, SMALL, generate(enable_chunked_prefill=False, max_num_batched_tokens=512))


def test_an_embedder_needs_no_cache_and_a_step_as_long_as_its_context() -> None:
    sizing = size(replace(EMBEDDER, context=8192), SMALL, SizingRequest("embed"))

    assert sizing.options["runner"] == "pooling"
    assert sizing.options["max_num_batched_tokens"] == 8192
    assert sizing.memory_bytes < 4 * GIB


@pytest.mark.parametrize(
    ("request_", "field", "said"),
    [
        pytest.param(SizingRequest("generate"), "task", "set task: embed", id="an embedder cannot generate"),
        pytest.param(
            SizingRequest("embed", overrides={"max_model_len": 512}),
            "engine.maxModelLen",
            "the model's context is 256",
            id="a longer context than the model's",
        ),
        pytest.param(
            SizingRequest("embed", overrides={"max_num_batched_tokens": 128}),
            "engine.maxNumBatchedTokens",
            "an embedder reads whole prompts, of up to 256 tokens",
            id="a step shorter than a prompt",
        ),
        pytest.param(SizingRequest("embed", cpu=4), "resources.cpu", "has 2 processors", id="more processors"),
        pytest.param(
            SizingRequest("embed", accelerator="nvidia-h100"),
            "resources.accelerator",
            "it has: none",
            id="no accelerator here",
        ),
    ],
)
def test_what_can_never_work_is_refused(request_: SizingRequest, field: str, said: str) -> None:
    with pytest.raises(OptionRefused, match=said) as refusal:
        size(EMBEDDER, SMALL, request_)

    assert refusal.value.field == field


def test_a_model_larger_than_the_machine_is_refused(llama8b: ModelFacts) -> None:
    with pytest.raises(
        DoesNotFit, match=r"weights 29\.\d+ GiB .* but this machine's memory for replicas is 20\.00 GiB"
    ):
        size(llama8b, SMALL, generate())


def test_a_request_larger_than_the_machine_is_refused(smollm2: ModelFacts) -> None:
    with pytest.raises(DoesNotFit, match=r"resources.memory is 64.00 GiB"):
        size(smollm2, SMALL, generate(memory=64))


def test_every_option_is_one_of_vllms(smollm2: ModelFacts, llama8b: ModelFacts) -> None:
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = Path(spec.submodule_search_locations[0]) / "engine" / "arg_utils.py"
    (arguments,) = (
        node
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "EngineArgs"
    )
    known = {ast.unparse(item.target) for item in arguments.body if isinstance(item, ast.AnnAssign)}

    for sizing in (
        size(smollm2, SMALL, generate(memory=3.4)),
        size(EMBEDDER, SMALL, SizingRequest("embed")),
        size(llama8b, SERVER, on_gpu(2, max_model_len=8192)),
    ):
        assert set(sizing.options) <= known


def test_every_choice_gives_its_reason(smollm2: ModelFacts) -> None:
    reasons = " / ".join(size(smollm2, SMALL, generate()).reasons)

    for subject in (
        "float32",
        "context 8192",
        "KV cache",
        "8 requests at once",
        "weights 0.50 GiB",
        "2 of 2 processors",
    ):
        assert subject in reasons


def test_a_guess_about_the_model_shows_among_the_reasons() -> None:
    tensors = {"blocks.0.weight": Tensor("BF16", (512, 512), 512 * 512 * 2)}
    facts = read_facts({"architectures": ["NovelForCausalLM"]}, tensors)

    assert set(facts.estimates) <= set(size(facts, SMALL, generate()).reasons)


def test_on_a_gpu_the_share_is_by_bytes_so_that_others_fit_beside(llama8b: ModelFacts) -> None:
    sizing = size(llama8b, SERVER, on_gpu(max_model_len=8192))

    assert sizing.options["kv_cache_memory_bytes"] == (64 * 2048 + 16) * 128 * 1024
    assert sizing.options["gpu_memory_utilization"] == pytest.approx(sizing.device_bytes / (80 * GIB), abs=1e-4)
    assert sizing.device_bytes < 40 * GIB  # two on one device
    assert sizing.devices == ("GPU-a", "GPU-b")
    assert "dtype" not in sizing.options


def test_a_given_utilization_is_filled(llama8b: ModelFacts) -> None:
    sizing = size(llama8b, SERVER, on_gpu(gpu_memory_utilization=0.9, max_num_seqs=256))

    assert sizing.device_bytes == int(80 * GIB * 0.9)
    assert sizing.options["gpu_memory_utilization"] == 0.9
    assert sizing.slots == 256


def test_several_devices_share_weights_and_cache(llama8b: ModelFacts) -> None:
    one, two = (size(llama8b, SERVER, on_gpu(count, max_model_len=8192)) for count in (1, 2))

    assert two.options["tensor_parallel_size"] == 2
    assert "tensor_parallel_size" not in one.options
    assert two.device_bytes < one.device_bytes


def test_heads_fewer_than_devices_are_repeated_not_split(
    llama: Callable[..., tuple[dict[str, object], dict[str, Tensor]]],
) -> None:
    facts = read_facts(*llama(num_attention_heads=8, hidden_size=512, num_key_value_heads=1))

    one, two = (size(facts, SERVER, on_gpu(count)) for count in (1, 2))

    assert one.options["kv_cache_memory_bytes"] == two.options["kv_cache_memory_bytes"]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        pytest.param(on_gpu(accelerator="nvidia-b200"), "it has: NVIDIA H100 80GB HBM3, NVIDIA L40S", id="no such one"),
        pytest.param(on_gpu(count=3), "has 2 x NVIDIA H100", id="too few"),
        pytest.param(on_gpu(tensor_parallel_size=2), "resources.count is 1", id="parallel size beside the count"),
    ],
)
def test_devices_that_are_not_there_are_refused(llama8b: ModelFacts, request_: SizingRequest, said: str) -> None:
    with pytest.raises(OptionRefused, match=said):
        size(llama8b, SERVER, request_)


def test_heads_that_do_not_divide_are_refused(smollm2: ModelFacts) -> None:
    with pytest.raises(OptionRefused, match="9 attention heads"):
        size(smollm2, SERVER, on_gpu(2))


def test_a_model_too_large_for_a_device_is_refused_by_name(
    llama: Callable[..., tuple[dict[str, object], dict[str, Tensor]]],
) -> None:
    large = read_facts(
        *llama(
            hidden_size=8192,
            intermediate_size=28672,
            num_hidden_layers=80,
            num_attention_heads=64,
            num_key_value_heads=8,
            vocab_size=128256,
            tie_word_embeddings=False,
        )
    )

    with pytest.raises(DoesNotFit, match="92% of a NVIDIA H100"):
        size(large, SERVER, on_gpu())


@given(
    memory=st.none() | st.floats(0.1, 40),
    length=st.none() | st.integers(1, 8192),
    sequences=st.none() | st.integers(1, 512),
    cache=st.none() | st.integers(0, 8 * GIB),
    dtype=st.sampled_from(["float32", "bfloat16", "auto"]),
    accelerator=st.booleans(),
)
def test_a_sizing_never_promises_more_than_there_is(
    smollm2: ModelFacts,
    memory: float | None,
    length: int | None,
    sequences: int | None,
    cache: int | None,
    dtype: str,
    accelerator: bool,
) -> None:
    overrides = {
        "max_model_len": length,
        "max_num_seqs": sequences,
        "kv_cache_memory_bytes": cache,
        "dtype": dtype,
    }
    request = SizingRequest(
        "generate",
        memory_bytes=int(memory * GIB) if memory else None,
        accelerator="h100" if accelerator else None,
        overrides={name: value for name, value in overrides.items() if value is not None},
    )
    try:
        sizing = size(smollm2, SERVER, request)
    except RecommenderError:
        return

    kv = sizing.options["kv_cache_memory_bytes"]
    width = 4 if dtype == "float32" else 2
    block = 16 if accelerator else 128
    assert isinstance(kv, int)
    # vLLM's own check at start: one request of the longest kind fits, beside the block that it keeps.
    assert (-(-sizing.context // block) + 1) * block * 11520 * width <= kv
    assert sizing.slots >= 1
    assert sizing.context == length or (length is None and sizing.context >= 1024)
    assert sizing.memory_bytes <= SERVER.memory_bytes
    assert sizing.device_bytes <= 80 * GIB
