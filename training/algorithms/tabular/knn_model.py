"""A fitted k-NN model: an index with the labels of its vectors, and SageMaker's reply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithm import Model
from training.algorithms.distance import as_array
from training.algorithms.tabular.knn_index import Index, read_index
from training.algorithms.tabular.knn_reduction import Reduction
from training.data import as_table
from training.errors import ModelAltered
from training.inputs import Inputs
from training.matrix import dense, sparse

__all__ = ["INDEX", "LABELS", "SETTINGS", "KNNModel", "decided", "prepared", "vote"]

INDEX: Final = "model_algo-1"
LABELS: Final = "model_algo-1.labels"
SETTINGS: Final = "model_algo-1.json"

_CELLS: Final = 1 << 22

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class KNNModel(Model):
    """Vectors that can be searched, with their labels.

    The reply has one column, `predicted_label`: a classifier's class is the label that most of the
    k nearest vectors have, of several that whose vectors are nearer in sum, then the smallest; a
    regressor's value is their mean.

    Attributes:
        columns: what it takes.
        index: the vectors.
        labels: the label of each.
        k: how many neighbours decide.
        predictor_type: `classifier` or `regressor`.
        reduction: how rows become fewer numbers first; None: not at all.
        normalize: whether vectors are brought to length 1, for cosine similarity.
    """

    columns: Inputs
    index: Index
    labels: Floats
    k: int
    predictor_type: str
    reduction: Reduction | None
    normalize: bool

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows with `predicted_label`, float32."""
        distances, numbers = self._search(batch)
        return pa.table({"predicted_label": pa.array(self.answered(distances, numbers))})

    def predict_verbose(self, batch: object) -> pa.Table:
        """Answer n rows with the neighbours too: what `verbose=true` asks for.

        Returns:
            `predicted_label`; `distances`, the k distances from the nearest on; and `labels`, the
            neighbours' labels. A distance is faiss' squared Euclidean one for L2, minus the inner
            product for INNER_PRODUCT, and 1 minus the cosine for COSINE.
        """
        distances, numbers = self._search(batch)
        offsets = pa.array(np.arange(len(numbers) + 1, dtype=np.int32) * self.k)
        lists = {"distances": distances, "labels": self.labels[numbers]}
        columns = {
            name: pa.ListArray.from_arrays(offsets, pa.array(values.astype(np.float32).ravel()))
            for name, values in lists.items()
        }
        predicted = pa.array(self.answered(distances, numbers))
        return pa.table({"predicted_label": predicted, **columns})

    def neighbours(self, rows: Any, k: int) -> tuple[Floats, Numbers]:
        """Return the distances and numbers (n, k) of the nearest vectors of rows of a matrix."""
        queries = prepared(rows, self.reduction, self.index.width, normalize=self.normalize)
        distances, numbers = self.index.search(queries, k)
        if self.normalize:
            # Minus the cosine; a distance begins at 0.
            distances = np.maximum(distances + 1, 0)
        return distances, numbers

    def answered(self, distances: Floats, numbers: Numbers) -> Floats:
        """Return the answer that neighbours give."""
        return decided(self.predictor_type, self.labels[numbers], distances)

    def save(self, folder: Path) -> None:
        """Write SageMaker's files and the inputs.

        `model_algo-1` is the index as faiss writes it, `model_algo-1.labels` the labels as float32
        in little-endian order, `model_algo-1.json` the settings.
        """
        (folder / INDEX).write_bytes(self.index.to_bytes())
        (folder / LABELS).write_bytes(self.labels.astype("<f4").tobytes())
        reduction = self.reduction
        body = {
            "k": self.k,
            "predictor_type": self.predictor_type,
            "dimension_reduction": None
            if reduction is None
            else {
                "type": reduction.type,
                "seed": reduction.seed,
                "target_dim": reduction.target_dim,
                "input_dim": reduction.input_dim,
            },
            "normalize": self.normalize,
            "version": "1.0",
        }
        (folder / SETTINGS).write_text(json.dumps(body) + "\n", encoding="utf-8")
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; `k` and `predictor_type` in the settings may have been edited.

        Raises:
            ModelAltered: a file is not what `save` wrote, or the settings cannot be.
        """
        columns = Inputs.load(folder)
        index = read_index((folder / INDEX).read_bytes(), path=str(folder / INDEX))
        labels = np.frombuffer((folder / LABELS).read_bytes(), "<f4")
        path = folder / SETTINGS
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            k, predictor_type = body["k"], body["predictor_type"]
            kept, normalize = body["dimension_reduction"], bool(body["normalize"])
            reduction = None if kept is None else Reduction(**kept)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelAltered(
                f"{path}: expected the settings of a k-NN model ({error!r})", path=str(path)
            ) from error
        if len(labels) != index.count:
            raise ModelAltered(
                f"{folder / LABELS}: expected {index.count} labels, got {len(labels)}",
                path=str(folder / LABELS),
            )
        if type(k) is not int or not 1 <= k <= index.count:
            raise ModelAltered(
                f"{path}: k: expected an integer in [1, {index.count}], got {k!r}", path=str(path)
            )
        if predictor_type not in ("classifier", "regressor"):
            raise ModelAltered(
                f"{path}: predictor_type: expected classifier or regressor, got {predictor_type!r}",
                path=str(path),
            )
        return cls(columns, index, labels, k, predictor_type, reduction, normalize)

    def _search(self, batch: object) -> tuple[Floats, Numbers]:
        table = self.columns.encode(as_table(batch))
        if not len(table):
            return np.empty((0, self.k), np.float32), np.empty((0, self.k), np.int64)
        if self.columns.is_sparse:
            return self.neighbours(sparse(table, self.columns), self.k)
        return self.neighbours(dense(table, self.columns), self.k)


def prepared(rows: Any, reduction: Reduction | None, width: int, *, normalize: bool) -> Floats:
    """Turn rows of a matrix into vectors of an index.

    Args:
        rows: n rows, an array or CSR matrix.
        reduction: how they become fewer numbers; None: not at all.
        width: of a vector; zeros fill it up.
        normalize: whether each is brought to length 1; one of zeros stays as it is.
    """
    found = as_array(rows) if reduction is None else reduction.apply(rows)
    if found.shape[1] < width:
        wide = np.zeros((len(found), width), np.float32)
        wide[:, : found.shape[1]] = found
        found = wide
    if normalize:
        length = np.sqrt(np.einsum("ij,ij->i", found, found, dtype=np.float64))
        length[length == 0] = 1
        found = found / length[:, None].astype(np.float32)
    return np.ascontiguousarray(found, np.float32)


def decided(predictor_type: str, labels: Floats, distances: Floats) -> Floats:
    """Return what neighbours' labels (n, k) say: their mean, or the vote of most."""
    if predictor_type == "regressor":
        means: Floats = labels.mean(axis=1, dtype=np.float64).astype(np.float32)
        return means
    return vote(labels, distances)


def vote(labels: Floats, distances: Floats) -> Floats:
    """Return the label most neighbours have; ties go to the smallest sum of distances.

    Args:
        labels: (n, k).
        distances: (n, k).

    >>> vote(np.array([[1, 2, 2, 1, 3]]), np.array([[0.5, 1.0, 1.1, 1.5, 9.0]])).tolist()
    [1.0]
    """
    classes, flat = np.unique(labels, return_inverse=True)
    codes = flat.reshape(labels.shape)
    found: Floats = np.empty(len(labels), np.float32)
    size = len(classes)
    step = max(1, _CELLS // max(size, 1))
    for start in range(0, len(labels), step):
        part = codes[start : start + step]
        cells = (np.arange(len(part))[:, None] * size + part).ravel()
        cells_of = len(part) * size
        counts = np.bincount(cells, minlength=cells_of).reshape(-1, size)
        far = np.bincount(cells, distances[start : start + step].ravel(), minlength=cells_of)
        tied = counts == counts.max(axis=1, keepdims=True)
        best = np.where(tied, far.reshape(-1, size), np.inf).argmin(axis=1)
        found[start : start + step] = classes[best]
    return found
