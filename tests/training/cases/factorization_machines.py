"""Factorization Machines on flights that are late in wind, words as columns of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from tests.training.case import Case
from tests.training.flights import make_full_flights
from training import metrics
from training.algorithm import Model

__all__ = ["CASE"]


def _auc(model: Model, table: pa.Table) -> float:
    return metrics.auc(table["late"].to_numpy(), np.array(model.predict(table)["score"]))


def _flights(rows: int, *, seed: int) -> pa.Table:
    """Flights whose numbers are of the size that factors like."""
    flights = make_full_flights(rows, seed=seed)
    for name, by in (("wind", 10.0), ("delay", 10.0), ("seats", 100.0)):
        place = flights.column_names.index(name)
        scaled = pa.array(flights[name].to_numpy().astype(np.float64) / by)
        flights = flights.set_column(place, name, scaled)
    return flights


def _resized(values: Mapping[str, Any], width: int) -> Mapping[str, Any]:
    return {**values, "feature_dim": width}


CASE = Case(
    name="factorization-machines",
    values={
        "feature_dim": 7,
        "num_factors": 4,
        "predictor_type": "binary_classifier",
        "epochs": 12,
        "mini_batch_size": 50,
        "linear_lr": 0.05,
        "factors_lr": 0.01,
        "factors_init_sigma": 0.05,
    },
    train=partial(_flights, 600, seed=1),
    later=partial(_flights, 300, seed=2),
    label="late",
    reply="score",
    column="wind",
    quality=_auc,
    baseline=0.75,
    validates=True,
    metric="validation:binary_classification_cross_entropy",
    resizes=_resized,
    exact=False,
    resumes=True,
    tolerance=1e-5,
)
