"""Scores that learn by gradient: the detector's, of all entities at once, and a plain autoencoder's of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pilotlight.detector.alarming import Alarming
from pilotlight.detector.evaluation.baselines import Rows, Scores, standardised
from pilotlight.detector.evaluation.series import Series
from pilotlight.detector.model import Columns, score
from pilotlight.detector.network import Network
from pilotlight.detector.training import fit
from pilotlight.detector.vae import Settings, train

PLAIN = Settings(hidden=32, latent=8, epochs=15, rate=1e-3, variational=False)
"""An autoencoder of 32-8-32 units, 15 epochs."""


def detector_scores(series: Sequence[Series], seed: int) -> list[Scores]:
    """One model for all entities of as many metrics; the exponential of its score, so that it is at least 0."""
    alike: dict[int, list[Series]] = defaultdict(list)
    for one in series:
        alike[one.train.shape[1]].append(one)
    found = {name: scores for group in alike.values() for name, scores in _group_scores(group, seed).items()}
    return [found[one.name] for one in series]


def _group_scores(series: Sequence[Series], seed: int) -> dict[str, Scores]:
    width = series[0].train.shape[1]
    names, columns = tuple(f"metric {place}" for place in range(width)), Columns(tuple(range(width)))
    model, profiles = fit({one.name: one.train for one in series}, names, columns, Settings(seed=seed), Alarming(1))
    return {
        one.name: Scores(*(np.exp(score(model.surprises(rows, profiles[one.name]))) for rows in (one.train, one.test)))
        for one in series
    }


def autoencoder_scores(series: Sequence[Series], seed: int) -> list[Scores]:
    """The mean squared residual of each row."""
    return [_autoencoder(one, seed) for one in series]


def _autoencoder(series: Series, seed: int) -> Scores:
    both = standardised(series.train, series.test)
    network = Network(train(both[0], _none(both[0]), replace(PLAIN, seed=seed)))
    return Scores(*(np.mean(network.residuals(rows, _none(rows)) ** 2, axis=1) for rows in both))


def _none(rows: Rows) -> Rows:
    """No load is known of entities without names of metrics."""
    return np.empty((len(rows), 0))
