"""A fitted XGBoost model: a booster, the columns it takes, and SageMaker's reply."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import pyarrow as pa

from training.algorithm import Model
from training.data import as_table
from training.errors import LibraryMissing
from training.inputs import Inputs
from training.matrix import dense, dimensions, sparse

__all__ = ["FILE", "XGBoostModel", "library", "matrix_of", "safe_names"]

FILE = "xgboost-model"


@final
@dataclass(frozen=True, eq=False)
class XGBoostModel(Model):
    """A booster with the columns it takes.

    The reply has one column `score`: the value, the probability of class 1, the class, or for
    multi:softprob the probabilities of all classes.
    """

    booster: Any
    columns: Inputs

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    @property
    def rounds(self) -> int:
        """The rounds of boosting it keeps."""
        return int(self.booster.num_boosted_rounds())

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows with a column `score` of float32, or of lists of float32."""
        table = self.columns.encode(as_table(batch))
        if not len(table):
            several = self._objective == "multi:softprob"
            kind = pa.list_(pa.float32()) if several else pa.float32()
            return pa.table({"score": pa.array([], kind)})
        matrix = library().DMatrix(**matrix_of(table, self.columns, channel="input"))
        scores = self.booster.predict(matrix)
        if scores.ndim == 1:
            return pa.table({"score": pa.array(scores)})
        offsets = np.arange(len(scores) + 1, dtype=np.int32) * scores.shape[1]
        return pa.table({"score": pa.ListArray.from_arrays(offsets, scores.ravel())})

    def importance(self, kind: str = "gain") -> dict[str, float]:
        """Return how much each input column matters, largest first.

        Args:
            kind: `gain`, `weight`, `cover`, `total_gain` or `total_cover`; gblinear knows only
                the size of its coefficients, over several classes their mean.

        Columns that no tree uses are left out.
        """
        booster = json.loads(self.booster.save_config())["learner"]["gradient_booster"]["name"]
        if booster == "gblinear":
            kind = "weight"
        given = self.booster.get_score(importance_type=kind)
        names = dict(zip(safe_names(self.columns), _names(self.columns), strict=True))
        scores = {names[name]: float(np.mean(np.abs(score))) for name, score in given.items()}
        return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))

    def save(self, folder: Path) -> None:
        """Write `xgboost-model` (universal binary JSON, as `Booster.save_model`) and the inputs."""
        (folder / FILE).write_bytes(self.booster.save_raw("ubj"))
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        xgboost = library()
        booster = xgboost.Booster()
        booster.load_model(bytearray((folder / FILE).read_bytes()))
        return cls(booster, Inputs.load(folder))

    @property
    def _objective(self) -> str:
        return str(json.loads(self.booster.save_config())["learner"]["objective"]["name"])


def library() -> Any:
    """Import XGBoost, late: a job's definition is checked without it.

    Raises:
        LibraryMissing: it is not installed; the message names the extra.
    """
    try:
        import xgboost
    except ImportError as error:
        raise LibraryMissing(
            "the algorithm xgboost needs the library xgboost: pip install 'featureline[training]'",
            library="xgboost",
            extra="training",
        ) from error
    return xgboost


def matrix_of(table: pa.Table, inputs: Inputs, *, channel: str) -> dict[str, Any]:
    """Return encoded inputs as arguments of the library's matrices.

    Columns of numbers and words go in as they are; with a vector among them all are one matrix,
    sparse where one of them is: what a sparse vector does not name is missing then, not zero.
    """
    if all(column.kind in ("number", "category") for column in inputs.columns):
        return {"data": table.rename_columns(safe_names(inputs)), "enable_categorical": True}
    if inputs.is_sparse:
        data: Any = sparse(table, inputs, channel=channel)
    else:
        data = dense(table, inputs, channel=channel, missing="nan")
    return {"data": data, "feature_names": safe_names(inputs)}


def safe_names(inputs: Inputs) -> list[str]:
    """Return the matrix' columns for the library, which takes no brackets and no `<` in names."""
    names: list[str] = []
    for number, name in enumerate(_names(inputs)):
        safe = re.sub(r"[\[\]<]", "_", name)
        names.append(safe if safe not in names else f"{safe}_{number}")
    return names


def _names(inputs: Inputs) -> list[str]:
    tabular = all(column.kind in ("number", "category") for column in inputs.columns)
    return list(inputs.names) if tabular else dimensions(inputs)
