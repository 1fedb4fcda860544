"""Scores that learn by gradient: the detector's, of all entities at once, and a plain autoencoder's of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pilotlight.detector.alarming import Alarming
from pilotlight.detector.evaluation.baselines import Rows, Scores, standardised
from pilotlight.detector.evaluation.series import Series
from pilotlight.detector.model import Columns, score
from pilotlight.detector.network import Network
from pilotlight.detector.training import fit
from pilotlight.detector.vae import Settings, train

PLAIN = Settings(hidden=32, latent=8, epochs=15, rate=2e-3, variational=False)
"""An autoencoder of 32-8-32 units, 15 epochs."""


class Surprises(NamedTuple):
    """Of one entity's normal rows and of those to judge; shapes (rows, metrics)."""

    train: Rows
    test: Rows


def surprises_of(series: Sequence[Series], seed: int, minutes_per_row: float) -> list[Surprises]:
    """The detector's, with one model for all entities of as many metrics."""
    alike: dict[int, list[Series]] = defaultdict(list)
    for one in series:
        alike[one.train.shape[1]].append(one)
    found = {}
    for width, group in alike.items():
        names, columns = tuple(f"metric {place}" for place in range(width)), Columns(tuple(range(width)))
        rows = {one.name: one.train for one in group}
        model, profiles = fit(rows, names, columns, Settings(seed=seed), Alarming(minutes_per_row))
        for one in group:
            both = (model.surprises(part, profiles[one.name]) for part in (one.train, one.test))
            found[one.name] = Surprises(*both)
    return [found[one.name] for one in series]


def detector_scores(surprises: Sequence[Surprises]) -> list[Scores]:
    """The exponential of the detector's score, so that it is at least 0 as the others are."""
    return [Scores(*(np.exp(score(rows)) for rows in one)) for one in surprises]


def autoencoder_scores(series: Sequence[Series], seed: int) -> list[Scores]:
    """The mean squared residual of each row."""
    return [_autoencoder(one, seed) for one in series]


def _autoencoder(series: Series, seed: int) -> Scores:
    both = standardised(series.train, series.test)
    network = Network(train(both[0], _none(both[0]), replace(PLAIN, seed=seed)))
    return Scores(*(np.mean(network.residuals(rows, _none(rows)) ** 2, axis=1) for rows in both))


def _none(rows: Rows) -> Rows:
    """No load is known of entities whose metrics have no names."""
    return np.empty((len(rows), 0))
