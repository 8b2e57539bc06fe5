"""The threshold of a two-class model, and which model is best, by one sweep over sorted scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

__all__ = ["CRITERIA", "Choice", "choose"]

Array = npt.NDArray[Any]

CRITERIA: Final = (
    "accuracy",
    "f1",
    "f_beta",
    "precision_at_target_recall",
    "recall_at_target_precision",
    "cross_entropy_loss",
    "loss_function",
)


@final
@dataclass(frozen=True)
class Choice:
    """A threshold, and what it reaches.

    Attributes:
        threshold: rows with a score at or above it are of class 1.
        value: of the criterion; larger is better.
    """

    threshold: float
    value: float


def choose(
    target: Array,
    score: Array,
    criterion: str,
    *,
    beta: float = 1.0,
    precision: float = 0.8,
    recall: float = 0.8,
    prefer: float = 0.5,
) -> Choice:
    """Find the best threshold of scores for a criterion, in O(n log n).

    Of thresholds that do as well it is the one nearest to `prefer`, which is itself the threshold
    where it does as well; else it lies in the middle between two scores. For
    `precision_at_target_recall` only thresholds that reach the recall count, for
    `recall_at_target_precision` only those that reach the precision; where none does, the one that
    comes nearest to it.

    Args:
        target: n labels 0 and 1.
        score: n scores.
        criterion: accuracy, f1, f_beta, precision_at_target_recall or recall_at_target_precision.
        beta: of f_beta.
        precision: the one aimed at.
        recall: the one aimed at.
        prefer: the threshold that scores of this kind have by nature.

    >>> choose(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.6, 0.9]), "accuracy")
    Choice(threshold=0.5, value=1.0)
    """
    positive = np.asarray(target) > 0.5
    order = np.argsort(-np.asarray(score), kind="stable")
    ranked = np.asarray(score, np.float64)[order]
    last = np.concatenate([np.flatnonzero(np.diff(ranked)), [len(ranked) - 1]])
    hits = np.cumsum(positive[order])[last].astype(np.float64)
    taken = last + 1.0
    # Also the threshold that takes no row at all.
    hits, taken = np.concatenate([[0.0], hits]), np.concatenate([[0.0], taken])
    thresholds = np.concatenate([[np.inf], ranked[last]])
    actual, total = float(positive.sum()), len(positive)
    precisions = np.divide(hits, taken, out=np.zeros(len(hits)), where=taken > 0)
    recalls = hits / actual if actual else np.zeros(len(hits))
    values = _values(criterion, hits, taken, actual, total, beta)
    if values is None:
        aim, values = (
            (recalls - recall, precisions)
            if criterion == "precision_at_target_recall"
            else (precisions - precision, recalls)
        )
        reached = aim >= 0
        values = np.where(reached, values, -np.inf) if reached.any() else aim
    # A threshold takes the same rows anywhere above the next lower score, up to the lowest taken.
    below = np.concatenate([ranked[last], [-np.inf]])
    tied = np.flatnonzero(values >= values.max())
    distance = np.maximum(below[tied] - prefer, 0) + np.maximum(prefer - thresholds[tied], 0)
    best = int(tied[np.argmin(distance)])
    low, high = float(below[best]), float(thresholds[best])
    if low < prefer <= high:
        return Choice(prefer, float(values[best]))
    return Choice(_between(low, high), float(values[best]))


def _values(
    criterion: str, hits: Array, taken: Array, actual: float, total: int, beta: float
) -> Array | None:
    if criterion == "accuracy":
        values: Array = (hits + (total - taken) - (actual - hits)) / total
        return values
    if criterion in ("f1", "f_beta"):
        weight = 1.0 if criterion == "f1" else beta**2
        below = taken + weight * actual
        return np.divide((1 + weight) * hits, below, out=np.zeros(len(hits)), where=below > 0)
    return None


def _between(low: float, high: float) -> float:
    """Return a threshold above `low` and at most `high`, in their middle where both are numbers."""
    if high == np.inf:
        return float(np.nextafter(low, np.inf))
    if low == -np.inf:
        return high
    middle = (low + high) / 2
    return middle if middle > low else high
