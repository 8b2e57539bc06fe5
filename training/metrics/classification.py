"""Metrics of predicted classes and of their probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "confusion_matrix",
    "cross_entropy",
    "f1",
    "f1_binary",
    "f_beta",
    "f_beta_macro",
    "logloss",
    "precision",
    "precision_macro",
    "precision_micro",
    "precision_recall_curve",
    "recall",
    "recall_macro",
    "recall_micro",
    "roc_curve",
    "top_k_accuracy",
]

Array = npt.NDArray[Any]


def auc(target: Array, score: Array) -> float:
    """Area under the receiver operating curve of class 1; ties count half.

    Not a number when only one class is there.

    >>> auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    positive = np.asarray(target) > 0.5
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    # The Mann–Whitney statistic on mid-ranks (Hanley and McNeil 1982).
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(rank[inverse][positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def logloss(target: Array, probability: Array) -> float:
    """Mean negative log likelihood of classes 0 and 1.

    >>> round(logloss(np.array([0, 1]), np.array([0.2, 0.8])), 6)
    0.223144
    """
    tiny = np.finfo(np.asarray(probability).dtype).eps
    p = np.clip(probability, tiny, 1 - tiny).astype(np.float64)
    target = np.asarray(target, np.float64)
    return float(-np.mean(target * np.log(p) + (1 - target) * np.log1p(-p)))


def accuracy(target: Array, predicted: Array) -> float:
    """Share of rows with the right class."""
    return float(np.mean(np.asarray(target) == np.asarray(predicted)))


def balanced_accuracy(target: Array, predicted: Array) -> float:
    """Mean recall over the classes that occur in `target`."""
    hits, _, actual = _counts(target, predicted)
    return float(np.mean(hits[actual > 0] / actual[actual > 0]))


def precision(target: Array, predicted: Array) -> float:
    """Share of right ones among the predictions of class 1."""
    return _ratio(*_binary(target, predicted)[:2])


def recall(target: Array, predicted: Array) -> float:
    """Share of class 1 that was predicted as such."""
    hits, _, actual = _binary(target, predicted)
    return _ratio(hits, actual)


def f1_binary(target: Array, predicted: Array) -> float:
    """Harmonic mean of precision and recall of class 1."""
    hits, guessed, actual = _binary(target, predicted)
    return _ratio(2 * hits, guessed + actual)


def precision_macro(target: Array, predicted: Array) -> float:
    """Mean over the classes of each one's precision."""
    hits, guessed, _ = _counts(target, predicted)
    return float(np.mean(_divide(hits, guessed)))


def recall_macro(target: Array, predicted: Array) -> float:
    """Mean over the classes of each one's recall."""
    hits, _, actual = _counts(target, predicted)
    return float(np.mean(_divide(hits, actual)))


def f1(target: Array, predicted: Array) -> float:
    """Mean over the classes of each one's harmonic mean of precision and recall.

    >>> f1(np.array([0, 1, 2, 0, 1, 2]), np.array([0, 2, 1, 0, 0, 1]))
    0.2666...
    """
    hits, guessed, actual = _counts(target, predicted)
    return float(np.mean(_divide(2 * hits, guessed + actual)))


def precision_micro(target: Array, predicted: Array) -> float:
    """Precision over all rows at once: with one class a row, the accuracy."""
    return accuracy(target, predicted)


def recall_micro(target: Array, predicted: Array) -> float:
    """Recall over all rows at once: with one class a row, the accuracy."""
    return accuracy(target, predicted)


def f_beta(target: Array, predicted: Array, beta: float = 1.0) -> float:
    """Precision and recall of class 1 weighed together; recall counts `beta` times as much.

    >>> round(f_beta(np.array([1, 1, 0, 1]), np.array([1, 0, 0, 1]), beta=2), 6)
    0.714286
    """
    hits, guessed, actual = _binary(target, predicted)
    return _ratio((1 + beta**2) * hits, guessed + beta**2 * actual)


def f_beta_macro(target: Array, predicted: Array, beta: float = 1.0) -> float:
    """Mean over the classes of each one's F-beta."""
    hits, guessed, actual = _counts(target, predicted)
    return float(np.mean(_divide((1 + beta**2) * hits, guessed + beta**2 * actual)))


def average_precision(target: Array, score: Array) -> float:
    """Mean precision over the thresholds, weighed by the recall each adds; NaN without class 1.

    >>> round(average_precision(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])), 6)
    0.833333
    """
    positive = np.asarray(target) > 0.5
    if not positive.any():
        return float("nan")
    precisions, recalls, _ = precision_recall_curve(target, score)
    return float(-np.sum(np.diff(recalls) * precisions[:-1]))


def cross_entropy(target: Array, probability: Array) -> float:
    """Mean negative log likelihood of classes numbered from 0.

    Args:
        target: n classes.
        probability: (n, classes).
    """
    rows = np.arange(len(target))
    tiny = np.finfo(np.asarray(probability).dtype).eps
    chosen = np.asarray(probability)[rows, np.asarray(target, np.int64)]
    return float(-np.mean(np.log(np.clip(chosen, tiny, 1).astype(np.float64))))


def top_k_accuracy(target: Array, score: Array, k: int) -> float:
    """Share of rows whose class is among the k with the highest scores.

    Args:
        target: n classes numbered from 0.
        score: (n, classes). Of equal scores the later class comes first, as in scikit-learn.
        k: how many count.
    """
    score = np.asarray(score)
    best = np.argsort(score, axis=1, kind="stable")[:, ::-1][:, :k]
    return float(np.mean((best == np.asarray(target)[:, None]).any(axis=1)))


def confusion_matrix(target: Array, predicted: Array) -> Array:
    """Count rows by class and predicted class, in the order of the classes that occur."""
    classes, codes = np.unique(np.concatenate([target, predicted]), return_inverse=True)
    size = len(classes)
    pairs = codes[: len(target)] * size + codes[len(target) :]
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def roc_curve(target: Array, score: Array) -> tuple[Array, Array, Array]:
    """Return false positive rates, true positive rates and thresholds, from none to all taken."""
    false, true, thresholds = _cumulated(target, score)
    with np.errstate(invalid="ignore"):
        rates = false / false[-1], true / true[-1]
    start = np.zeros(1)
    return (
        np.concatenate([start, rates[0]]),
        np.concatenate([start, rates[1]]),
        np.concatenate([[np.inf], thresholds]),
    )


def precision_recall_curve(target: Array, score: Array) -> tuple[Array, Array, Array]:
    """Return precisions, recalls and thresholds, from all rows taken to none."""
    false, true, thresholds = _cumulated(target, score)
    precisions = true / (true + false)
    recalls = true / true[-1] if true[-1] else np.ones(len(true))
    return (
        np.concatenate([precisions[::-1], [1.0]]),
        np.concatenate([recalls[::-1], [0.0]]),
        thresholds[::-1],
    )


def _counts(target: Array, predicted: Array) -> tuple[Array, Array, Array]:
    """Return hits, predictions and members of every class that occurs in either array."""
    classes, codes = np.unique(np.concatenate([target, predicted]), return_inverse=True)
    actual, guessed = codes[: len(target)], codes[len(target) :]
    size = len(classes)
    return (
        np.bincount(actual[actual == guessed], minlength=size),
        np.bincount(guessed, minlength=size),
        np.bincount(actual, minlength=size),
    )


def _binary(target: Array, predicted: Array) -> tuple[int, int, int]:
    actual, guessed = np.asarray(target) == 1, np.asarray(predicted) == 1
    return int((actual & guessed).sum()), int(guessed.sum()), int(actual.sum())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _divide(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _cumulated(target: Array, score: Array) -> tuple[Array, Array, Array]:
    """Count wrong and right ones among the rows at or above each score, from the highest down."""
    order = np.argsort(-np.asarray(score), kind="stable")
    positive = (np.asarray(target) > 0.5)[order]
    ranked = np.asarray(score)[order]
    last = np.concatenate([np.flatnonzero(np.diff(ranked)), [len(ranked) - 1]])
    true = np.cumsum(positive)[last].astype(np.float64)
    return 1 + last - true, true, ranked[last]
