"""The families of models whose parameters are counted exactly: a table of what each does unlike Llama."""

from __future__ import annotations

from pilotlight.recommender._config import Config, indices, model_type, number
from pilotlight.recommender._weights import Experts, Family, Flag

_ATTENTION_BIAS = Flag("attention_bias")


def _always(_config: Config, _layer: int) -> bool:
    return True


def _after_dense(config: Config, layer: int) -> bool:
    first = config.get("first_k_dense_replace", 0)
    return layer >= (first if isinstance(first, int) else 0)


def _by_step(config: Config, layer: int) -> bool:
    step = number(config, "decoder_sparse_step") or 1
    return layer not in indices(config, "mlp_only_layers") and (layer + 1) % step == 0


def _by_period(config: Config, layer: int) -> bool:
    period, offset = number(config, "expert_layer_period") or 1, config.get("expert_layer_offset", 0)
    return (number(config, "num_experts") or 1) > 1 and layer % period == offset


def _interleaved(config: Config, layer: int) -> bool:
    listed = indices(config, "moe_layers")
    step = number(config, "interleave_moe_layer_step") or 1
    return layer in listed if listed else (layer + 1) % step == 0


def _shared_width(config: Config) -> int:
    return number(config, "shared_expert_intermediate_size") or 0


def _shared_count(config: Config) -> int:
    return (number(config, "n_shared_experts") or 0) * (number(config, "moe_intermediate_size") or 0)


def _shared_mlp(config: Config) -> int:
    return number(config, "shared_intermediate_size") or 0


def _inner(config: Config) -> int:
    return number(config, "intermediate_size") or 0


_LLAMA = Family(qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS, mlp_bias=Flag("mlp_bias"))
_GPT = Family(norm=2, qkv_bias=True, out_bias=True, mlp_bias=True, gated=False)
_BERT = Family(
    encoder=True, norm=2, qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, embedding_norm=True,
    final_norm=False, positions=0, pooler=True,
)  # fmt: skip
_PLAIN_EXPERTS = Experts(_always, width="intermediate_size")
_QWEN_EXPERTS = Experts(_by_step)
_DEEPSEEK_EXPERTS = Experts(_after_dense, shared=_shared_count)
_BALANCED_EXPERTS = Experts(_after_dense, shared=_shared_count, correction=True)

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": Family(),
    "ministral3": Family(),
    "granite": _LLAMA,
    "smollm3": Family(tied=True, qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS, mlp_bias=Flag("mlp_bias")),
    "ernie4_5": Family(tied=True, qkv_bias=Flag("use_bias"), out_bias=Flag("use_bias"), mlp_bias=Flag("use_bias")),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS, qk_norm="head"),
    "gemma": Family(tied=True, qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS),
    "gemma2": Family(tied=True, norms=4, qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS),
    "gemma3_text": Family(tied=True, norms=4, qk_norm="head", qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS),
    "phi": Family(norm=2, norms=1, qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, head_bias=True),
    "phi3": Family(),
    "olmo": Family(norm=0, qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS),
    "olmo2": Family(qk_norm="width", qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS),
    "exaone4": Family(qk_norm="head"),
    "starcoder2": Family(
        tied=True, norm=2, qkv_bias=Flag("use_bias", True), out_bias=Flag("use_bias", True),
        mlp_bias=Flag("use_bias", True), gated=False,
    ),
    "stablelm": Family(norm=2, qkv_bias=Flag("use_qkv_bias")),
    "cohere": Family(tied=True, norms=1, qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS),
    "cohere2": Family(tied=True, norms=1, qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS),
    "glm": Family(qkv_bias=Flag("attention_bias", True)),
    "glm4": Family(norms=4, qkv_bias=Flag("attention_bias", True)),
    "falcon": Family(
        tied=True, norm=2, norms=1, qkv_bias=Flag("bias"), out_bias=Flag("bias"), mlp_bias=Flag("bias"), gated=False
    ),
    "gpt2": Family(
        tied=True, norm=2, qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, positions=0
    ),
    "gptj": Family(norm=2, norms=1, mlp_bias=True, gated=False, head_bias=True),
    "gpt_neox": Family(
        norm=2, qkv_bias=Flag("attention_bias", True), out_bias=Flag("attention_bias", True), mlp_bias=True, gated=False
    ),
    "opt": Family(
        tied=True, norm=2, qkv_bias=Flag("enable_bias", True), out_bias=Flag("enable_bias", True),
        mlp_bias=Flag("enable_bias", True), gated=False, positions=2,
    ),
    "bloom": Family(
        tied=True, norm=2, qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, embedding_norm=True
    ),
    "mixtral": Family(experts=_PLAIN_EXPERTS),
    "phimoe": Family(
        norm=2, qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS, head_bias=Flag("lm_head_bias"),
        experts=_PLAIN_EXPERTS,
    ),
    "olmoe": Family(qk_norm="width", qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS, experts=_PLAIN_EXPERTS),
    "granitemoe": Family(qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS, experts=_PLAIN_EXPERTS),
    "gpt_oss": Family(
        qkv_bias=Flag("attention_bias", True), out_bias=Flag("attention_bias", True), sinks=True,
        experts=Experts(_always, width="intermediate_size", bias=True),
    ),
    "qwen2_moe": Family(
        qkv_bias=Flag("qkv_bias", True), experts=Experts(_by_step, shared=_shared_width, shared_gate=True)
    ),
    "qwen3_moe": Family(qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS, qk_norm="head", experts=_QWEN_EXPERTS),
    "deepseek_v2": Family(experts=_DEEPSEEK_EXPERTS),
    "deepseek_v3": Family(experts=_BALANCED_EXPERTS),
    "glm4_moe": Family(
        qkv_bias=_ATTENTION_BIAS, qk_norm="head", qk_norm_when=Flag("use_qk_norm"), experts=_BALANCED_EXPERTS
    ),
    "llama4_text": Family(
        qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS,
        experts=Experts(_interleaved, width="intermediate_size", shared=_inner),
    ),
    "mamba": Family(tied=True, norms=1),
    "falcon_mamba": Family(tied=True, norms=1),
    "mamba2": Family(norms=1),
    "bamba": Family(qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS, mlp_bias=Flag("mlp_bias")),
    "jamba": Family(experts=Experts(_by_period, width="intermediate_size")),
    "falcon_h1": Family(qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS, mlp_bias=Flag("mlp_bias")),
    "granitemoehybrid": Family(
        qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS,
        experts=Experts(_always, width="intermediate_size", shared=_shared_mlp),
    ),
    "qwen3_next": Family(
        qk_norm="head", gated_query=True, qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS,
        experts=Experts(_by_step, shared=_shared_width, shared_gate=True),
    ),
    "lfm2": Family(tied=True, qk_norm="head"),
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "distilbert": Family(
        encoder=True, norm=2, qkv_bias=True, out_bias=True, mlp_bias=True, gated=False, embedding_norm=True,
        final_norm=False, positions=0,
    ),
    "modernbert": Family(
        encoder=True, qkv_bias=_ATTENTION_BIAS, out_bias=_ATTENTION_BIAS, mlp_bias=Flag("mlp_bias"), embedding_norm=True
    ),
    "nomic_bert": Family(encoder=True, norm=2, embedding_norm=True, final_norm=False),
}  # fmt: skip
# Multimodal models: older configurations keep the language model's keys beside the tower's.
FAMILIES |= dict.fromkeys(("qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"), FAMILIES["qwen2"])
FAMILIES |= {"gemma3": FAMILIES["gemma3_text"], "qwen3_vl_text": FAMILIES["qwen3"]}


def family(config: Config) -> Family | None:
    """None for one that nobody described: its count is an estimate."""
    return FAMILIES.get(model_type(config))
