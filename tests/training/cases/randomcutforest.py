"""Random Cut Forest on machines whose sensors agree, but for a few."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from tests.training.case import Case
from training import metrics
from training.algorithm import Model

__all__ = ["CASE", "make_machines"]


def make_machines(rows: int, *, seed: int, labelled: bool) -> pa.Table:
    """Machines at rest or at work; of those with label 1 a sensor says what does not fit."""
    random = np.random.default_rng(seed)
    works = random.random(rows) < 0.5
    heat = np.where(works, 70.0, 20.0) + random.normal(0, 2, rows)
    noise = np.where(works, 12.0, 3.0) + random.normal(0, 1, rows)
    odd = np.arange(rows) % 50 == 7
    noise = np.where(odd, 45.0 - noise, noise)
    columns = {"heat": pa.array(heat), "noise": pa.array(noise.astype(np.float32))}
    columns |= {"works": pa.array(works), "room": pa.array(random.choice(["a", "b"], rows))}
    return pa.table(columns | ({"label": pa.array(odd.astype(np.int64))} if labelled else {}))


def _auc(model: Model, table: pa.Table) -> float:
    return metrics.auc(table["label"].to_numpy(), np.array(model.predict(table)["score"]))


CASE = Case(
    name="randomcutforest",
    values={"feature_dim": 5, "num_trees": 50, "num_samples_per_tree": 64},
    train=partial(make_machines, 600, seed=1, labelled=False),
    later=partial(make_machines, 300, seed=2, labelled=True),
    reply="score",
    column="heat",
    quality=_auc,
    baseline=0.95,
    metric="test:f1",
    resizes=lambda values, width: {**values, "feature_dim": width},
)
