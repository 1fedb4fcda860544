"""From rows of normal operation to a model; needs torch, as nothing else here but `vae.py` does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pilotlight.detector.alarming import Alarming
from pilotlight.detector.model import Columns, Model, Profile
from pilotlight.detector.network import Network
from pilotlight.detector.scaling import scaling_of
from pilotlight.detector.vae import Settings, train

Rows = NDArray[np.float64]


def fit(
    revisions: Mapping[str, Rows],
    names: tuple[str, ...],
    columns: Columns,
    settings: Settings,
    alarming: Alarming,
    incidents: Mapping[str, Rows] | None = None,
) -> tuple[Model, dict[str, Profile]]:
    """One model for all revisions, and the profile of each.

    Args:
        revisions: Normal rows of shape (rows, metrics) by revision, at least one row each; NaN is unknown.
        names: Of the metrics.
        columns: Which of them are judged, and which are load.
        settings: How to train; equal settings and rows give equal models.
        alarming: How scores will become alarms.
        incidents: Rows of labelled incidents by revision; revisions must have normal rows too.
    """
    scalings = {name: scaling_of(rows) for name, rows in revisions.items()}
    scaled = np.concatenate([scalings[name].apply(rows) for name, rows in revisions.items()])
    odd = [scalings[name].apply(rows) for name, rows in (incidents or {}).items()]
    labelled = np.concatenate(odd) if odd else np.empty((0, len(names)))
    weights = train(
        scaled[:, columns.judged],
        scaled[:, columns.load],
        settings,
        (labelled[:, columns.judged], labelled[:, columns.load]) if len(labelled) else None,
    )
    model = Model(names, columns, Network(weights))
    return model, {name: model.profile(rows, alarming) for name, rows in revisions.items()}
