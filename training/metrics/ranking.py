"""Metrics of orders: how well high relevance stands before low."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["dcg", "mean_average_precision", "ndcg"]

Array = npt.NDArray[Any]


def dcg(relevance: Array, score: Array, *, k: int | None = None) -> float:
    """Mean discounted cumulative gain of rows of items; equal scores share their places' gain.

    Args:
        relevance: (n, items), the gain of each item.
        score: (n, items), by which they are ordered, highest first.
        k: how many places count; None: all.

    Source: Järvelin and Kekäläinen, 2002; ties as McSherry and Najork, 2008.

    >>> round(dcg(np.array([[10, 0, 0, 1, 5]]), np.array([[0.1, 0.2, 0.3, 4, 70]])), 4)
    9.4995
    """
    relevance, score = np.asarray(relevance, np.float64), np.asarray(score)
    discount = 1 / np.log2(np.arange(2, relevance.shape[1] + 2))
    if k is not None:
        discount[k:] = 0
    total = np.cumsum(discount)
    gains = []
    for gain, given in zip(relevance, score, strict=True):
        _, places, counts = np.unique(-given, return_inverse=True, return_counts=True)
        mean = np.zeros(len(counts))
        np.add.at(mean, places, gain)
        ends = np.cumsum(counts) - 1
        shared = np.diff(total[ends], prepend=0)
        gains.append(float(np.sum(mean / counts * shared)))
    return float(np.mean(gains))


def ndcg(relevance: Array, score: Array, *, k: int | None = None) -> float:
    """Mean over the rows of the discounted gain beside that of the best order; 0 without gain."""
    relevance = np.asarray(relevance, np.float64)
    rows = range(len(relevance))
    best = np.array([dcg(relevance[[i]], relevance[[i]], k=k) for i in rows])
    got = np.array([dcg(relevance[[i]], np.asarray(score)[[i]], k=k) for i in rows])
    return float(np.mean(np.divide(got, best, out=np.zeros(len(best)), where=best > 0)))


def mean_average_precision(relevance: Array, score: Array) -> float:
    """Mean over rows of the precision at the place of each relevant item; equal scores count above.

    Args:
        relevance: (n, items), 1 where an item is relevant, else 0. A row in which all are alike
            cannot be ordered badly, and counts 1.
        score: (n, items), by which they are ordered, highest first.

    Source: scikit-learn's `label_ranking_average_precision_score`.

    >>> mean_average_precision(np.array([[0, 1, 1]]), np.array([[0.9, 0.5, 0.1]])).__round__(4)
    0.5833
    """
    precisions = []
    for wanted, given in zip(np.asarray(relevance) > 0, np.asarray(score), strict=True):
        if wanted.all() or not wanted.any():
            precisions.append(1.0)
            continue
        falling = np.sort(-given)
        places = np.searchsorted(falling, -given[wanted], side="right")
        found = np.searchsorted(np.sort(-given[wanted]), -given[wanted], side="right")
        precisions.append(float(np.mean(found / places)))
    return float(np.mean(precisions))
