"""A fitted K-Means model: centres, what they stand for, and SageMaker's reply."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.algorithm import Model
from training.algorithms.distance import nearest, squared
from training.data import as_table
from training.inputs import Inputs
from training.matrix import dense, sparse

__all__ = ["CENTRES", "COUNTS", "KMeansModel"]

CENTRES: Final = "centers.npy"
COUNTS: Final = "counts.npy"


@final
@dataclass(frozen=True, eq=False)
class KMeansModel(Model):
    """The centres of clusters.

    The reply has the columns `closest_cluster`, the number of the nearest centre from 0, and
    `distance_to_cluster`, the Euclidean distance to it, not squared. Ties go to the lowest number.

    Attributes:
        columns: what it takes.
        centres: k rows of d numbers.
        counts: how many rows of the training data each stands for.
    """

    columns: Inputs
    centres: npt.NDArray[np.float64]
    counts: npt.NDArray[np.float64]

    @property
    def inputs(self) -> Inputs:
        """The columns it takes."""
        return self.columns

    def predict(self, batch: object) -> pa.Table:
        """Answer n rows with `closest_cluster` and `distance_to_cluster`, both float32."""
        table = self.columns.encode(as_table(batch))
        if self.columns.is_sparse:
            rows = sparse(table, self.columns, dtype=np.float64)
        else:
            rows = dense(table, self.columns, dtype=np.float64)
        labels = nearest(rows, self.centres, exact=True)
        distances = np.sqrt(squared(rows, self.centres, labels))
        return pa.table(
            {
                "closest_cluster": pa.array(labels.astype(np.float32)),
                "distance_to_cluster": pa.array(distances.astype(np.float32)),
            }
        )

    def squared_distances(self, rows: Any) -> npt.NDArray[np.float64]:
        """Return the squared distance of each row of a matrix to its nearest centre."""
        return squared(rows, self.centres, nearest(rows, self.centres))

    def save(self, folder: Path) -> None:
        """Write `centers.npy` (k, d) and `counts.npy` (k), both float64, and the inputs."""
        np.save(folder / CENTRES, self.centres)
        np.save(folder / COUNTS, self.counts)
        self.columns.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        centres = np.load(folder / CENTRES, allow_pickle=False)
        counts = np.load(folder / COUNTS, allow_pickle=False)
        return cls(Inputs.load(folder), centres, counts)
