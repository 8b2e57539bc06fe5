"""XGBoost on flights that are late in wind."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from tests.training.case import Case
from tests.training.flights import make_flights
from training import metrics
from training.algorithm import Model

__all__ = ["CASE"]


def _auc(model: Model, table: pa.Table) -> float:
    return metrics.auc(table["late"].to_numpy(), np.array(model.predict(table)["score"]))


CASE = Case(
    name="xgboost",
    values={"num_round": 30, "objective": "binary:logistic", "max_depth": 3, "eta": 0.2},
    train=partial(make_flights, 600, seed=1),
    later=partial(make_flights, 300, seed=2),
    label="late",
    reply="score",
    column="wind",
    quality=_auc,
    baseline=0.75,
    validates=True,
    metric="validation:logloss",
    missing=True,
    resumes=True,
)
