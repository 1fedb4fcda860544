"""Expected latencies from first principles: what a step must read, compute and synchronise, by the device's datasheet.

The roofline bound (Williams, Waterman, Patterson 2009: time = work / attainable rate) with attainable rates below the
datasheet's, and fixed costs per layer. One step serves `batch` sequences:

    step = layers * overhead                          kernels that are launched whatever the batch
         + (dense weights + experts touched) / bandwidth
         + batch * context * KV bytes per token / bandwidth of attention
         + batch * 2 * active parameters / arithmetic
         + batch * prompt / answer * prefill of one token      (closed loop: each answer brings a prompt)

With n experts of which k serve a token, T tokens touch n * (1 - (1 - k/n)^T) of them if each chooses alone. Tokens of
one batch choose alike, so T counts less (`spread`). What only scales all of it is left to one measurement; what shapes
it was fitted to public measurements: docs/recommender.md has the figures, also for models left out of the fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pilotlight.recommender.accelerators import Accelerator
from pilotlight.recommender.shape import ModelShape


@dataclass(frozen=True)
class Rates:
    """Attainable shares of the datasheet's rates, and costs it does not name; fitted, see the module."""

    bandwidth: float = 0.7
    attention_bandwidth: float = 0.4
    arithmetic: float = 0.5
    layer: float = 40e-6
    """Seconds per dense layer and step."""
    expert_layer: float = 100e-6
    """Seconds per layer with experts and step: routing, sorting, more kernels."""
    collective: float = 10e-6
    """Seconds per layer and step where devices exchange results."""
    spread: float = 0.6
    """Independent choices of experts per token."""
    front: float = 25e-3
    """Seconds from request to queue: HTTP, tokenizer, first scheduling."""
    lone_prompt: float = 3.5
    """Time of a prompt on its own by that of the same tokens in full batches."""
    interference: float = 0.085
    """Prompts of others that a prompt waits for, per stream."""


PROCESSORS = Rates(bandwidth=0.8, attention_bandwidth=0.3, arithmetic=0.5, layer=200e-6, expert_layer=500e-6)
"""Of an engine on processors; guesses that no measurement shaped: their bandwidth and arithmetic are probed."""


@dataclass(frozen=True)
class Setup:
    """A model on accelerators, and the requests it gets."""

    shape: ModelShape
    accelerator: Accelerator
    prompt: float
    """Mean tokens."""
    answer: float
    """Mean tokens."""
    tensor_parallel: int = 1
    data_parallel: int = 1
    """Copies of the attention part, each with `batch` sequences of its own; experts are spread over all of a layer."""
    pipeline: int = 1
    """Stages that layers are spread over. Requests are in as many groups, which take turns: each token passes all
    layers, in the company of its own group."""
    kv_bytes: float = 2.0
    """Per cached value."""
    number_format: str = "bf16"
    """In which matrices are multiplied."""
    resident: float = math.inf
    """Requests per copy whose KV cache fits at their full length: `memory.resident`."""
    rates: Rates = field(default=Rates())

    @property
    def breadth(self) -> int:
        """Devices that work on one layer."""
        return self.tensor_parallel * self.data_parallel

    @property
    def devices(self) -> int:
        return self.breadth * self.pipeline


@dataclass(frozen=True)
class Step:
    """Seconds of one decoding step by cause."""

    overhead: float
    weights: float
    attention: float
    arithmetic: float
    prefill: float

    @property
    def seconds(self) -> float:
        return self.overhead + self.weights + self.attention + self.arithmetic + self.prefill


def step(setup: Setup, batch: float) -> Step:
    """One step at `batch` concurrent requests per copy; no more run at once than the KV cache holds.

    Of stages each has a group, of one request at least where there are fewer than stages.
    """
    running = max(min(1.0, batch), min(batch, setup.resident) / setup.pipeline)
    shape, rates = setup.shape, setup.rates
    context = setup.prompt + setup.answer / 2
    return Step(
        overhead=shape.layers * _layer_seconds(setup),
        weights=_weights_read(setup, running) / (setup.accelerator.bandwidth * rates.bandwidth),
        attention=running * _kv_read(setup, context) / (setup.accelerator.bandwidth * rates.attention_bandwidth),
        arithmetic=running * _token_seconds(setup),
        prefill=running / setup.answer * prefill(setup, setup.prompt),
    )


def itl(setup: Setup, batch: float) -> float:
    """Expected seconds between tokens of one request, `batch` of them in a closed loop."""
    return step(setup, batch).seconds


def ttft(setup: Setup, tokens: float, batch: float) -> float:
    """Expected seconds to the first token of a prompt of `tokens`: g + d * tokens * batch, and the queue.

    Where more requests are open than the KV cache holds, the rest wait for one to end (Little's law).
    """
    rates = setup.rates
    gap = itl(setup, batch)
    own = prefill(setup, tokens) * (rates.lone_prompt + rates.interference * batch)
    queue = max(0.0, batch / setup.resident - 1) * setup.answer * gap
    return rates.front + gap + own + queue


def throughput(setup: Setup, batch: float) -> float:
    """Expected tokens generated per second and device, `batch` requests per copy in a closed loop."""
    whole = ttft(setup, setup.prompt, batch) + max(0.0, setup.answer - 1) * itl(setup, batch)
    return setup.data_parallel * batch * setup.answer / whole / setup.devices


def prefill(setup: Setup, tokens: float) -> float:
    """Seconds that a prompt adds to the steps that carry it: its matrices, and attention over half of itself."""
    shape = setup.shape
    attention = 4 * shape.attention_layers * shape.attention_width * tokens / 2 / setup.tensor_parallel
    seconds = attention / (setup.accelerator.arithmetic("bf16") * setup.rates.arithmetic)
    return tokens * (_token_seconds(setup) + seconds)


def _layer_seconds(setup: Setup) -> float:
    rates = setup.rates
    own = rates.expert_layer if setup.shape.expert_parameters else rates.layer
    return own + (rates.collective if setup.breadth > 1 else 0.0)


def _dense_bytes(setup: Setup) -> float:
    return (setup.shape.dense_bytes + setup.shape.head_bytes) / setup.tensor_parallel


def _weights_read(setup: Setup, running: float) -> float:
    shape = setup.shape
    if not shape.expert_parameters:
        return _dense_bytes(setup)
    tokens = running * setup.data_parallel * setup.rates.spread
    touched = 1 - math.pow(1 - shape.expert_share, tokens)
    return _dense_bytes(setup) + shape.expert_bytes / setup.breadth * max(shape.expert_share, touched)


def _kv_read(setup: Setup, context: float) -> float:
    """Bytes of one sequence's cache on one device; heads are repeated where there are fewer than devices."""
    shape = setup.shape
    values = shape.kv_values * context + shape.windowed_kv_values * min(context, shape.window)
    cached = values * setup.kv_bytes * math.ceil(shape.kv_heads / setup.tensor_parallel) / shape.kv_heads
    return cached + shape.state_values * setup.kv_bytes / setup.tensor_parallel


def _token_seconds(setup: Setup) -> float:
    """Arithmetic of one token in a full batch, over the devices of one copy's share."""
    rate = setup.accelerator.arithmetic(setup.number_format) * setup.rates.arithmetic
    return 2 * setup.shape.active_parameters / setup.tensor_parallel / rate
