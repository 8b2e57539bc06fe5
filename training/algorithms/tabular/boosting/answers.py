"""What a reply may hold besides the score: labels and probabilities, chosen by key."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithms.tabular.boosting.measures import classes_of
from training.errors import InvalidJob, nearest

__all__ = ["KEYS", "answers", "check_keys"]

Array = npt.NDArray[Any]

_LABELS: Final = ("predicted_label", "labels")
_PROBABILITIES: Final = ("probability", "probabilities")
_SCORES: Final = ("raw_score", "raw_scores")
KEYS: Final = (*_LABELS, *_PROBABILITIES, *_SCORES, "predicted_score")


def check_keys(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of keys, in its order.

    Raises:
        InvalidJob: there is no such key.

    >>> check_keys("predicted_label, probability")
    ('predicted_label', 'probability')
    """
    keys = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for key in keys:
        if key not in KEYS:
            raise InvalidJob(
                f"SAGEMAKER_INFERENCE_OUTPUT: there is no {key!r}{nearest(key, KEYS)}; allowed are "
                f"{', '.join(KEYS)}",
                field="Environment",
            )
    return keys


def answers(scores: Array, keys: Sequence[str], *, objective: str, num_class: int) -> pa.Table:
    """Answer n rows with the keys asked for, in their order.

    Of two classes, lists are of class 0 and class 1, whose score or probability is the `score`;
    `probability` and `raw_score` are those of class 1. Of several classes, they are those of the
    predicted class. A key without a meaning for the objective is NaN in each row.

    Args:
        scores: n scores, or (n, classes).
        keys: of `KEYS`.
        objective: of the model.
        num_class: of multi:*.
    """
    fitting = _fitting(objective)
    columns: dict[str, pa.Array] = {}
    for key in keys:
        if key not in fitting:
            warnings.warn(
                f"{key} has no meaning for {objective} and is answered as NaN; it has "
                f"{', '.join(fitting)}",
                stacklevel=3,
            )
            columns[key] = pa.array(np.full(len(scores), np.nan, np.float32))
        else:
            columns[key] = _column(key, scores, objective, num_class)
    return pa.table(columns)


def _fitting(objective: str) -> tuple[str, ...]:
    if objective in ("binary:logistic", "multi:softprob"):
        return (*_LABELS, *_PROBABILITIES, *_SCORES)
    if objective in ("binary:logitraw", "binary:hinge", "multi:softmax"):
        return (*_LABELS, *_SCORES)
    return ("predicted_score",)


def _column(key: str, scores: Array, objective: str, num_class: int) -> pa.Array:
    match key:
        case "predicted_score":
            return pa.array(scores)
        case "predicted_label":
            return pa.array(classes_of(scores, objective).astype(np.int64))
        case "labels":
            labels = np.arange(num_class if objective.startswith("multi:") else 2)
            return _lists(np.tile(labels, (len(scores), 1)))
        case "probability" | "raw_score":
            return pa.array(scores if scores.ndim == 1 else scores.max(axis=1, initial=0))
        case _:
            if objective.startswith("binary:"):
                return _lists(np.stack([1 - scores, scores], axis=1))
            return _lists(scores if scores.ndim == 2 else scores[:, None])


def _lists(values: Array) -> pa.Array:
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, values.ravel())
