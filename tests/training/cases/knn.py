"""k-NN that tells three heaps apart."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tests.training.blobs import make_blobs
from tests.training.case import Case
from training import metrics
from training.algorithm import Model

__all__ = ["CASE"]


def _heaps(rows: int, seed: int) -> pa.Table:
    table = make_blobs(rows, seed=seed)
    heap = np.unique(table["side"].to_pylist(), return_inverse=True)[1]
    return table.drop_columns(["side"]).append_column("heap", pa.array(heap))


def _train() -> pa.Table:
    return _heaps(600, 1)


def _later() -> pa.Table:
    return _heaps(300, 2)


def _accuracy(model: Model, table: pa.Table) -> float:
    return metrics.accuracy(
        table["heap"].to_numpy(), np.array(model.predict(table)["predicted_label"])
    )


CASE = Case(
    name="knn",
    values={
        "feature_dim": 3,
        "k": 5,
        "sample_size": 400,
        "predictor_type": "classifier",
    },
    train=_train,
    later=_later,
    label="heap",
    reply="predicted_label",
    column="length",
    quality=_accuracy,
    baseline=0.9,
    metric="test:accuracy",
    resizes=lambda values, width: {**values, "feature_dim": width},
)
