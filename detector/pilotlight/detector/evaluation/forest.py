"""Isolation forest (Liu, Ting and Zhou, ICDM 2008), for comparison: rows that random cuts isolate early are odd."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Vector = NDArray[np.float64]

TREES = 100
SAMPLE = 256


@dataclass(frozen=True)
class _Tree:
    """A complete binary tree in arrays: children of node i are 2i + 1 and 2i + 2."""

    metric: NDArray[np.intp]
    cut: Vector
    depth: Vector
    """At a leaf its depth and what its rows would still take; NaN where the tree goes on."""


def forest_scores(train: Rows, rows: Rows, generator: np.random.Generator) -> Vector:
    """Scores 0..1 of `rows` by a forest grown on `train`, both of shape (rows, metrics)."""
    size = min(SAMPLE, len(train))
    trees = [_grow(train[generator.choice(len(train), size, replace=False)], generator) for _ in range(TREES)]
    depths = sum((_depths(tree, rows) for tree in trees), np.zeros(len(rows))) / TREES
    return np.asarray(2.0 ** (-depths / max(1.0, _expected(size))))


def _grow(sample: Rows, generator: np.random.Generator) -> _Tree:
    height = int(np.ceil(np.log2(max(2, len(sample)))))
    nodes = 2 ** (height + 1) - 1
    tree = _Tree(np.zeros(nodes, dtype=np.intp), np.zeros(nodes), np.full(nodes, np.nan))
    waiting = [(0, 0, sample)]
    while waiting:
        node, depth, rows = waiting.pop()
        low, high = rows.min(axis=0), rows.max(axis=0)
        if depth == height or len(rows) < 2 or not (high > low).any():
            tree.depth[node] = depth + _expected(len(rows))
            continue
        metric = generator.choice(np.flatnonzero(high > low))
        cut = generator.uniform(low[metric], high[metric])
        tree.metric[node], tree.cut[node] = metric, cut
        below = rows[:, metric] <= cut
        waiting += [(2 * node + 1, depth + 1, rows[below]), (2 * node + 2, depth + 1, rows[~below])]
    return tree


def _depths(tree: _Tree, rows: Rows) -> Vector:
    nodes = np.zeros(len(rows), dtype=np.intp)
    going = np.arange(len(rows))
    while len(going := going[np.isnan(tree.depth[nodes[going]])]):
        here = nodes[going]
        nodes[going] = 2 * here + 1 + (rows[going, tree.metric[here]] > tree.cut[here])
    return tree.depth[nodes]


def _expected(rows: int) -> float:
    """Mean depth of an unsuccessful search in a binary tree of so many rows."""
    if rows < 2:
        return 0.0
    return 2 * (float(np.log(rows - 1)) + float(np.euler_gamma)) - 2 * (rows - 1) / rows if rows > 2 else 1.0
