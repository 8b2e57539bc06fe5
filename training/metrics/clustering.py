"""Metrics of clusters beside known classes, whatever the clusters are called."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["adjusted_rand_index", "normalized_mutual_information"]

Array = npt.NDArray[Any]


def adjusted_rand_index(target: Array, cluster: Array) -> float:
    """Share of pairs of rows that are together or apart in both, corrected for chance.

    Source: Hubert and Arabie, 1985.

    >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]))
    1.0
    """
    table = _contingency(target, cluster)
    pairs = _pairs(table).sum()
    classes, clusters = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    total = _pairs(np.array([len(target)]))[0]
    expected = classes * clusters / total if total else 0.0
    most = (classes + clusters) / 2
    return 1.0 if most == expected else float((pairs - expected) / (most - expected))


def normalized_mutual_information(target: Array, cluster: Array) -> float:
    """Information that clusters and classes share, beside the mean of what each has.

    >>> normalized_mutual_information(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    0.0
    """
    joint = _contingency(target, cluster) / len(target)
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    mean = (_entropy(rows) + _entropy(columns)) / 2
    if mean == 0:
        return 1.0
    held = joint > 0
    shared = np.sum(joint[held] * np.log(joint[held] / np.outer(rows, columns)[held]))
    return max(0.0, float(shared / mean))


def _contingency(target: Array, cluster: Array) -> Array:
    _, rows = np.unique(target, return_inverse=True)
    _, columns = np.unique(cluster, return_inverse=True)
    width = columns.max() + 1
    counts = np.bincount(rows * width + columns, minlength=(rows.max() + 1) * width)
    table: Array = counts.reshape(-1, width)
    return table


def _pairs(counts: Array) -> Array:
    numbers: Array = counts.astype(np.float64)
    pairs: Array = numbers * (numbers - 1) / 2
    return pairs


def _entropy(shares: Array) -> float:
    held = shares[shares > 0]
    return float(-np.sum(held * np.log(held)))
