"""What is measured after each round: the library's metrics, and those it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from training import metrics
from training.algorithms.tabular.boosting.matrix import library, matrix_of
from training.algorithms.tabular.boosting.parameters import native_name
from training.algorithms.tabular.boosting.rules import is_native
from training.data import Dataset

if TYPE_CHECKING:
    from training.algorithms.tabular.boosting.learner import XGBoost
    from training.algorithms.tabular.boosting.model import XGBoostModel

__all__ = ["Watch", "best_of", "classes_of", "evaluated", "measured"]

Array = npt.NDArray[Any]


def measured(
    algorithm: XGBoost, booster: Any, evals: Sequence[tuple[Any, str]], number: int
) -> dict[str, dict[str, float]]:
    """Measure a booster on matrices: channel → metric → value."""
    found: dict[str, dict[str, float]] = {name: {} for _, name in evals}
    # The line is `[0]\ttrain-logloss:0.69\tvalidation-ndcg@5-:0.4`, with all digits.
    for word in booster.eval_set(list(evals), number).split("\t")[1:]:
        name, _, value = word.rpartition(":")
        channel, _, metric = name.partition("-")
        found[channel][metric] = float(value)
    computed = [name for name in algorithm.eval_metric or () if not is_native(name)]
    if computed:
        for matrix, channel in evals:
            target, predicted = _everywhere(
                matrix.get_label(), booster.predict(matrix, training=False)
            )
            found[channel] |= _computed(computed, target, predicted, algorithm.task)
    return found


def evaluated(algorithm: XGBoost, model: XGBoostModel, data: Dataset) -> dict[str, float]:
    """Measure a model as it is kept; over the boosters of folds, the mean of each one's."""
    matrix = matrix_of(data, threads=1, histogram=False)
    rounds: list[dict[str, float]] = []
    for booster in model.boosters:
        copy = booster.copy()
        native = [native_name(algorithm, n) for n in algorithm.eval_metric or () if is_native(n)]
        if native:
            copy.set_param([("eval_metric", name) for name in native])
        rounds.append(measured(algorithm, copy, [(matrix, "test")], 0)["test"])
    return {name: float(np.mean([one[name] for one in rounds])) for name in rounds[0]}


def classes_of(predicted: Array, objective: str) -> Array:
    """Return the class of each row: the most probable, at 0.5, or at 0 for raw scores."""
    if predicted.ndim == 2:
        best: Array = predicted.argmax(axis=1)
        return best
    if objective == "multi:softmax":
        return predicted
    return (predicted > (0.0 if objective == "binary:logitraw" else 0.5)).astype(np.float32)


class Watch:
    """When early stopping ends a fit, from what was measured so far.

    Args:
        algorithm: with `early_stopping_rounds`, and the metric it looks at: the last one.
    """

    def __init__(self, algorithm: XGBoost) -> None:
        self._patience = algorithm.early_stopping_rounds
        names = algorithm.eval_metric
        self._metric = native_name(algorithm, names[-1]) if names else None

    def best(self, log: Mapping[str, Mapping[str, list[float]]]) -> int | None:
        """Return the number of the best round, from 0; None without early stopping."""
        if self._patience is None:
            return None
        name = self._metric or list(log["validation"])[-1]
        return best_of(log["validation"][name], maximize=metrics.larger_is_better(name))

    def is_over(self, log: Mapping[str, Mapping[str, list[float]]]) -> bool:
        """Whether the best round is so long ago that the fit should end."""
        best = self.best(log)
        if best is None or self._patience is None:
            return False
        rounds = len(next(iter(log["validation"].values())))
        return rounds - 1 - best >= self._patience


def best_of(history: Sequence[float], *, maximize: bool) -> int:
    """Return the place of the best value: of equal ones the first, and never what is no number.

    >>> best_of([0.5, 0.7, 0.7, float("nan")], maximize=True)
    1
    """
    values = np.asarray(history, np.float64)
    worst = -np.inf
    signed = np.where(np.isnan(values), worst, values if maximize else -values)
    return int(signed.argmax())


def _computed(
    names: Sequence[str], target: Array, predicted: Array, objective: str
) -> dict[str, float]:
    classes = classes_of(predicted, objective)
    return {
        name: metrics.ON_CLASSES[name](target, classes)
        if name in metrics.ON_CLASSES
        else metrics.ON_VALUES[name](target, predicted)
        for name in names
    }


def _everywhere(target: Array, predicted: Array) -> tuple[Array, Array]:
    """Gather the rows of all processes, so that a metric is of all of them."""
    collective = library().collective
    size = collective.get_world_size()
    if size == 1:
        return target, predicted
    counts = np.zeros(size, np.int64)
    counts[collective.get_rank()] = len(target)
    counts = collective.allreduce(counts, collective.Op.SUM)
    start = int(counts[: collective.get_rank()].sum())
    gathered = []
    for values in (target, predicted):
        rows = np.zeros((int(counts.sum()), *values.shape[1:]), values.dtype)
        rows[start : start + len(values)] = values
        gathered.append(collective.allreduce(rows, collective.Op.SUM).reshape(rows.shape))
    return gathered[0], gathered[1]
