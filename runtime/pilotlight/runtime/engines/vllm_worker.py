"""vLLM's worker for processors, given as `--worker-cls`; imported by the engine's processes only."""

from __future__ import annotations

from vllm.v1.worker.cpu_worker import CPUWorker

from pilotlight.runtime.memorygroup import make_room


class Worker(CPUWorker):  # type: ignore[misc]
    """Starts in a container whose page cache is full of the engine's own files.

    vLLM 0.32 compares its KV cache with the limit less all that is used (v1/worker/cpu_worker.py,
    utils/cpu_resource_utils.py), and on a node that has just read image and model from disk the page cache is all.
    """

    def determine_available_memory(self) -> int:
        make_room(self.cache_config.kv_cache_memory_bytes or 0)
        available: int = super().determine_available_memory()
        return available
