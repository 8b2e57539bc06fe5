"""A fitted linear model: weights in the units of the data, and SageMaker's reply."""

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
from training.matrix import dense, dimensions, sparse

__all__ = ["FILES", "LinearModel", "PredictorType"]

PredictorType = Literal["binary_classifier", "multiclass_classifier", "regressor"]

FILES = ("linear.json", "weights.npy", "bias.npy", "inputs.json")


@final
@dataclass(frozen=True, eq=False)
class LinearModel(Model):
    """Weights and bias for inputs as they come.

    The reply of two classes is `score` (the probability of class 1, or for hinge loss the signed
    distance, which is none) and `predicted_label`; of several classes the list of their
    probabilities as `score` and `predicted_label`; a regressor's is `score`.

    Attributes:
        columns: the input columns.
        weights: (columns of the matrix, scores) of float64.
        bias: (scores,).
        predictor_type: what it predicts.
        is_probability: whether a score is to become a probability.
        threshold: from which score on a row is of class 1.
    """

    columns: Inputs
    weights: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    predictor_type: PredictorType
    is_probability: bool = True
    threshold: float = 0.5

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows; see the class for the columns of the reply."""
        table = self.columns.encode(as_table(batch))
        scores = self.scores(table)
        if self.predictor_type == "regressor":
            return pa.table({"score": scores[:, 0]})
        if self.predictor_type == "binary_classifier":
            labels = (scores[:, 0] >= self.threshold).astype(np.float64)
            return pa.table({"score": scores[:, 0], "predicted_label": labels})
        offsets = np.arange(len(scores) + 1, dtype=np.int32) * scores.shape[1]
        labels = scores.argmax(axis=1).astype(np.float64)
        lists = pa.ListArray.from_arrays(offsets, scores.ravel())
        return pa.table({"score": lists, "predicted_label": labels})

    def scores(self, encoded: pa.Table) -> npt.NDArray[np.float64]:
        """Return (n, scores) of encoded rows: probabilities, distances or values."""
        if self.columns.is_sparse:
            rows: Any = sparse(encoded, self.columns, dtype=np.float64)
        else:
            rows = dense(encoded, self.columns, dtype=np.float64)
        raw: npt.NDArray[np.float64] = rows @ self.weights + self.bias
        if not self.is_probability:
            return raw
        if self.predictor_type == "binary_classifier":
            with np.errstate(over="ignore"):
                probability: npt.NDArray[np.float64] = 1 / (1 + np.exp(-raw))
            return probability
        raw -= raw.max(axis=1, keepdims=True, initial=-np.inf)
        np.exp(raw, out=raw)
        raw /= raw.sum(axis=1, keepdims=True)
        return raw

    def importance(self) -> dict[str, float]:
        """Return the size of each column's weight, over several classes the mean, largest first."""
        sizes = np.abs(self.weights).mean(axis=1)
        names = dict(zip(dimensions(self.columns), sizes.tolist(), strict=True))
        return dict(sorted(names.items(), key=lambda item: (-item[1], item[0])))

    def save(self, folder: Path) -> None:
        """Write the weights as NumPy files, the rest as JSON."""
        np.save(folder / "weights.npy", self.weights)
        np.save(folder / "bias.npy", self.bias)
        body = {
            "predictor_type": self.predictor_type,
            "is_probability": self.is_probability,
            "threshold": self.threshold,
        }
        (folder / "linear.json").write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        body = json.loads((folder / "linear.json").read_text(encoding="utf-8"))
        return cls(
            Inputs.load(folder),
            np.load(folder / "weights.npy"),
            np.load(folder / "bias.npy"),
            body["predictor_type"],
            body["is_probability"],
            body["threshold"],
        )
