"""Which labels an objective takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from training.algorithms.tabular.boosting.matrix import Rows
from training.errors import InvalidData

__all__ = ["check_labels"]

Array = npt.NDArray[Any]


def check_labels(dataset: Rows, objective: str, num_class: int | None) -> None:
    """Refuse labels that the objective cannot learn from.

    Raises:
        InvalidData: the message has the row, its label and what is expected.
    """
    target = dataset.target
    if target is None:
        raise InvalidData(f"{dataset.channel}: xgboost needs a label", channel=dataset.channel)
    if objective == "survival:aft":
        _check_intervals(dataset, target)
        return
    allowed, expected = _allowed(objective, num_class)
    wrong = ~allowed(target)
    if wrong.any():
        row = int(wrong.argmax())
        raise InvalidData(
            f"{dataset.channel}: label column {dataset.label!r}: {objective} expects "
            f"{expected}, got {target[row]:g} in row {row + 1}",
            channel=dataset.channel,
            column=dataset.label,
        )


def _check_intervals(dataset: Rows, lower: Array) -> None:
    """Refuse intervals that hold no time: both ends are >= 0, and the upper one is not below."""
    upper = lower if dataset.upper is None else dataset.upper
    wrong = ~((lower >= 0) & (upper >= lower) & (upper > 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise InvalidData(
            f"{dataset.channel}: label column {dataset.label!r}: survival:aft expects times, or "
            f"intervals 0 <= lower <= upper with an upper end above 0 (infinite where open), got "
            f"{lower[row]:g} to {upper[row]:g} in row {row + 1}",
            channel=dataset.channel,
            column=dataset.label,
        )


def _allowed(
    objective: str, num_class: int | None
) -> tuple[Callable[[Array], npt.NDArray[np.bool_]], str]:
    """Return which labels an objective takes, and that in words."""
    if objective in ("binary:logistic", "binary:logitraw", "reg:logistic"):
        return lambda y: (y >= 0) & (y <= 1), "labels from 0 to 1"
    if objective == "binary:hinge":
        return lambda y: (y == 0) | (y == 1), "labels 0 and 1"
    if objective.startswith("multi:"):
        top = num_class or 2
        return (
            lambda y: (y >= 0) & (y < top) & (y == np.floor(y)),
            f"classes numbered 0 to {top - 1}",
        )
    if objective == "rank:map":
        return lambda y: (y == 0) | (y == 1), "labels 0 and 1"
    if objective == "rank:ndcg":
        # The gain of a label is 2 ** label - 1 (Burges 2010), which must stay a number.
        return (
            lambda y: (y >= 0) & (y <= 31) & (y == np.floor(y)),
            "whole numbers from 0 to 31",
        )
    if objective in ("count:poisson", "reg:tweedie", "rank:pairwise"):
        return lambda y: y >= 0, "labels >= 0"
    if objective == "reg:gamma":
        return lambda y: y > 0, "labels > 0"
    if objective == "reg:squaredlogerror":
        return lambda y: y > -1, "labels > -1"
    return lambda y: np.isfinite(y), "finite numbers"
