"""A fitted XGBoost model: its boosters, the columns they take, and SageMaker's reply."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithm import Model
from training.algorithms.tabular.boosting.answers import answers, check_keys
from training.algorithms.tabular.boosting.matrix import (
    column_names,
    library,
    rows_of,
    safe_names,
)
from training.data import as_table
from training.errors import InvalidJob
from training.inputs import Inputs

__all__ = ["FILE", "XGBoostModel", "combined", "voted"]

FILE = "xgboost-model"


@final
@dataclass(frozen=True, eq=False)
class XGBoostModel(Model):
    """A booster with the columns it takes; of a fit in folds, one for each.

    The reply has one column `score`: the value, the probability of class 1, the class, or for
    multi:softprob the probabilities of all classes. Boosters of folds answer together: with their
    mean, or where they answer classes, with the one most of them have (of equals the lowest).

    Args:
        booster: the first.
        columns: what it takes.
        others: those of the other folds.
        keys: what is answered in place of `score`; see `answers`.
        is_ensemble: whether the boosters of folds answer together, or the first for all.
    """

    booster: Any
    columns: Inputs
    others: tuple[Any, ...] = ()
    keys: tuple[str, ...] = ()
    is_ensemble: bool = True

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    @property
    def boosters(self) -> tuple[Any, ...]:
        """All boosters."""
        return (self.booster, *self.others)

    @property
    def rounds(self) -> int:
        """The rounds of boosting it keeps."""
        return int(self.booster.num_boosted_rounds())

    @property
    def objective(self) -> str:
        """What its trees minimise."""
        return str(self._config["objective"]["name"])

    @property
    def num_class(self) -> int:
        """How many classes multi:* has; 0 for other objectives."""
        return int(self._config["learner_model_param"]["num_class"])

    @property
    def booster_kind(self) -> str:
        """What a round added: gbtree, gblinear or dart."""
        return str(self._config["gradient_booster"]["name"])

    @property
    def trees_per_round(self) -> int:
        """How many trees a round has, for each class."""
        trees = self._config["gradient_booster"]
        trees = trees.get("gbtree", trees).get("gbtree_model_param", {})
        return int(trees.get("num_parallel_tree", 1))

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows with a column `score` of float32, or of lists of float32, or with `keys`.

        A key that the objective has no value for is answered with NaN, and a warning.
        """
        table = self.columns.encode(as_table(batch))
        scores = self._scores(table)
        if self.keys:
            return answers(scores, self.keys, objective=self.objective, num_class=self.num_class)
        if scores.ndim == 1:
            return pa.table({"score": pa.array(scores)})
        offsets = np.arange(len(scores) + 1, dtype=np.int32) * scores.shape[1]
        return pa.table({"score": pa.ListArray.from_arrays(offsets, scores.ravel())})

    def served(self, settings: Mapping[str, str]) -> Self:
        """Answer what `SAGEMAKER_INFERENCE_OUTPUT` asks for, a comma-separated list of keys.

        With `SAGEMAKER_INFERENCE_ENSEMBLE=false`, of several boosters the first answers.

        Raises:
            InvalidJob: there is no such key, or neither true nor false.
        """
        keys = settings.get("SAGEMAKER_INFERENCE_OUTPUT", "")
        together = settings.get("SAGEMAKER_INFERENCE_ENSEMBLE", "true").strip().lower()
        if together not in ("true", "false"):
            raise InvalidJob(
                f"SAGEMAKER_INFERENCE_ENSEMBLE: expected true or false, got {together!r}",
                field="Environment",
            )
        return replace(self, keys=check_keys(keys), is_ensemble=together == "true")

    def importance(self, kind: str = "gain") -> dict[str, float]:
        """Return how much each input column matters to the first booster, largest first.

        Args:
            kind: `gain`, `weight`, `cover`, `total_gain` or `total_cover`; gblinear knows only
                the size of its coefficients, over several classes their mean.

        Columns that no tree uses are left out.
        """
        if self.booster_kind == "gblinear":
            kind = "weight"
        given = self.booster.get_score(importance_type=kind)
        names = dict(zip(safe_names(self.columns), column_names(self.columns), strict=True))
        scores = {names[name]: float(np.mean(np.abs(score))) for name, score in given.items()}
        return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))

    def save(self, folder: Path) -> None:
        """Write `xgboost-model` (universal binary JSON, as `Booster.save_model`) and the inputs.

        Boosters of folds are `xgboost-model-0` and so on.
        """
        if not self.others:
            (folder / FILE).write_bytes(self.booster.save_raw("ubj"))
        else:
            for number, booster in enumerate(self.boosters):
                (folder / f"{FILE}-{number}").write_bytes(booster.save_raw("ubj"))
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        xgboost = library()
        paths = [folder / FILE]
        if not paths[0].exists():
            found = (re.fullmatch(rf"{FILE}-(\d+)", path.name) for path in folder.iterdir())
            numbers = sorted(int(match[1]) for match in found if match)
            paths = [folder / f"{FILE}-{number}" for number in numbers]
        boosters = []
        for path in paths:
            booster = xgboost.Booster()
            booster.load_model(bytearray(path.read_bytes()))
            boosters.append(booster)
        return cls(boosters[0], Inputs.load(folder), tuple(boosters[1:]))

    def _scores(self, table: pa.Table) -> npt.NDArray[np.float32]:
        objective = self.objective
        if not len(table):
            # The library has no answer of this shape.
            several = objective == "multi:softprob"
            return np.zeros((0, self.num_class) if several else 0, np.float32)
        matrix = library().DMatrix(**rows_of(table, self.columns, channel="input"))
        boosters = self.boosters if self.is_ensemble else (self.booster,)
        return combined([booster.predict(matrix) for booster in boosters], objective)

    @property
    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self.booster.save_config())["learner"]
        return config


def combined(scores: list[npt.NDArray[np.float32]], objective: str) -> npt.NDArray[np.float32]:
    """Make one answer of several boosters': their mean, or of classes the most frequent."""
    if len(scores) == 1:
        return scores[0]
    if objective in ("multi:softmax", "binary:hinge"):
        return voted(np.stack(scores))
    mean: npt.NDArray[np.float32] = np.stack(scores).mean(axis=0, dtype=np.float64).astype("f4")
    return mean


def voted(classes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return of each row's classes, numbered from 0, the most frequent; of equals the lowest.

    Args:
        classes: (voters, rows).

    >>> voted(np.array([[0, 2, 1], [1, 2, 1], [1, 0, 2]], np.float32))
    array([1., 2., 1.], dtype=float32)
    """
    numbers = np.arange(int(classes.max(initial=0)) + 1, dtype=np.float32)
    votes = np.stack([(classes == number).sum(axis=0) for number in numbers])
    winners: npt.NDArray[np.float32] = numbers[votes.argmax(axis=0)]
    return winners
