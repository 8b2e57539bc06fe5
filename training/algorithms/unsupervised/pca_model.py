"""A fitted PCA model: a mean, axes with their singular values, and SageMaker's reply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithm import Model
from training.algorithms.distance import blocks, is_csr
from training.data import as_table
from training.inputs import Inputs
from training.matrix import dense, sparse

__all__ = ["MEAN", "ORDER", "VALUES", "VECTORS", "PCAModel"]

MEAN: Final = "mean.npy"
VECTORS: Final = "v.npy"
VALUES: Final = "s.npy"
ORDER: Final = "pca.json"


@final
@dataclass(frozen=True, eq=False)
class PCAModel(Model):
    """Principal components, as SageMaker keeps them: the last is the largest.

    The reply has one column, `projection`: a row's coordinates on the axes, in the order of `s`.

    Attributes:
        columns: what it takes.
        mean: (d), taken from each row; zeros where the mean was not to be subtracted.
        v: (d, k), the axes as orthonormal columns; the largest entry of each is positive.
        s: (k), singular values of the training data, from the smallest up.
        count: rows that it stands for.
        centred: whether the mean was subtracted.
        energy: the sum of squares of the training data, of distances to the mean where centred.
    """

    columns: Inputs
    mean: npt.NDArray[np.float64]
    v: npt.NDArray[np.float64]
    s: npt.NDArray[np.float64]
    count: float
    centred: bool
    energy: float

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    @property
    def explained(self) -> npt.NDArray[np.float64]:
        """The share of the training data's variance on each axis, in the order of `s`."""
        if self.energy <= 0:
            return np.zeros(len(self.s))
        share: npt.NDArray[np.float64] = self.s**2 / self.energy
        return share

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows with `projection`, lists of k float32."""
        table = self.columns.encode(as_table(batch))
        if self.columns.is_sparse:
            rows = sparse(table, self.columns, dtype=np.float64)
        else:
            rows = dense(table, self.columns, dtype=np.float64)
        flat = pa.array(self.projected(rows).astype(np.float32).ravel())
        offsets = pa.array(np.arange(len(table) + 1, dtype=np.int32) * len(self.s))
        return pa.table({"projection": pa.ListArray.from_arrays(offsets, flat)})

    def projected(self, rows: Any) -> npt.NDArray[np.float64]:
        """Return the coordinates (n, k) of n rows of a matrix."""
        if is_csr(rows):
            found: npt.NDArray[np.float64] = rows @ self.v - self.mean @ self.v
        else:
            found = (rows - self.mean) @ self.v
        return found

    def captured(self, rows: Any) -> float:
        """Return the share of the rows' squared distances to the mean that the axes capture."""
        total = kept = 0.0
        for block in blocks(rows.shape[0], rows.shape[1]):
            part = rows[block].astype(np.float64)
            kept += float((self.projected(part) ** 2).sum())
            if is_csr(part):
                shared = float(part.shape[0] * (self.mean @ self.mean))
                total += float((part.data**2).sum() - 2 * (part @ self.mean).sum()) + shared
            else:
                total += float(((part - self.mean) ** 2).sum())
        return kept / total if total > 0 else 1.0

    def save(self, folder: Path) -> None:
        """Write `mean.npy`, `v.npy`, `s.npy`, `pca.json` with their order, and the inputs."""
        np.save(folder / MEAN, self.mean)
        np.save(folder / VECTORS, np.ascontiguousarray(self.v))
        np.save(folder / VALUES, self.s)
        body = {
            "order": "ascending",
            "subtract_mean": self.centred,
            "rows": self.count,
            "energy": self.energy,
        }
        (folder / ORDER).write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        body = json.loads((folder / ORDER).read_text(encoding="utf-8"))
        mean, v, s = (
            np.load(folder / name, allow_pickle=False) for name in (MEAN, VECTORS, VALUES)
        )
        return cls(
            Inputs.load(folder),
            mean,
            v,
            s,
            float(body["rows"]),
            bool(body["subtract_mean"]),
            float(body["energy"]),
        )
