"""PCA on three heaps."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from tests.training.blobs import make_blobs
from tests.training.case import Case
from training.algorithm import Model

__all__ = ["CASE"]


def _captured(model: Model, table: pa.Table) -> float:
    """The share of the variance of the numbers and words that two axes keep."""
    numbers = [table[name].to_numpy() for name in ("length", "width", "weight")]
    words = [np.array(table["side"].to_pylist()) == side for side in ("east", "north", "west")]
    points = np.column_stack([*numbers, *words])
    kept = np.array(model.predict(table)["projection"].to_pylist())
    return float(kept.var(axis=0).sum() / points.var(axis=0).sum())


CASE = Case(
    name="pca",
    values={"feature_dim": 6, "mini_batch_size": 100, "num_components": 2},
    train=partial(make_blobs, 600, seed=1),
    later=partial(make_blobs, 300, seed=2),
    reply="projection",
    column="length",
    quality=_captured,
    baseline=0.9,
    metric="test:explained_variance",
    resizes=lambda values, width: {**values, "feature_dim": width},
    resumes=True,
)
