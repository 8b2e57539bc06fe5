"""K-Means on three heaps."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from tests.training.blobs import make_blobs
from tests.training.case import Case
from training.algorithm import Model

__all__ = ["CASE"]


def _explained(model: Model, table: pa.Table) -> float:
    """The share of the variance that the clusters take away."""
    distance = np.array(model.predict(table)["distance_to_cluster"])
    points = np.column_stack([table[name].to_numpy() for name in ("length", "width", "weight")])
    return 1 - float((distance**2).sum() / ((points - points.mean(axis=0)) ** 2).sum())


CASE = Case(
    name="kmeans",
    values={"k": 3, "feature_dim": 6, "mini_batch_size": 100, "epochs": 2},
    train=partial(make_blobs, 600, seed=1),
    later=partial(make_blobs, 300, seed=2),
    reply="distance_to_cluster",
    column="length",
    quality=_explained,
    baseline=0.85,
    metric="test:msd",
    resizes=lambda values, width: {**values, "feature_dim": width},
    resumes=True,
)
