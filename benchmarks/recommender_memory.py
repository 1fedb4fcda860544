"""The recommender's memory arithmetic against vLLM itself: KV pool in blocks and tokens, weights in bytes.

Each case is a small model with random weights, made on the spot. The recommender reads its config.json and the first
bytes of its weights; vLLM 0.32 is started on it with a cache of known bytes, and its log line "CPU KV cache size" and
its block count are compared with the prediction. Nothing is timed, so other work on the machine does not matter.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import Bar, arguments, machine, report
from pilotlight.recommender import config_facts, read_folder
from pilotlight.recommender.cache import CacheLayer, Geometry, make_pool
from pilotlight.recommender.quantization import pair_bits

ENGINE = Path(__file__).with_name("recommender_memory_engine.py")
MIB = 2**20
LINE = re.compile(r"CPU KV cache size: ([\d,]+) tokens")
_BASE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "vocab_size": 500}
_LONG = {"max_position_embeddings": 2048}
_MLA = {"kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 32, "q_lora_rank": None}


@dataclass(frozen=True)
class Case:
    """One model and how the engine is started on it."""

    name: str
    config: dict[str, Any]
    cache_mib: int = 16
    dtype: str = "float32"
    block: int | None = None
    kv_dtype: str = "auto"
    step: int = 512
    context: int | None = None
    pooling: bool = False

    def options(self) -> dict[str, Any]:
        """vLLM's, in snake_case."""
        chosen: dict[str, Any] = {
            "dtype": self.dtype,
            "kv_cache_memory_bytes": self.cache_mib * MIB + 12_345,  # no whole number of blocks
            "max_num_batched_tokens": self.step,
            "max_num_seqs": 4,
            "kv_cache_dtype": self.kv_dtype,
        }
        given = {"block_size": self.block, "max_model_len": self.context}
        pooling = {"runner": "pooling"} if self.pooling else {}
        return chosen | {name: value for name, value in given.items() if value} | pooling


@dataclass(frozen=True)
class Outcome:
    """Pairs of what was predicted and what was found."""

    name: str
    blocks: tuple[int, int]
    tokens: tuple[int, int]
    stored_bytes: tuple[int, int]  # by the configuration alone, of the file
    engine_bytes: tuple[int, int]


def _decoder(kind: str, layers: int, kv_heads: int, **more: object) -> dict[str, Any]:
    return {"model_type": kind, "num_hidden_layers": layers, "num_key_value_heads": kv_heads, **_BASE, **_LONG, **more}


CASES = (
    Case("Llama, grouped heads, float32", _decoder("llama", 4, 2, tie_word_embeddings=False)),
    Case("Llama, bfloat16", _decoder("llama", 4, 2), dtype="bfloat16"),
    Case("Llama, one head, blocks of 32", _decoder("llama", 3, 1), block=32),
    Case("Llama, fp8 cache", _decoder("llama", 4, 2), dtype="bfloat16", kv_dtype="fp8"),
    Case("Llama, shorter context", _decoder("llama", 4, 4), context=1000),
    Case("Qwen3, heads of 64", _decoder("qwen3", 5, 2, head_dim=64)),
    Case("Qwen3, bfloat16, tied", _decoder("qwen3", 6, 2, head_dim=64, tie_word_embeddings=True), dtype="bfloat16"),
    Case("Qwen3, embedder", _decoder("qwen3", 4, 2, head_dim=32), pooling=True),
    Case("Qwen3-MoE", _decoder(
        "qwen3_moe", 3, 2, head_dim=32, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=64
    )),
    Case("Mistral, every layer with a window", _decoder("mistral", 4, 2, sliding_window=256, head_dim=32)),
    Case("Mistral, window, larger steps", _decoder("mistral", 4, 2, sliding_window=256, head_dim=32), step=1024),
    Case("Gemma 2, every other layer with a window", _decoder("gemma2", 4, 2, head_dim=32, sliding_window=256)),
    Case("Gemma 3, five of six with a window", _decoder("gemma3_text", 12, 1, head_dim=64, sliding_window=128)),
    Case("Gemma 3, windows that do not fill a group", _decoder("gemma3_text", 9, 1, head_dim=64, sliding_window=128)),
    Case("Command-R7B, three of four with a window", _decoder("cohere2", 8, 2, sliding_window=256)),
    Case("DeepSeek-V2, latent attention", _decoder(
        "deepseek_v2", 3, 4, n_routed_experts=4, n_shared_experts=1, moe_intermediate_size=64, num_experts_per_tok=2,
        first_k_dense_replace=1, **_MLA,
    )),
    Case("DeepSeek-V3, latent attention, bfloat16", _decoder(
        "deepseek_v3", 3, 4, n_routed_experts=8, n_shared_experts=1, moe_intermediate_size=64, num_experts_per_tok=2,
        first_k_dense_replace=1, n_group=2, topk_group=1, topk_method="noaux_tc", scoring_func="sigmoid", **_MLA,
    ), dtype="bfloat16"),
    Case("Mixtral", _decoder("mixtral", 4, 2, num_local_experts=4, num_experts_per_tok=2)),
    Case("Llama 4, chunks", _decoder(
        "llama4_text", 4, 2, head_dim=32, intermediate_size_mlp=256, num_local_experts=4, num_experts_per_tok=1,
        attention_chunk_size=256,
    )),
    Case("gpt-oss, windows and sinks", _decoder(
        "gpt_oss", 4, 2, head_dim=32, num_local_experts=4, num_experts_per_tok=2, sliding_window=128
    )),
    Case("Mamba 2, states alone", {
        "model_type": "mamba2", "num_hidden_layers": 4, "vocab_size": 500, "hidden_size": 128, "num_heads": 8,
        "head_dim": 32, "state_size": 16, "n_groups": 1, "conv_kernel": 4, "expand": 2,
    }, context=2048),
    Case("Jamba, attention between Mamba layers", _decoder(
        "jamba", 4, 2, num_experts=1, num_experts_per_tok=1, expert_layer_period=2, expert_layer_offset=1,
        attn_layer_period=2, attn_layer_offset=1, mamba_d_state=16, mamba_d_conv=4, mamba_expand=2, mamba_dt_rank=8,
    )),
    Case("Falcon-H1, attention beside Mamba 2", _decoder(
        "falcon_h1", 4, 2, head_dim=32, mamba_d_ssm=256, mamba_n_heads=8, mamba_d_head=32, mamba_d_state=16,
        mamba_n_groups=1, mamba_d_conv=4, mamba_expand=2,
    )),
    Case("Qwen3-Next, gated delta rule", _decoder(
        "qwen3_next", 4, 2, head_dim=32, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64,
        shared_expert_intermediate_size=64, linear_conv_kernel_dim=4, linear_key_head_dim=32,
        linear_value_head_dim=32, linear_num_key_heads=2, linear_num_value_heads=4,
    )),
    Case("BERT, embedder without a cache", {
        "model_type": "bert", "num_hidden_layers": 3, "max_position_embeddings": 512, **_BASE,
    }, pooling=True),
)  # fmt: skip


def starts(cases: Sequence[Case], root: Path) -> Iterator[Outcome]:
    """Start vLLM on one case after another. Raises RuntimeError where one does not start."""
    files = [_job(case, root / str(index)) for index, case in enumerate(cases)]
    with subprocess.Popen([sys.executable, str(ENGINE), *map(str, files)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for case, file, _ in zip(cases, files, process.stdout, strict=False):
            yield _outcome(case, file.parent)
        if process.wait():
            raise RuntimeError(f"{ENGINE.name} ended with {process.returncode}")


def _job(case: Case, folder: Path) -> Path:
    folder.mkdir()
    file = folder / "job.json"
    file.write_text(json.dumps({"config": case.config, "options": case.options(), "folder": str(folder)}))
    return file


def _outcome(case: Case, folder: Path) -> Outcome:
    log = (folder / "log.txt").read_text()
    result = folder / "result.json"
    if not result.exists():
        raise RuntimeError(f"{case.name}: vLLM did not start: {log[-3000:]}")
    line = LINE.search(log)
    return _compare(case, folder, json.loads(result.read_text()), int(line[1].replace(",", "")) if line else 0)


def _compare(case: Case, folder: Path, told: dict[str, int], tokens: int) -> Outcome:
    facts = read_folder(folder)
    alone = config_facts(json.loads((folder / "config.json").read_text()))
    width = 4 if case.dtype == "float32" else 2
    geometry = Geometry(
        block=case.block or default_block(facts.cache),
        pair_bits=pair_bits(case.kv_dtype, width),
        state_bytes=width,
        recurrent_bytes=width,
        step=case.step,
    )
    pool, size = make_pool(facts.cache, geometry), case.options()["kv_cache_memory_bytes"]
    context = case.context or facts.context
    return Outcome(
        case.name,
        (pool.blocks(size) if pool.groups else 1, told["blocks"]),
        (pool.log_tokens(size, context), tokens),
        (alone.weight_bytes, facts.weight_bytes),
        (facts.rank_weight_bytes(1, width, head=not case.pooling), told["bytes"]),
    )


def default_block(layers: Sequence[CacheLayer]) -> int:
    """Latent attention without AMX takes blocks of 16 on processors, everything else 128 (vLLM's platforms/cpu.py)."""
    amx = "amx_tile" in Path("/proc/cpuinfo").read_text()
    return 16 if not amx and any(layer.kind == "latent" for layer in layers) else 128


def main() -> None:
    chosen = arguments(__doc__ or "")
    facts, outcomes = machine(), []
    print("machine: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    with tempfile.TemporaryDirectory(prefix="pilotlight-memory-") as folder:
        for outcome in starts(CASES[::3] if chosen.quick else CASES, Path(folder)):
            outcomes.append(outcome)
            print(
                f"{outcome.name}: blocks {_pair(outcome.blocks)}, tokens {_pair(outcome.tokens)},"
                f" stored {_pair(outcome.stored_bytes)} bytes, in the engine {_pair(outcome.engine_bytes)} bytes",
                flush=True,
            )
    report({"machine": facts, "cases": [asdict(outcome) for outcome in outcomes]}, bars(outcomes), chosen.json)


def _pair(values: tuple[int, int]) -> str:
    predicted, found = values
    return f"{found:,}" if predicted == found else f"{predicted:,} predicted, {found:,} found"


def bars(outcomes: list[Outcome]) -> list[Bar]:
    count = len(outcomes)

    def bar(name: str, right: int) -> Bar:
        return Bar("recommender_memory", name, f"{right} of {count} exact", "all exact", right == count)

    return [
        bar("KV pool blocks", sum(case.blocks[0] == case.blocks[1] for case in outcomes)),
        bar("KV pool tokens", sum(case.tokens[0] == case.tokens[1] for case in outcomes)),
        bar("weight bytes from config.json", sum(case.stored_bytes[0] == case.stored_bytes[1] for case in outcomes)),
        bar("weight bytes in the engine", sum(case.engine_bytes[0] == case.engine_bytes[1] for case in outcomes)),
    ]


if __name__ == "__main__":
    main()
