"""Training of the variational autoencoder, the one module that needs torch; `network.py` runs what it makes.

After SLA-VAE (Huang et al., WWW 2022) and ControlVAE (Shao et al., ICML 2020), with two changes. Labelled incidents
push the model away only up to a margin: subtracting their likelihood, as SLA-VAE does, has no lower bound. And load is
given to both halves as a condition that is not reconstructed, so that much traffic is no anomaly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pilotlight.detector.network import Weights, clipped

Rows = NDArray[np.float64]

LARGEST_GRADIENT = 5.0
LEAST_BETA = 1e-4


@dataclass(frozen=True)
class Settings:
    """How the model is built and trained; the defaults are those of the evaluation."""

    hidden: int = 64
    latent: int = 8
    epochs: int = 10
    batch: int = 512
    rate: float = 3e-3
    kl_target: float = 10.0
    """Nats that the code of a row may hold on average; beta is steered there (SLA-VAE's target)."""
    margin: float = 6.0
    """Negative log-likelihood per metric, in nats, that a labelled row should have at least."""
    variational: bool = True
    """False: a plain autoencoder without noise and KL term, for comparison."""
    seed: int = 0


class _Batch(NamedTuple):
    """What the network reads; first dimension: rows."""

    rows: Tensor
    known: Tensor
    """1 where a metric is known, else 0."""
    given: Tensor
    """The condition."""

    def at(self, places: Tensor) -> _Batch:
        return _Batch(*(part[places] for part in self))


class _Network(nn.Module):
    """Two hidden layers to the code and two back; keys of `state_dict` are what `network.py` reads."""

    def __init__(self, metrics: int, conditions: int, settings: Settings) -> None:
        super().__init__()
        hidden, latent = settings.hidden, settings.latent
        self.enter = nn.Linear(2 * metrics + conditions, hidden)
        self.encode = nn.Linear(hidden, hidden)
        self.code = nn.Linear(hidden, 2 * latent)
        self.leave = nn.Linear(latent + conditions, hidden)
        self.decode = nn.Linear(hidden, hidden)
        self.mean = nn.Linear(hidden, metrics)
        self.log_variance = nn.Parameter(torch.zeros(metrics))

    def cost(self, batch: _Batch, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood per known metric, and the KL term; both of shape (rows,)."""
        rows, known, given = batch
        inner = functional.silu(self.enter(torch.cat((rows, known, given), dim=1)))
        centre, log_width = self.code(functional.silu(self.encode(inner))).chunk(2, dim=1)
        log_width = log_width.clamp(-8, 4)
        code = centre if noise is None else centre + noise * torch.exp(log_width / 2)
        outer = functional.silu(self.leave(torch.cat((code, given), dim=1)))
        expected = self.mean(functional.silu(self.decode(outer)))
        log_variance = self.log_variance.clamp(-6, 4)
        unlikely = 0.5 * ((rows - expected) ** 2 * torch.exp(-log_variance) + log_variance) * known
        kl = 0.5 * (centre**2 + log_width.exp() - 1 - log_width).sum(dim=1)
        return unlikely.sum(dim=1) / known.sum(dim=1).clamp(min=1), kl


@dataclass
class _Beta:
    """ControlVAE's proportional-integral controller of the KL term's weight."""

    target: float
    proportional: float = 0.01
    integral: float = 1e-4
    summed: float = 0.0
    value: float = 0.0

    def step(self, kl: float) -> float:
        error = self.target - kl
        if (self.value > LEAST_BETA or error < 0) and (self.value < 1 or error > 0):  # no wind-up at the bounds
            self.summed += error
        steered = self.proportional / (1 + np.exp(np.clip(error, -50, 50))) - self.integral * self.summed
        self.value = float(np.clip(steered, LEAST_BETA, 1.0))
        return self.value


def train(rows: Rows, conditions: Rows, settings: Settings, incidents: tuple[Rows, Rows] | None = None) -> Weights:
    """Weights for `network.Network`, the same for the same arguments on the same machine.

    Args:
        rows: Scaled normal metrics of shape (rows, metrics), of all revisions; NaN is unknown.
        conditions: Scaled load of shape (rows, conditions).
        settings: How.
        incidents: Rows and conditions of labelled incidents.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = _Network(rows.shape[1], conditions.shape[1], settings)
    normal, odd = _tensors(rows, conditions), None if incidents is None else _tensors(*incidents)
    batches = list(_batches(len(rows), settings, generator))
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(batches))
    beta = _Beta(settings.kl_target)
    for chosen in batches:
        loss = _normal_loss(network, normal.at(chosen), settings, beta, generator)
        if odd is not None:
            loss = loss + _incident_loss(network, odd, settings, generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimiser.step()
        slower.step()
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}


def _batches(count: int, settings: Settings, generator: torch.Generator) -> Iterator[Tensor]:
    for _ in range(settings.epochs):
        yield from torch.split(torch.randperm(count, generator=generator), settings.batch)


def _tensors(rows: Rows, conditions: Rows) -> _Batch:
    known = np.isfinite(rows).astype(np.float32)
    return _Batch(*(torch.from_numpy(part) for part in (clipped(rows), known, clipped(conditions))))


def _normal_loss(
    network: _Network, batch: _Batch, settings: Settings, beta: _Beta, generator: torch.Generator
) -> Tensor:
    """The evidence lower bound, per metric, with the weighted KL term."""
    unlikely, kl = network.cost(batch, _noise(len(batch.rows), settings, generator))
    if not settings.variational:
        return unlikely.mean()
    mean = kl.mean()
    return unlikely.mean() + beta.step(float(mean.detach())) / batch.rows.shape[1] * mean


def _incident_loss(network: _Network, odd: _Batch, settings: Settings, generator: torch.Generator) -> Tensor:
    """A hinge: zero from `margin` on."""
    chosen = torch.randint(len(odd.rows), (min(settings.batch, len(odd.rows)),), generator=generator)
    unlikely, _ = network.cost(odd.at(chosen), _noise(len(chosen), settings, generator))
    return functional.relu(settings.margin - unlikely).mean()


def _noise(rows: int, settings: Settings, generator: torch.Generator) -> Tensor | None:
    return torch.randn(rows, settings.latent, generator=generator) if settings.variational else None
