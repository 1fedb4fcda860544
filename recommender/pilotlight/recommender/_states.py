"""State spaces, gated delta rules and short convolutions: their weights, and the state that one sequence keeps.

A sequence's state has the same size however long it is, so it bounds how many sequences run, not how many tokens.
Shapes: vLLM 0.32, model_executor/layers/mamba/mamba_utils.py (MambaStateShapeCalculator).
"""

from __future__ import annotations

from dataclasses import dataclass

from pilotlight.recommender._config import Config, model_type, need, number, truth
from pilotlight.recommender._units import ceil_div
from pilotlight.recommender._weights import matrix

_FIRST_KIND = frozenset({"mamba", "falcon_mamba", "jamba"})


@dataclass(frozen=True)
class StateSpace:
    """One layer; values, not bytes."""

    parameters: int
    convolution: int  # values of a sequence's convolution state
    recurrent: int  # values of its recurrent state
    checkpoints: int = 0  # further states of a sequence that the engine may write while it reads a prompt


def _key(config: Config, *keys: str) -> int:
    for key in keys:
        value = number(config, key)
        if value is not None:
            return value
    return need(config, keys[0])


def mamba(config: Config) -> StateSpace:
    return _mamba1(config) if model_type(config) in _FIRST_KIND else _mamba2(config)


def _mamba1(config: Config) -> StateSpace:
    hidden = need(config, "hidden_size")
    inner = hidden * (number(config, "mamba_expand") or number(config, "expand") or 2)
    state, kernel = _key(config, "mamba_d_state", "state_size"), _key(config, "mamba_d_conv", "conv_kernel")
    rank = number(config, "mamba_dt_rank") or number(config, "time_step_rank") or ceil_div(hidden, 16)
    bias = truth(config, "mamba_proj_bias") or truth(config, "use_bias")
    convolution = inner * kernel + (
        inner if truth(config, "mamba_conv_bias", truth(config, "use_conv_bias", True)) else 0
    )
    normed = rank + 2 * state if model_type(config) == "jamba" else 0
    parameters = (
        matrix(2 * inner, hidden, bias=bias)
        + convolution
        + matrix(rank + 2 * state, inner)
        + matrix(inner, rank, bias=True)
        + inner * state  # A
        + inner  # D
        + matrix(hidden, inner, bias=bias)
        + normed
    )
    return StateSpace(parameters, (kernel - 1) * inner, inner * state)


def _mamba2(config: Config) -> StateSpace:
    hidden = need(config, "hidden_size")
    expand = number(config, "mamba_expand") or number(config, "expand") or 2
    inner = number(config, "mamba_d_ssm") or hidden * expand
    count, state = _key(config, "mamba_n_heads", "num_heads"), _key(config, "mamba_d_state", "state_size")
    groups, kernel = _key(config, "mamba_n_groups", "n_groups"), _key(config, "mamba_d_conv", "conv_kernel")
    bias = truth(config, "mamba_proj_bias") or truth(config, "use_bias")
    mixed = inner + 2 * groups * state
    biased = truth(config, "mamba_conv_bias", truth(config, "use_conv_bias", True))
    normed = 0 if model_type(config) == "falcon_h1" and not truth(config, "mamba_rms_norm") else inner
    parameters = (
        matrix(inner + mixed + count, hidden, bias=bias)
        + mixed * kernel
        + (mixed if biased else 0)
        + 3 * count  # time step, A, D
        + normed
        + matrix(hidden, inner, bias=bias)
    )
    return StateSpace(parameters, (kernel - 1) * mixed, inner * state, checkpoints=1)


def delta(config: Config) -> StateSpace:
    """Gated delta rule, as in Qwen3-Next."""
    hidden, kernel = need(config, "hidden_size"), need(config, "linear_conv_kernel_dim")
    keys, values = need(config, "linear_num_key_heads"), need(config, "linear_num_value_heads")
    key_size, value_size = need(config, "linear_key_head_dim"), need(config, "linear_value_head_dim")
    mixed = 2 * keys * key_size + values * value_size
    parameters = (
        matrix(mixed + values * value_size + 2 * values, hidden)
        + mixed * kernel
        + 2 * values  # time step, A
        + value_size  # norm
        + matrix(hidden, values * value_size)
    )
    return StateSpace(parameters, (kernel - 1) * mixed, values * key_size * value_size)


def convolution(config: Config) -> StateSpace:
    """LFM2's gated short convolution."""
    hidden, kernel, bias = need(config, "hidden_size"), need(config, "conv_L_cache"), truth(config, "conv_bias")
    parameters = (
        matrix(3 * hidden, hidden, bias=bias) + matrix(hidden, kernel, bias=bias) + matrix(hidden, hidden, bias=bias)
    )
    return StateSpace(parameters, (kernel - 1) * hidden, 0)
