"""Parameters by kind, counted from a configuration, equal those of transformers' model of it."""

from collections import Counter
from typing import Any

import pytest

from pilotlight.recommender import BadConfig, config_facts, count_parameters
from pilotlight.recommender._config import text_config
from pilotlight.recommender._defaults import NESTED
from pilotlight.recommender.kinds import kind_of, share_of
from pilotlight.recommender.parameters import estimated, rank_parameters

Config = dict[str, Any]


def dims(kind: str, *sizes: int, **more: object) -> Config:
    """A decoder's usual keys: vocabulary, hidden, feed-forward, layers, heads and key-value heads."""
    keys = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
    )
    return {"model_type": kind, **dict(zip(keys, sizes, strict=False)), **more}


def gpt(kind: str, vocabulary: int, hidden: int, layers: int, heads: int, **more: object) -> Config:
    return {
        "model_type": kind,
        "vocab_size": vocabulary,
        "n_embd": hidden,
        "n_layer": layers,
        "n_head": heads,
        **more,
    }


def encoder(kind: str, vocabulary: int, hidden: int, layers: int, positions: int = 512, **more: object) -> Config:
    heads = hidden // 64
    return dims(kind, vocabulary, hidden, 4 * hidden, layers, heads, max_position_embeddings=positions, **more)


_QWEN_VISION = {"depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_channels": 3, "hidden_size": 1536}
_SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "image_size": 896,
    "patch_size": 14,
    "vision_use_head": False,
}
_CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
    "vocab_size": 32000,
}
_MLA = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}

# As published: config.json's own dimensions, and what it says beside them that changes a count.
PUBLISHED: dict[str, Config] = {
    "SmolLM2-135M": dims("llama", 49152, 576, 1536, 30, 9, 3, tie_word_embeddings=True),
    "Llama-2-7B": dims("llama", 32000, 4096, 11008, 32, 32),
    "Llama-3.1-8B": dims("llama", 128256, 4096, 14336, 32, 32, 8),
    "Llama-3.2-1B": dims("llama", 128256, 2048, 8192, 16, 32, 8, head_dim=64, tie_word_embeddings=True),
    "Llama-3.1-70B": dims("llama", 128256, 8192, 28672, 80, 64, 8),
    "Mistral-7B": dims("mistral", 32000, 4096, 14336, 32, 32, 8, sliding_window=4096),
    "Mistral-Nemo": dims("mistral", 131072, 5120, 14336, 40, 32, 8, head_dim=128),
    "Mixtral-8x7B": dims("mixtral", 32000, 4096, 14336, 32, 32, 8, num_local_experts=8, num_experts_per_tok=2),
    "Qwen2.5-0.5B": dims("qwen2", 151936, 896, 4864, 24, 14, 2, tie_word_embeddings=True),
    "Qwen2.5-7B": dims("qwen2", 152064, 3584, 18944, 28, 28, 4, use_sliding_window=False),
    "Qwen3-0.6B": dims("qwen3", 151936, 1024, 3072, 28, 16, 8, head_dim=128, tie_word_embeddings=True),
    "Qwen3-8B": dims("qwen3", 151936, 4096, 12288, 36, 32, 8, head_dim=128),
    "Qwen1.5-MoE-A2.7B": dims(
        "qwen2_moe", 151936, 2048, 5632, 24, 16, 16, num_experts=60, num_experts_per_tok=4,
        moe_intermediate_size=1408, shared_expert_intermediate_size=5632,
    ),
    "Qwen3-30B-A3B": dims(
        "qwen3_moe", 151936, 2048, 6144, 48, 32, 4, head_dim=128, num_experts=128, num_experts_per_tok=8,
        moe_intermediate_size=768,
    ),
    "Qwen3-Next-80B-A3B": dims(
        "qwen3_next", 151936, 2048, 5120, 48, 16, 2, head_dim=256, num_experts=512, num_experts_per_tok=10,
        moe_intermediate_size=512, shared_expert_intermediate_size=512, linear_conv_kernel_dim=4,
        linear_key_head_dim=128, linear_value_head_dim=128, linear_num_key_heads=16, linear_num_value_heads=32,
    ),
    "Gemma-7B": dims("gemma", 256000, 3072, 24576, 28, 16, 16, head_dim=256),
    "Gemma-2-2B": dims("gemma2", 256000, 2304, 9216, 26, 8, 4, head_dim=256, sliding_window=4096),
    "Gemma-3-1B": dims("gemma3_text", 262144, 1152, 6912, 26, 4, 1, head_dim=256, sliding_window=512),
    "Phi-2": dims("phi", 51200, 2560, 10240, 32, 32),
    "Phi-3-mini": dims("phi3", 32064, 3072, 8192, 32, 32, 32),
    "Phi-4": dims("phi3", 100352, 5120, 17920, 40, 40, 10),
    "DeepSeek-V2-Lite": dims(
        "deepseek_v2", 102400, 2048, 10944, 27, 16, 16, q_lora_rank=None, first_k_dense_replace=1,
        n_routed_experts=64, n_shared_experts=2, moe_intermediate_size=1408, num_experts_per_tok=6, **_MLA,
    ),
    "DeepSeek-V3": dims(
        "deepseek_v3", 129280, 7168, 18432, 61, 128, 128, q_lora_rank=1536, first_k_dense_replace=3,
        n_routed_experts=256, n_shared_experts=1, moe_intermediate_size=2048, num_experts_per_tok=8, **_MLA,
    ),
    "OLMo-7B": dims("olmo", 50304, 4096, 11008, 32, 32, 32),
    "OLMo-2-7B": dims("olmo2", 100352, 4096, 11008, 32, 32, 32),
    "OLMoE-1B-7B": dims("olmoe", 50304, 2048, 1024, 16, 16, 16, num_experts=64, num_experts_per_tok=8),
    "Granite-3.3-8B": dims("granite", 49159, 4096, 12800, 40, 32, 8, tie_word_embeddings=True),
    "Granite-3.1-1B-A400M": dims(
        "granitemoe", 49155, 1024, 512, 24, 16, 8, num_local_experts=32, num_experts_per_tok=8,
        tie_word_embeddings=True,
    ),
    "Granite-4.0-H-Tiny": dims(
        "granitemoehybrid", 100352, 1536, 512, 40, 12, 4, num_local_experts=64, num_experts_per_tok=6,
        shared_intermediate_size=1024, mamba_n_heads=48, mamba_d_head=64, mamba_d_state=128, mamba_d_conv=4,
        mamba_expand=2, mamba_n_groups=1, tie_word_embeddings=True,
        layer_types=(["mamba"] * 5 + ["attention"] + ["mamba"] * 4) * 4,
    ),
    "StarCoder2-3B": dims("starcoder2", 49152, 3072, 12288, 30, 24, 2, sliding_window=4096),
    "StableLM-2-1.6B": dims("stablelm", 100352, 2048, 5632, 24, 32, 32, use_qkv_bias=True),
    "Command-R": dims("cohere", 256000, 8192, 22528, 40, 64, 64),
    "Command-R7B": dims("cohere2", 256000, 4096, 14336, 32, 32, 8, sliding_window=4096),
    "GLM-4-9B": dims("glm4", 151552, 4096, 13696, 40, 32, 2, head_dim=128, attention_bias=True),
    "GLM-4.5-Air": dims(
        "glm4_moe", 151552, 4096, 10944, 46, 96, 8, head_dim=128, attention_bias=True, n_routed_experts=128,
        n_shared_experts=1, moe_intermediate_size=1408, num_experts_per_tok=8, first_k_dense_replace=1,
        use_qk_norm=False,
    ),
    "SmolLM3-3B": dims("smollm3", 128256, 2048, 11008, 36, 16, 4),
    "EXAONE-4.0-1.2B": dims("exaone4", 102400, 2048, 4096, 30, 32, 8, tie_word_embeddings=True),
    "Falcon-7B": dims("falcon", 65024, 4544, num_hidden_layers=32, num_attention_heads=71, multi_query=True),
    "Falcon-40B": dims(
        "falcon", 65024, 8192, num_hidden_layers=60, num_attention_heads=128, num_kv_heads=8,
        new_decoder_architecture=True,
    ),
    "Falcon-H1-0.5B": dims(
        "falcon_h1", 32784, 1024, 2048, 36, 8, 2, head_dim=64, mamba_d_ssm=1536, mamba_n_heads=24, mamba_d_head=64,
        mamba_d_state=128, mamba_n_groups=1, mamba_d_conv=4,
    ),
    "GPT-2": gpt("gpt2", 50257, 768, 12, 12, n_positions=1024),
    "GPT-J-6B": gpt("gptj", 50400, 4096, 28, 16, n_positions=2048),
    "Bloom-560M": {"model_type": "bloom", "vocab_size": 250880, "hidden_size": 1024, "n_layer": 24, "n_head": 16},
    "Pythia-1B": dims("gpt_neox", 50304, 2048, 8192, 16, 8),
    "OPT-125M": dims(
        "opt", 50272, 768, num_hidden_layers=12, num_attention_heads=12, ffn_dim=3072, max_position_embeddings=2048
    ),
    "OPT-350M": dims(
        "opt", 50272, 1024, num_hidden_layers=24, num_attention_heads=16, ffn_dim=4096, max_position_embeddings=2048,
        word_embed_proj_dim=512, do_layer_norm_before=False,
    ),
    "gpt-oss-20b": dims(
        "gpt_oss", 201088, 2880, 2880, 24, 64, 8, head_dim=64, num_local_experts=32, num_experts_per_tok=4,
        sliding_window=128,
    ),
    "Llama-4-Scout (text)": dims(
        "llama4_text", 202048, 5120, 8192, 48, 40, 8, head_dim=128, intermediate_size_mlp=16384,
        num_local_experts=16, num_experts_per_tok=1, interleave_moe_layer_step=1,
    ),
    "Llama-4-Maverick (text)": dims(
        "llama4_text", 202048, 5120, 8192, 48, 40, 8, head_dim=128, intermediate_size_mlp=16384,
        num_local_experts=128, num_experts_per_tok=1, interleave_moe_layer_step=2,
    ),
    "Mamba-130M": {"model_type": "mamba", "vocab_size": 50280, "hidden_size": 768, "num_hidden_layers": 24,
                   "state_size": 16, "conv_kernel": 4, "expand": 2},
    "Mamba-Codestral-7B": {"model_type": "mamba2", "vocab_size": 32768, "hidden_size": 4096, "num_hidden_layers": 64,
                           "num_heads": 128, "head_dim": 64, "state_size": 128, "n_groups": 8, "conv_kernel": 4},
    "Bamba-9B": dims(
        "bamba", 128256, 4096, 14336, 32, 32, 8, mamba_n_heads=128, mamba_d_head=64, mamba_d_state=128,
        mamba_n_groups=1, mamba_d_conv=4, mamba_expand=2, attn_layer_indices=[9, 18, 27],
    ),
    "Jamba-v0.1": dims(
        "jamba", 65536, 4096, 14336, 32, 32, 8, num_experts=16, num_experts_per_tok=2, expert_layer_period=2,
        expert_layer_offset=1, attn_layer_period=8, attn_layer_offset=4, mamba_d_state=16, mamba_d_conv=4,
        mamba_expand=2, mamba_dt_rank=256,
    ),
    "LFM2-1.2B": dims(
        "lfm2", 65536, 2048, 12288, 16, 32, 8, conv_L_cache=3, full_attn_idxs=[2, 5, 8, 10, 12, 14],
        block_multiple_of=256, block_ffn_dim_multiplier=1.0, block_auto_adjust_ff_dim=True,
    ),
    "all-MiniLM-L6-v2": dims("bert", 30522, 384, 1536, 6, 12, max_position_embeddings=512, type_vocab_size=2),
    "BERT-large": encoder("bert", 30522, 1024, 24, type_vocab_size=2),
    "RoBERTa-base": encoder("roberta", 50265, 768, 12, 514, type_vocab_size=1),
    "bge-m3": encoder("xlm-roberta", 250002, 1024, 24, 8194, type_vocab_size=1),
    "DistilBERT": {"model_type": "distilbert", "vocab_size": 30522, "dim": 768, "hidden_dim": 3072, "n_layers": 6,
                   "n_heads": 12, "max_position_embeddings": 512},
    "ModernBERT-base": dims("modernbert", 50368, 768, 1152, 22, 12, max_position_embeddings=8192),
    "nomic-embed-text-v1.5": encoder("nomic_bert", 30528, 768, 12, 2048, type_vocab_size=2),
    "LLaVA-1.5-7B": {
        "model_type": "llava", "tie_word_embeddings": False, "vision_config": _CLIP,
        "text_config": {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096},
    },
    "Gemma-3-4B": {
        "model_type": "gemma3", "vision_config": _SIGLIP,
        "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                        "num_hidden_layers": 34, "sliding_window": 1024},
    },
    "Qwen2-VL-2B": {
        "model_type": "qwen2_vl", "vision_config": {**_QWEN_VISION, "patch_size": 14}, "tie_word_embeddings": True,
        "text_config": dims("qwen2_vl_text", 151936, 1536, 8960, 28, 12, 2),
    },
}  # fmt: skip
_POOLERS = {"bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "nomic_bert"}


def _reference(config: Config) -> Counter[str]:
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

    made = AutoConfig.for_model(**{key: value for key, value in config.items() if key != "architectures"})
    auto = AutoModel if config["model_type"] in _POOLERS else AutoModelForCausalLM
    if "vision_config" in config:
        auto = AutoModelForImageTextToText
    with torch.device("meta"):
        model = auto.from_config(made)
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[kind_of(name)] += parameter.numel()
    return counts


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_kind_has_as_many_parameters_as_in_transformers(name: str) -> None:
    assert count_parameters(PUBLISHED[name]) == dict(_reference(PUBLISHED[name]))
    assert not estimated(PUBLISHED[name])


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        # As the models' cards say.
        pytest.param("Llama-3.1-8B", 8.03, 8.03, id="Llama-3.1-8B"),
        pytest.param("Mixtral-8x7B", 46.7, 12.9, id="Mixtral-8x7B"),
        pytest.param("Qwen3-30B-A3B", 30.5, 3.3, id="Qwen3-30B-A3B"),
        pytest.param("DeepSeek-V3", 671.0, 37.5, id="DeepSeek-V3"),
        pytest.param("gpt-oss-20b", 20.9, 3.6, id="gpt-oss-20b"),
    ],
)
def test_totals_and_active_parameters_are_those_of_the_models_cards(name: str, billions: float, active: float) -> None:
    facts = config_facts(PUBLISHED[name])

    assert facts.parameters / 1e9 == pytest.approx(billions, rel=0.005)
    assert facts.active_parameters / 1e9 == pytest.approx(active, rel=0.2)


@pytest.mark.parametrize("kind", NESTED)
def test_what_nested_configurations_leave_out_is_what_transformers_takes(kind: str) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    theirs = CONFIG_MAPPING[kind]().to_dict()

    assert {key: theirs[key] for key in NESTED[kind]} == dict(NESTED[kind])


def test_a_nested_configuration_wins_over_the_defaults() -> None:
    assert text_config(PUBLISHED["Gemma-3-4B"])["hidden_size"] == 2560
    assert text_config(PUBLISHED["Gemma-3-4B"])["head_dim"] == 256


def test_an_embedder_made_of_a_decoders_body_has_no_output_matrix() -> None:
    config = PUBLISHED["Qwen3-8B"]

    assert "lm_head" in count_parameters(config | {"architectures": ["Qwen3ForCausalLM"]})
    assert "lm_head" not in count_parameters(config | {"architectures": ["Qwen3Model"]})


def test_an_unknown_family_is_bounded_and_says_so() -> None:
    known, novel = PUBLISHED["Llama-3.1-8B"], PUBLISHED["Llama-3.1-8B"] | {"model_type": "novel"}

    facts = config_facts(novel)

    assert estimated(novel)
    assert facts.parameters == sum(count_parameters(known).values())
    assert any("between 6,151,213,056 (two feed-forward matrices) and 8,030,261,248" in why for why in facts.estimates)


def test_an_unknown_tower_is_bounded_and_says_so() -> None:
    config = {**PUBLISHED["Gemma-3-4B"], "model_type": "novel_vl", "audio_config": {"hidden_size": 1024}}

    counts = count_parameters(config)

    assert estimated(config)
    assert counts["vision"] >= count_parameters(PUBLISHED["Gemma-3-4B"])["vision"]
    assert counts["audio"] > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"hidden_size": None}, "hidden_size is None", id="no hidden size"),
        pytest.param({"num_hidden_layers": 0}, "num_hidden_layers is 0", id="no layers"),
        pytest.param({"vocab_size": True}, "vocab_size is True", id="a truth value is no number"),
        pytest.param({"num_key_value_heads": 5}, "32 attention heads cannot share 5 key-value heads", id="KV heads"),
        pytest.param({"num_key_value_heads": 64}, "cannot share 64", id="more KV heads than heads"),
        pytest.param({"hidden_size": 4100}, "is 32, which does not divide hidden_size 4100", id="no head size"),
    ],
)
def test_configurations_that_no_model_can_have_are_refused(changes: Config, said: str) -> None:
    with pytest.raises(BadConfig, match=said) as refusal:
        count_parameters(PUBLISHED["Llama-3.1-8B"] | changes)

    assert refusal.value.field in str(refusal.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_ranks_hold_everything_between_them_and_one_rank_holds_all(name: str) -> None:
    config = PUBLISHED[name]
    total = sum(count_parameters(config).values())

    assert rank_parameters(config, 1) == total
    held = [rank_parameters(config, ranks) for ranks in (1, 2, 4, 8)]
    assert held == sorted(held, reverse=True)
    assert all(ranks * each >= total for ranks, each in zip((1, 2, 4, 8), held, strict=True))


def test_few_key_value_heads_are_repeated_on_every_rank() -> None:
    config = PUBLISHED["Qwen2.5-0.5B"]  # two key-value heads
    keys = 24 * 2 * (128 * 896 + 128)
    norms = 24 * 2 * 896 + 896
    copied = norms + keys // 2  # one of the two heads on each of four ranks

    split = sum(count_parameters(config).values()) - norms - keys

    assert rank_parameters(config, 4) == pytest.approx(split / 4 + copied, abs=200)


@pytest.mark.parametrize(
    ("name", "kind", "share"),
    [
        ("model.layers.3.self_attn.k_proj.weight", "attention", "heads"),
        ("model.layers.3.self_attn.o_proj.weight", "attention", "split"),
        ("model.layers.3.self_attn.kv_a_proj_with_mqa.weight", "attention", "copy"),
        ("model.layers.3.mlp.experts.7.down_proj.weight", "experts", "split"),
        ("model.layers.3.mlp.shared_experts.down_proj.weight", "mlp", "split"),
        ("model.layers.3.block_sparse_moe.gate.weight", "router", "copy"),
        ("model.layers.3.mlp.gate_proj.weight", "mlp", "split"),
        ("model.layers.3.linear_attn.norm.weight", "state_space", "split"),
        ("model.layers.3.self_attn.q_norm.weight", "norm", "copy"),
        ("encoder.layer.0.attention.output.dense.weight", "attention", "split"),
        ("encoder.layer.0.output.dense.weight", "mlp", "split"),
        ("vision_tower.vision_model.encoder.layers.0.layer_norm1.weight", "vision", "split"),
        ("lm_head.weight", "lm_head", "split"),
        ("something.else", "other", "copy"),
    ],
)
def test_tensors_are_told_by_their_names(name: str, kind: str, share: str) -> None:
    assert (kind_of(name), share_of(name)) == (kind, share)
