"""What a tensor is for, told by its name alone, as checkpoints of Hugging Face's format name them."""

from __future__ import annotations

import re

from pilotlight.recommender._weights import Kind, Share

# The first that is found decides: a norm within attention is a norm, an output matrix within attention is attention.
_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("vision", re.compile(r"(?:^|\.)(?:vision_\w+|visual|vision|multi_modal_projector|image_newline|mm_projector)\.")),
    ("audio", re.compile(r"(?:^|\.)(?:audio_\w+|audio)\.")),
    ("state_space", re.compile(r"\.(?:mamba|mixer|linear_attn|ssm|conv|short_conv)\.")),
    ("experts", re.compile(r"\.experts\.")),
    ("router", re.compile(r"\.(?:gate|router|shared_expert_gate)\.(?:\w+\.)?(?:weight|bias|e_score_correction_bias)$")),
    ("norm", re.compile(r"norm|(?:^|\.)ln_\w+\.", re.IGNORECASE)),
    ("lm_head", re.compile(r"(?:^|\.)(?:lm_head|embed_out|output_projection)\.")),
    ("other", re.compile(r"(?:^|\.)(?:pooler|score|classifier|project_in|project_out)\.|relative_attention_bias")),
    ("embedding", re.compile(r"(?:^|\.)(?:\w*embed\w*|wte|wpe)\.")),
    ("attention", re.compile(r"attn\.|attention\.")),
    (
        "mlp",
        re.compile(
            r"(?:^|\.)(?:\w*mlp|feed_forward|ffn|fc1|fc2|intermediate|output|shared_experts?|block_sparse_moe)\."
        ),
    ),
)
_ON_EVERY_RANK = re.compile(r"\.(?:q_a_proj|kv_a_proj_with_mqa|o_proj\.bias|out_proj\.bias|dense\.bias)")
_KEY_VALUE = re.compile(r"\.(?:k_proj|v_proj|key|value|k_lin|v_lin)\.")
_COPIED: frozenset[Kind] = frozenset({"norm", "router", "other"})


def kind_of(name: str) -> Kind:
    """`other` where no rule knows the name."""
    return next((kind for kind, pattern in _PATTERNS if pattern.search(name)), "other")


def share_of(name: str) -> Share:
    """How vLLM lays the tensor over tensor-parallel ranks; a fused `qkv` counts as split."""
    kind = kind_of(name)
    if kind in _COPIED or (kind == "attention" and _ON_EVERY_RANK.search(name)):
        return "copy"
    return "heads" if kind == "attention" and _KEY_VALUE.search(name) else "split"
