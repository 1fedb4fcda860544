"""Running a trained model with numpy alone: scoring a tick needs no torch, and starts as fast as the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.float32]]

REACH = 8.0
"""Inputs are clipped here, in widths; what lies beyond is residual."""


@dataclass(frozen=True)
class Network:
    """The mean path through `vae.Network` with the same names of weights."""

    weights: Weights

    @property
    def metrics(self) -> int:
        return len(self.weights["mean.bias"])

    @property
    def conditions(self) -> int:
        return int(self.weights["enter.weight"].shape[1]) - 2 * self.metrics

    def residuals(self, rows: Rows, conditions: Rows) -> Rows:
        """What the model did not expect, in widths; NaN where a row is.

        Args:
            rows: Scaled metrics of shape (rows, metrics); NaN is unknown.
            conditions: Scaled load of shape (rows, conditions); NaN is unknown and counts as usual.
        """
        known = np.isfinite(rows)
        given = clipped(conditions)
        code = self._encode(np.concatenate((clipped(rows), known.astype(np.float32), given), axis=1))
        expected = self._decode(np.concatenate((code, given), axis=1))
        return np.where(known, rows - expected, np.nan)

    def _encode(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        inner = _silu(self._layer("encode", _silu(self._layer("enter", inputs))))
        codes = self._layer("code", inner)
        return codes[:, : codes.shape[1] // 2]

    def _decode(self, codes: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._layer("mean", _silu(self._layer("decode", _silu(self._layer("leave", codes)))))

    def _layer(self, name: str, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(inputs @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"])


def clipped(rows: Rows) -> NDArray[np.float32]:
    """Rows as the model reads them: within reach, unknown as the usual 0."""
    return np.clip(np.nan_to_num(rows, nan=0.0, posinf=REACH, neginf=-REACH), -REACH, REACH).astype(np.float32)


def _silu(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(values / (1 + np.exp(-values)))
