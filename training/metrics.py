"""Metrics of predictions, vectorised, equal to scikit-learn's, and the lines a job prints.

Every function takes n labels and n predictions as arrays and returns one float. Classes are given
as labels (`accuracy`, `f1` …) or as probabilities of class 1 (`auc`, `logloss`). Where a class has
no member or no prediction its precision or recall is 0, as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "ON_CLASSES",
    "ON_VALUES",
    "accuracy",
    "auc",
    "balanced_accuracy",
    "f1",
    "f1_binary",
    "larger_is_better",
    "logloss",
    "mae",
    "mape",
    "mse",
    "precision",
    "precision_macro",
    "precision_micro",
    "progress_line",
    "quality_line",
    "r2",
    "recall",
    "recall_macro",
    "recall_micro",
    "rmse",
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


def mse(target: Array, predicted: Array) -> float:
    """Mean squared error."""
    return float(np.mean(_error(target, predicted) ** 2))


def rmse(target: Array, predicted: Array) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(mse(target, predicted)))


def mae(target: Array, predicted: Array) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(_error(target, predicted))))


def mape(target: Array, predicted: Array) -> float:
    """Mean absolute error relative to the label, as a fraction."""
    size = np.maximum(np.abs(np.asarray(target, np.float64)), np.finfo(np.float64).eps)
    return float(np.mean(np.abs(_error(target, predicted)) / size))


def r2(target: Array, predicted: Array) -> float:
    """Share of the label's variance that is explained; for constant labels 1 when exact, else 0."""
    target = np.asarray(target, np.float64)
    residual = float(np.sum(_error(target, predicted) ** 2))
    total = float(np.sum((target - target.mean()) ** 2))
    if total == 0:
        return float(residual == 0)
    return 1 - residual / total


ON_CLASSES: Mapping[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "f1_binary": f1_binary,
    "f1_macro": f1,
    "precision": precision,
    "precision_macro": precision_macro,
    "precision_micro": precision_micro,
    "recall": recall,
    "recall_macro": recall_macro,
    "recall_micro": recall_micro,
}
"""Metrics of predicted classes, by SageMaker's names."""

ON_VALUES: Mapping[str, Callable[[Array, Array], float]] = {
    "mae": mae,
    "mape": mape,
    "mse": mse,
    "r2": r2,
    "rmse": rmse,
}
"""Metrics of predicted values, by SageMaker's names."""

_LARGER_IS_BETTER = frozenset({*ON_CLASSES, "auc", "aucpr", "map", "ndcg", "pre", "r2"})


def larger_is_better(metric: str) -> bool:
    """Whether a metric is maximised, by its name without channel; `ndcg@5` counts as `ndcg`.

    >>> larger_is_better("auc"), larger_is_better("ndcg@5"), larger_is_better("rmse")
    (True, True, False)
    """
    return metric.split("@")[0] in _LARGER_IS_BETTER


def quality_line(name: str, value: float, *, epoch: int | None = None, host: str = "algo-1") -> str:
    """Write a metric the way SageMaker's log scrapers expect it.

    >>> quality_line("validation:auc", 0.91)
    '#quality_metric: host=algo-1, validation auc <score>=0.91'
    >>> quality_line("train:rmse", 0.5, epoch=3)
    '#quality_metric: host=algo-1, epoch=3, train rmse <loss>=0.5'
    """
    channel, _, metric = name.rpartition(":")
    at = "" if epoch is None else f" epoch={epoch},"
    kind = "score" if larger_is_better(metric) else "loss"
    return f"#quality_metric: host={host},{at} {channel} {metric} <{kind}>={value:.10g}"


def progress_line(percent: int, *, host: str = "algo-1") -> str:
    """Write how far a job is the way SageMaker's algorithms do.

    >>> progress_line(40)
    '#progress_metric: host=algo-1, completed 40 %'
    """
    return f"#progress_metric: host={host}, completed {percent} %"


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


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _divide(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _error(target: Array, predicted: Array) -> Array:
    return np.asarray(target, np.float64) - np.asarray(predicted, np.float64)
