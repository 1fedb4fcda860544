"""Starts of real vLLM on processors with random weights: what each logged and holds.

Run by recommender_memory.py: `python recommender_memory_engine.py FILE...`, each a JSON object with `config`, `options`
and `folder`. vLLM is imported once; each model is made and started in a fork, since vLLM keeps what it set up until the
process ends. What a start printed stands in FOLDER/log.txt, what it holds in FOLDER/result.json.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

# The engine in the process itself, and nothing fetched.
os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def make(config: dict[str, Any], folder: Path) -> None:
    """Save a model of that configuration with random weights."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    made = AutoConfig.for_model(**config)
    auto = AutoModel if config["model_type"] == "bert" else AutoModelForCausalLM
    auto.from_config(made).save_pretrained(folder)


def start(folder: Path, options: dict[str, Any]) -> dict[str, object]:
    """Start the engine and tell its cache and parameters."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import base_loader
    from vllm.v1.engine.llm_engine import LLMEngine

    held: list[int] = []
    repack = base_loader.process_weights_after_loading

    def counted(model: Any, *rest: Any) -> None:
        # The kernels for processors repack linear layers next and drop the parameters. A tied matrix counts once.
        held.append(sum(weight.nbytes for weight in model.parameters()))
        repack(model, *rest)

    base_loader.process_weights_after_loading = counted
    settings = {"skip_tokenizer_init": True, "enforce_eager": True, "distributed_executor_backend": "uni"}
    engine = LLMEngine.from_engine_args(EngineArgs(model=str(folder), **settings, **options))
    cache = engine.vllm_config.cache_config
    return {"blocks": cache.num_gpu_blocks, "block": cache.block_size, "bytes": held[0]}


def fork(job: dict[str, Any]) -> None:
    """One model and one engine in a child, to its end."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    folder = Path(job["folder"])
    log = os.open(folder / "log.txt", os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        make(job["config"], folder)
        (folder / "result.json").write_text(json.dumps(start(folder, job["options"])))
    except BaseException:  # noqa: BLE001 - whatever it was, the parent goes on to the next model
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    import vllm.v1.engine.core
    import vllm.v1.engine.llm_engine
    import vllm.v1.worker.cpu_worker  # noqa: F401 - imported once, for all forks

    for file in sys.argv[1:]:
        fork(json.loads(Path(file).read_text()))
        print(file, flush=True)
