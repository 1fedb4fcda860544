"""The manifest's engine section: an allow-list of vLLM 0.32's options, by vLLM's own names in camelCase.

What the platform decides itself (where the engine listens, its key, its names, where weights come from, what it
counts) is not on the list: it would break metering or isolation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, model_validator

from pilotlight.platform.manifest.errors import BrokenRules, Problem
from pilotlight.platform.manifest.fields import ParserName, Part, Size
from pilotlight.platform.manifest.units import ByteSize
from pilotlight.runtime.simulated.options import OWN, Options

JsonScalar = str | int | float | bool | None
_ON_BY_DEFAULT = ("enable_chunked_prefill", "enable_prefix_caching")
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]

_NETWORK = "the platform decides where the engine listens and who may reach it"
_WEIGHTS = "the platform fetches and verifies the weights of spec.model"
_METERING = "the platform's metering depends on it"
_CODE = "it would load code into the engine"
RESERVED = {
    "host": _NETWORK,
    "port": _NETWORK,
    "uds": _NETWORK,
    "apiKey": _NETWORK,
    "rootPath": _NETWORK,
    "allowedOrigins": _NETWORK,
    "sslKeyfile": _NETWORK,
    "sslCertfile": _NETWORK,
    "model": "it is spec.model",
    "servedModelName": "it is the function's name",
    "tokenizer": _WEIGHTS,
    "revision": _WEIGHTS,
    "downloadDir": _WEIGHTS,
    "loadFormat": _WEIGHTS,
    "modelLoaderExtraConfig": _WEIGHTS,
    "loraModules": "it is spec.adapters",
    "enableLora": "it follows from spec.adapters",
    "hfToken": "secrets do not belong into a manifest",
    "disableLogStats": _METERING,
    "maxNumQueuedReqs": "the platform's queue holds requests, not the engine's",
    "maxNumQueuedTokens": "the platform's queue holds requests, not the engine's",
    "middleware": _CODE,
    "workerCls": _CODE,
    "workerExtensionCls": _CODE,
    "schedulerCls": _CODE,
    "toolParserPlugin": _CODE,
    "reasoningParserPlugin": _CODE,
    "ioProcessorPlugin": _CODE,
    "hfOverrides": "a model's configuration is part of its digest",
    "kvTransferConfig": "the platform decides where KV caches go",
}


class SimulatedPart(Part):
    """How the simulated engine behaves; all times are seconds."""


def _simulated() -> type[SimulatedPart]:
    """The simulated engine's own options, from the one place that defines them."""
    fields: dict[str, Any] = {
        name.removeprefix(OWN): (field.annotation, field)
        for name, field in Options.model_fields.items()
        if name.startswith(OWN)
    }
    made: type[SimulatedPart] = create_model("Simulated", __base__=SimulatedPart, **fields)
    made.__doc__ = SimulatedPart.__doc__
    return made


if TYPE_CHECKING:
    Simulated = SimulatedPart
else:
    Simulated = _simulated()


class Engine(Part):
    """Overrides of what the recommender would choose, and what it cannot know."""

    kind: Literal["vllm", "simulated"] = "vllm"
    """`simulated` answers with made-up tokens: for load tests and dry runs."""
    simulated: Simulated | None = None
    """How the simulated engine behaves; only with `kind: simulated`."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for models whose code you have read."""

    max_model_len: Count | None = None
    """Longest request, prompt and answer together, tokens."""
    max_num_seqs: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Requests in flight at once in one replica."""
    max_num_batched_tokens: Count | None = None
    """Tokens computed in one engine step."""
    long_prefill_token_threshold: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Prompts longer than this many tokens count as long and are computed in smaller parts; 0: off."""
    enable_chunked_prefill: bool | None = None
    """Compute a long prompt over several steps."""
    enable_prefix_caching: bool | None = None
    """Keep the KV cache of prompts' beginnings for the requests that share them."""
    block_size: Literal[1, 8, 16, 32, 64, 128, 256] | None = None
    """Tokens in one block of the KV cache."""
    watermark: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the KV cache that stays free when a request is admitted."""

    kv_cache_memory_bytes: Size | None = None
    """Memory of the KV cache, on each device."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of each device that the replica may take; only with `resources.accelerator`."""
    cpu_offload_gb: Annotated[float, Field(ge=0, le=10_000)] | None = None
    """Weights kept in the machine's memory instead of the device's, GiB; only with `resources.accelerator`."""
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] | None = None
    """Devices that share one replica's weights; the same as `resources.count`, which it follows when left out."""
    enable_expert_parallel: bool | None = None
    """Spread a mixture-of-experts model's experts over the devices."""

    dtype: Literal["auto", "half", "float16", "bfloat16", "float", "float32"] | None = None
    """Number format of weights and activations."""
    kv_cache_dtype: Literal["auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"] | None = None
    """Number format of the KV cache."""
    quantization: (
        Literal[
            "awq",
            "fp8",
            "modelopt",
            "gptq",
            "gptq_marlin",
            "awq_marlin",
            "compressed-tensors",
            "experts_int8",
            "quark",
            "moe_wna16",
            "torchao",
            "mxfp4",
            "mxfp8",
        ]
        | None
    ) = None
    """How the weights are quantised; mostly read from the model itself."""
    enforce_eager: bool | None = None
    """Neither compile the model nor capture CUDA graphs: starts sooner, computes slower."""
    max_cudagraph_capture_size: Annotated[int, Field(ge=0, le=65_536)] | None = None
    """Largest batch that a CUDA graph is captured for."""
    performance_mode: Literal["balanced", "interactivity", "throughput"] | None = None
    """What vLLM's own defaults lean towards."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    """Of sampling for requests that bring none."""

    tokenizer_mode: Literal["auto", "hf", "mistral", "deepseek_v32", "deepseek_v4"] | None = None
    """Which tokenizer implementation reads the model's tokenizer files."""
    generation_config: Literal["auto", "vllm"] | None = None
    """Sampling defaults: the model's own (`auto`) or vLLM's."""
    override_generation_config: Annotated[dict[str, JsonScalar], Field(max_length=64)] | None = None
    """Sampling defaults, by the names of `generation_config.json`."""
    max_logprobs: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Most log probabilities that a request may ask for per token."""
    logprobs_mode: Literal["raw_logits", "raw_logprobs", "processed_logits", "processed_logprobs"] | None = None
    """What a returned log probability is taken from."""

    chat_template_content_format: Literal["auto", "string", "openai"] | None = None
    """The form in which message contents reach the model's chat template."""
    default_chat_template_kwargs: Annotated[dict[str, JsonScalar], Field(max_length=64)] | None = None
    """Arguments of the chat template where a request brings none."""
    enable_auto_tool_choice: bool | None = None
    """Let the model decide to call tools; needs `toolCallParser`."""
    tool_call_parser: ParserName | None = None
    """vLLM's parser for the model's tool calls, as `hermes` or `llama3_json`."""
    exclude_tools_when_tool_choice_none: bool | None = None
    """Leave tools out of the prompt when a request forbids their use."""
    reasoning_parser: ParserName | None = None
    """vLLM's parser for the model's reasoning, as `qwen3` or `deepseek_r1`."""

    limit_mm_per_prompt: Annotated[dict[str, Annotated[int, Field(ge=0, le=1000)]], Field(max_length=8)] | None = None
    """Most images, audios or videos in one prompt, by kind."""
    language_model_only: bool | None = None
    """Load only the language part of a multimodal model."""

    max_loras: Annotated[int, Field(ge=1, le=256)] | None = None
    """Adapters in one batch; only with `adapters`."""
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] | None = None
    """Largest rank among the adapters; only with `adapters`."""
    max_cpu_loras: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Adapters kept in the machine's memory; only with `adapters`."""

    def overrides(self) -> dict[str, object]:
        """What the manifest sets, by vLLM's names in snake_case and the simulated engine's; sizes in bytes."""
        names = type(self).model_fields.keys() - {"kind", "simulated", "trust_remote_code"}
        options = {name: _plain(value) for name in sorted(names) if (value := getattr(self, name)) is not None}
        # A flag that is left out keeps vLLM's default, so switching one off that is on by default takes its opposite.
        options |= {f"no_{name}": True for name in _ON_BY_DEFAULT if options.get(name) is False}
        if self.trust_remote_code:
            options["trust_remote_code"] = True
        if self.simulated is not None:
            chosen = self.simulated.model_dump(by_alias=False, exclude_defaults=True)
            options |= {f"{OWN}{name}": value for name, value in chosen.items()}
        return options

    @model_validator(mode="after")
    def _consistent(self) -> Engine:
        if problems := tuple(self._problems()):
            raise BrokenRules(problems)
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.simulated is not None and self.kind != "simulated":
            yield Problem(
                "simulated", f"the engine is {self.kind}", "kind: simulated beside it, or no simulated section"
            )
        if self.enable_auto_tool_choice and self.tool_call_parser is None:
            yield Problem("enableAutoToolChoice", "needs a parser for the model's calls", "toolCallParser beside it")
        if None not in (self.max_num_seqs, self.max_num_batched_tokens):
            yield from self._batch_problems(self.max_num_seqs or 0, self.max_num_batched_tokens or 0)

    def _batch_problems(self, sequences: int, tokens: int) -> Iterator[Problem]:
        if tokens < sequences:
            yield Problem(
                "maxNumBatchedTokens",
                f"{tokens} is less than maxNumSeqs, {sequences}",
                "a token for each request at least",
            )


def _plain(value: object) -> object:
    return value.bytes if isinstance(value, ByteSize) else value
