"""The options that the simulated engine knows, by name, type and bound."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .timing import Timing

OWN = "simulated_"
"""Names with this prefix are the simulated engine's own, all others are vLLM's."""


class OptionError(ValueError):
    """An option has an unknown name or a value that cannot be used."""


class Options(BaseModel):
    """vLLM's options keep their names, meanings and, where one fits, defaults; times are seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    max_num_seqs: int = Field(256, ge=1, le=100_000, description="sequences that run together")
    max_model_len: int = Field(4096, ge=2, le=10_000_000, description="tokens of prompt and answer together")
    block_size: int = Field(16, ge=1, le=1024, description="tokens in a block of the KV cache")
    num_gpu_blocks_override: int = Field(16_384, ge=1, le=10_000_000, description="blocks in the KV cache")
    enable_prefix_caching: bool = True
    enable_prompt_tokens_details: bool = Field(True, description="usage tells cached tokens; vLLM's own default is off")
    runner: Literal["auto", "generate", "pooling"] = "auto"
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of jitter, and of requests that bring none")

    simulated_time_scale: float = Field(1.0, ge=0, le=1000, description="multiplies every time; 0: no waiting at all")
    simulated_prefill_base_seconds: float = Field(0.02, ge=0, le=3600, description="to the first token, always")
    simulated_prefill_token_seconds: float = Field(0.0002, ge=0, le=3600, description="more, for each prompt token")
    simulated_decode_base_seconds: float = Field(0.02, ge=0, le=3600, description="of a step, always")
    simulated_decode_stream_seconds: float = Field(0.0002, ge=0, le=3600, description="more, for each stream")
    simulated_decode_token_seconds: float = Field(0.0, ge=0, le=1, description="more, for each token of the streams")
    simulated_throttle: float = Field(2.0, ge=0, le=1000, description="multiplies every time from SIGUSR1 to the next")
    simulated_jitter: float = Field(0.0, ge=0, le=1, description="half width of the spread, as a share of the time")
    simulated_mean_tokens: int = Field(128, ge=1, le=2**32, description="mean length of an answer that ends by itself")
    simulated_dimensions: int = Field(384, ge=1, le=65_536, description="of an embedding")

    simulated_import_seconds: float = Field(0.0, ge=0, le=3600, description="a start's phase `import`")
    simulated_load_seconds: float = Field(0.0, ge=0, le=3600, description="a start's phase `load`")
    simulated_warmup_seconds: float = Field(0.0, ge=0, le=3600, description="a start's phase `warmup`")

    simulated_fail_phase: Literal["", "import", "load", "warmup"] = Field("", description="the start fails in it")
    simulated_fail_code: int = Field(1, ge=1, le=255, description="exit status of a failed start or a crash")
    simulated_fail_message: str = Field("simulated failure", max_length=1000, description="last line of a failed start")
    simulated_crash_after_requests: int | None = Field(None, ge=0, description="the next one after these kills it")
    simulated_crash_after_tokens: int | None = Field(None, ge=1, description="made in all, over all sequences")
    simulated_stall_requests: int = Field(0, ge=0, description="the first so many never get an answer")
    simulated_error_requests: int = Field(0, ge=0, description="the first so many get status 500")
    simulated_drop_requests: int = Field(0, ge=0, description="of the first so many the connection is cut")
    simulated_drop_after_tokens: int = Field(0, ge=0, description="tokens that such a stream sends before")

    @property
    def timing(self) -> Timing:
        return Timing(
            prefill_base=self.simulated_prefill_base_seconds,
            prefill_token=self.simulated_prefill_token_seconds,
            decode_base=self.simulated_decode_base_seconds,
            decode_stream=self.simulated_decode_stream_seconds,
            decode_token=self.simulated_decode_token_seconds,
            jitter=self.simulated_jitter,
            scale=self.simulated_time_scale,
            seed=self.seed,
        )


def read_options(options: Mapping[str, object]) -> Options:
    """Check options; `None` counts as not given, vLLM's options without a meaning here are passed over.

    Raises `OptionError` with the option, the problem and, for a misspelt name, the nearest one.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name.startswith(OWN) and name not in Options.model_fields:
            nearest = get_close_matches(name, Options.model_fields, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise OptionError(f"the simulated engine has no option {name}{hint}")
    try:
        return Options.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise OptionError(f"option {first['loc'][0]} = {first['input']!r}: {first['msg']}") from error
