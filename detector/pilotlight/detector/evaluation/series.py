"""Labelled series of metrics for the evaluation: `.npz` files with `train`, `test` and `test_label`."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Flags = NDArray[np.bool_]

LARGEST_FILE = 2**28
_NEEDED = ("train", "test", "test_label")


class SeriesRefused(ValueError):  # noqa: N818 - a verdict, not a failure
    """Files that are no labelled series; the message names the file, what is wrong and what was expected."""


@dataclass(frozen=True)
class Series:
    """One entity: rows in time, metrics in columns; `test` follows `train`."""

    name: str
    train: Rows
    test: Rows
    labels: Flags
    """One per row of `test`."""


def read_folder(folder: Path) -> list[Series]:
    """Every `.npz` of `folder` by name. Raises SeriesRefused."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix == ".npz")
    except OSError as error:
        raise SeriesRefused(f"cannot read {folder}: {error.strerror}") from error
    if not files:
        raise SeriesRefused(f"{folder} holds no .npz file; expected one per entity with {', '.join(_NEEDED)}")
    return [read_file(file) for file in files]


def read_file(file: Path) -> Series:
    """Raises SeriesRefused."""
    if file.stat().st_size > LARGEST_FILE:
        raise SeriesRefused(f"{file} is larger than {LARGEST_FILE >> 20} MiB")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            missing = [name for name in _NEEDED if name not in arrays]
            if missing:
                raise SeriesRefused(f"{file} lacks {', '.join(missing)}; it holds {', '.join(arrays)}")
            train, test, labels = (np.asarray(arrays[name]) for name in _NEEDED)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:  # TypeError: an array alone
        if isinstance(error, SeriesRefused):
            raise
        raise SeriesRefused(f"{file} is no readable .npz: {error}") from error
    _check(file, train, test, labels)
    return Series(file.stem, train.astype(np.float64), test.astype(np.float64), labels.astype(bool))


def _check(file: Path, train: NDArray[np.generic], test: NDArray[np.generic], labels: NDArray[np.generic]) -> None:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or not len(train) or not len(test):
        raise SeriesRefused(
            f"{file}: expected train and test of shape (rows, metrics), found {train.shape} and {test.shape}"
        )
    if labels.shape != test.shape[:1]:
        raise SeriesRefused(f"{file}: expected test_label of shape {test.shape[:1]}, found {labels.shape}")
    for name, values in (("train", train), ("test", test)):
        if not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
            raise SeriesRefused(f"{file}: {name} holds what is no finite number")
