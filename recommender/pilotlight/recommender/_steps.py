"""What one engine step computes: how many tokens, and the memory that takes."""

from __future__ import annotations

from pilotlight.recommender import _options
from pilotlight.recommender.errors import OptionRefused
from pilotlight.recommender.facts import ModelFacts
from pilotlight.recommender.values import SizingRequest


def step_tokens(model: ModelFacts, request: SizingRequest, usual: int) -> int:
    """Tokens of one step; where a prompt cannot be split, at least the longest prompt. Raises `OptionRefused`."""
    given = _options.integer(request.overrides, "max_num_batched_tokens")
    longest = _options.integer(request.overrides, "max_model_len") or model.context
    if not model.encoder and request.overrides.get("enable_chunked_prefill") is not False:
        return given or usual
    if given is not None and given < longest:
        why = "an embedder reads whole prompts" if model.encoder else "without engine.enableChunkedPrefill"
        raise OptionRefused(
            "engine.maxNumBatchedTokens",
            f"engine.maxNumBatchedTokens is {given}, but {why}, of up to {longest} tokens here; "
            f"set it to at least {longest}, or engine.maxModelLen to at most {given}",
        )
    return given or max(usual, longest)


def most_slots(request: SizingRequest, usual: int) -> int:
    """In-flight cap; every request in flight takes a token of each step."""
    slots = _options.integer(request.overrides, "max_num_seqs")
    tokens = _options.integer(request.overrides, "max_num_batched_tokens")
    return slots or (min(usual, tokens) if tokens else usual)


def activation_bytes(model: ModelFacts, tokens: int, slots: int, width: int) -> int:
    """Peak of one step: a layer's widest tensors for every token, and the logits (float32, twice) of every sequence."""
    per_token = (max(2 * model.intermediate_size, model.routed_values) + 6 * model.hidden_size) * width
    return tokens * per_token + (0 if model.encoder else slots * model.vocabulary * 4 * 2)
