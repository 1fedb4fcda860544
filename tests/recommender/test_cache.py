"""The pool of blocks: vLLM's own figures, and the laws that hold for every model."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.recommender.cache import CacheLayer, Geometry, make_pool, read_cache

FULL = CacheLayer("full", 2, 64)
SLIDING = CacheLayer("sliding", 2, 64, 256)
LATENT = CacheLayer("latent", 1, 96)
STATE = CacheLayer("state", convolution=900, recurrent=4096)
MAMBA = CacheLayer("state", convolution=3 * 256, recurrent=256 * 16)
MAMBA2 = CacheLayer("state", convolution=3 * 288, recurrent=256 * 16, checkpoints=1)
CPU = Geometry(block=128, pair_bits=64, state_bytes=4, recurrent_bytes=4, step=512)
SIZE = 16 * 2**20 + 12_345


@pytest.mark.parametrize(
    ("layers", "geometry", "blocks", "tokens"),
    [
        # What vLLM 0.32 logged on a processor for models of these layers, 2,048 tokens of context and SIZE bytes.
        pytest.param([FULL] * 4, CPU, 64, 8192, id="Llama"),
        pytest.param([SLIDING] * 4, CPU, 64, 18_724, id="Mistral: every layer with a window"),
        pytest.param([SLIDING, FULL] * 2, CPU, 128, 11_397, id="Gemma 2: every other layer"),
        pytest.param([CacheLayer("chunked", 2, 64, 256)] * 3 + [FULL], CPU, 256, 15_420, id="Llama 4: chunks"),
        pytest.param([MAMBA, FULL] * 2, CPU, 128, 14_563, id="Jamba: a sequence keeps two states"),
        pytest.param([MAMBA2, FULL] * 4, CPU, 64, 6898, id="Falcon-H1: a sequence keeps three"),
        pytest.param([MAMBA2] * 4, CPU, 211, 432_128, id="Mamba 2 alone: one"),
        pytest.param([LATENT] * 3, Geometry(16, pair_bits=64, step=512), 910, 14_560, id="DeepSeek-V2"),
    ],
)
def test_blocks_and_tokens_are_those_that_the_engine_logged(
    layers: list[CacheLayer], geometry: Geometry, blocks: int, tokens: int
) -> None:
    pool = make_pool(layers, geometry)

    assert (pool.blocks(SIZE), pool.log_tokens(SIZE, 2048)) == (blocks, tokens)


@pytest.mark.parametrize(
    ("ranks", "block_bytes"),
    [pytest.param(1, 2 * 16 * 2 * 64 * 2, id="both heads"), pytest.param(2, 2 * 16 * 64 * 2, id="one head each"),
     pytest.param(8, 2 * 16 * 64 * 2, id="a head is repeated, never split")],
)  # fmt: skip
def test_heads_are_split_over_ranks_and_repeated_where_there_are_fewer(ranks: int, block_bytes: int) -> None:
    assert make_pool([FULL] * 2, Geometry(16, ranks=ranks)).block_bytes == block_bytes


def test_a_latent_is_on_every_rank() -> None:
    assert make_pool([LATENT], Geometry(16, ranks=8)) == make_pool([LATENT], Geometry(16))


@pytest.mark.parametrize(
    ("pair_bits", "expected"),
    [pytest.param(32, 1.0, id="bfloat16"), pytest.param(16, 0.5, id="fp8"), pytest.param(9, 9 / 32, id="nvfp4")],
)
def test_the_cached_format_scales_a_block(pair_bits: int, expected: float) -> None:
    plain = make_pool([FULL], Geometry(16)).block_bytes

    assert make_pool([FULL], Geometry(16, pair_bits=pair_bits)).block_bytes == plain * expected


def test_attention_pages_grow_until_a_state_fits_into_one() -> None:
    pool = make_pool([STATE, STATE, FULL], Geometry(16))

    assert {group.block for group in pool.groups if group.layer.kind == "full"} == {48}  # 3 x 16 x 256 bytes >= 9,992
    assert pool.block_bytes == 48 * 256
    assert len(pool.groups) == 3


def test_a_state_takes_one_block_however_long_the_request() -> None:
    pool = make_pool([STATE] * 4, Geometry(16))

    assert pool.request_blocks(1) == pool.request_blocks(10**6) == 1
    assert pool.token_bytes == 0


def test_without_cached_prefixes_a_sequence_keeps_one_state_beside_attention() -> None:
    with_prefixes, without = (make_pool([MAMBA2, FULL], Geometry(16, prefix_caching=on)) for on in (True, False))

    assert with_prefixes.request_blocks(1) - without.request_blocks(1) == 2


def test_a_chunk_holds_what_it_sees_and_what_is_in_flight() -> None:
    chunked = CacheLayer("chunked", 2, 64, 8192)

    assert make_pool([chunked], Geometry(16, step=2048)).request_blocks(10**6) == (8192 + 2048) // 16


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        pytest.param({"model_type": "gemma2", "sliding_window": 64}, "sfsf", id="Gemma 2 alternates"),
        pytest.param({"model_type": "gemma3_text", "sliding_window": 64}, "ssss", id="Gemma 3: one full of six"),
        pytest.param({"model_type": "cohere2", "sliding_window": 64}, "sssf", id="Command-R7B: one full of four"),
        pytest.param({"model_type": "mistral", "sliding_window": 64}, "ssss", id="Mistral v0.1"),
        pytest.param({"model_type": "mistral", "sliding_window": None}, "ffff", id="Mistral v0.3"),
        pytest.param({"model_type": "qwen2", "sliding_window": 64}, "ffff", id="Qwen 2 does not use its window"),
        pytest.param(
            {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True, "max_window_layers": 3}, "fffs",
            id="Qwen 2 with windows in the last layers",
        ),
        pytest.param({"model_type": "llama4_text"}, "cccf", id="Llama 4: chunks"),
        pytest.param(
            {"model_type": "llama", "layer_types": ["full_attention", "sliding_attention"] * 2, "sliding_window": 8},
            "fsfs", id="named layers",
        ),
    ],
)  # fmt: skip
def test_layers_are_read_as_configurations_say_them(config: dict[str, Any], kinds: str) -> None:
    sizes = {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 128}

    assert "".join(layer.kind[0] for layer in read_cache(config | sizes)) == kinds


def test_attention_and_state_space_side_by_side_keep_both() -> None:
    config = {
        "model_type": "falcon_h1", "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 128,
        "mamba_d_ssm": 256, "mamba_n_heads": 8, "mamba_d_state": 16, "mamba_n_groups": 1, "mamba_d_conv": 4,
    }  # fmt: skip

    layers = read_cache(config)

    assert [layer.kind for layer in layers] == ["state", "full"] * 2
    assert (layers[0].convolution, layers[0].recurrent) == (3 * (256 + 2 * 16), 256 * 16)


layers = st.lists(
    st.sampled_from([FULL, SLIDING, LATENT, STATE, CacheLayer("chunked", 2, 64, 512)]), min_size=1, max_size=12
)
tokens = st.integers(1, 100_000)


@given(layers, tokens, tokens)
def test_longer_requests_never_hold_less(kept: list[CacheLayer], one: int, other: int) -> None:
    pool = make_pool(kept, Geometry(16))

    assert pool.request_bytes(min(one, other)) <= pool.request_bytes(max(one, other))


@given(layers, tokens, st.integers(0, 2**34))
def test_the_longest_request_fits_and_one_more_token_does_not(kept: list[CacheLayer], limit: int, size: int) -> None:
    pool = make_pool(kept, Geometry(16))

    longest = pool.longest(size, limit)

    assert 0 <= longest <= limit
    assert not longest or pool.request_bytes(longest) <= size
    assert longest == limit or pool.request_bytes(longest + 1) > size


@given(layers, tokens, st.integers(0, 2**34), st.integers(0, 2**30))
def test_more_memory_never_holds_fewer_sequences(kept: list[CacheLayer], length: int, size: int, more: int) -> None:
    pool = make_pool(kept, Geometry(16))

    assert pool.sequences(size, length) <= pool.sequences(size + more, length)


@given(layers, st.sampled_from([1, 2, 4, 8]))
def test_every_layer_is_in_one_group_and_a_block_is_as_wide_as_the_widest(kept: list[CacheLayer], ranks: int) -> None:
    pool = make_pool(kept, Geometry(16, ranks=ranks))

    assert sum(group.layers for group in pool.groups) == len(kept)
    assert pool.block_bytes % max(group.layers for group in pool.groups) == 0
    assert pool.block_bytes <= make_pool(kept, Geometry(16)).block_bytes
