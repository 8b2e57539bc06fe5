"""A fitted factorization machine and its reply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithm import Model
from training.data import as_table
from training.inputs import Inputs
from training.matrix import dense, sparse

__all__ = ["FILES", "FactorizationModel", "PredictorType", "as_rows"]

PredictorType = Literal["binary_classifier", "regressor"]

FILES = ("machine.json", "linear.npy", "factors.npy", "inputs.json")


@final
@dataclass(frozen=True, eq=False)
class FactorizationModel(Model):
    """Bias, weights and factors.

    The reply has `score`: the value, or the probability of class 1, then also `predicted_label`.

    Attributes:
        columns: the input columns.
        bias: one number.
        linear: (columns of the matrix,) of float32.
        factors: (columns of the matrix, factors) of float32.
        predictor_type: what it predicts.
    """

    columns: Inputs
    bias: float
    linear: npt.NDArray[np.float32]
    factors: npt.NDArray[np.float32]
    predictor_type: PredictorType

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows."""
        encoded = self.columns.encode(as_table(batch))
        score = self.scores(as_rows(encoded, self.columns))
        if self.predictor_type == "regressor":
            return pa.table({"score": score})
        return pa.table({"score": score, "predicted_label": (score >= 0.5).astype(np.float64)})

    def scores(self, rows: Any) -> npt.NDArray[np.float64]:
        """Return the score of each row of an array or a CSR matrix of float64.

        Of a CSR matrix only the factors that it needs are read.
        """
        linear, factors = self.linear, self.factors
        if isinstance(rows, np.ndarray):
            squared = rows**2
        else:
            held, places = np.unique(rows.indices, return_inverse=True)
            rows = type(rows)((rows.data, places, rows.indptr), shape=(rows.shape[0], len(held)))
            squared = rows.multiply(rows)
            linear, factors = linear[held], factors[held]
        factors = factors.astype(np.float64)
        sums, squares = rows @ factors, squared @ factors**2
        raw = self.bias + rows @ linear.astype(np.float64)
        raw += (sums**2 - squares).sum(axis=1) / 2
        if self.predictor_type == "regressor":
            values: npt.NDArray[np.float64] = raw
            return values
        with np.errstate(over="ignore"):
            probability: npt.NDArray[np.float64] = 1 / (1 + np.exp(-raw))
        return probability

    def save(self, folder: Path) -> None:
        """Write the weights as NumPy files, the rest as JSON."""
        np.save(folder / "linear.npy", self.linear)
        np.save(folder / "factors.npy", self.factors)
        body = {"predictor_type": self.predictor_type, "bias": self.bias}
        (folder / "machine.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        body = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
        return cls(
            Inputs.load(folder),
            body["bias"],
            np.load(folder / "linear.npy"),
            np.load(folder / "factors.npy"),
            body["predictor_type"],
        )


def as_rows(encoded: pa.Table, columns: Inputs) -> Any:
    """Return encoded rows as scores take them: an array of plain numbers, else a CSR matrix."""
    make = dense if columns.are_plain else sparse
    return make(encoded, columns, dtype=np.float64)
