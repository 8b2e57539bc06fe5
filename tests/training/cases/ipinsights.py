"""IP Insights on users who log in from where they live."""

from __future__ import annotations

from functools import partial

import pyarrow as pa

from tests.training.case import Case
from tests.training.logins import make_logins
from training import find_algorithm
from training.algorithm import Model
from training.data import Dataset

__all__ = ["CASE"]

_VALUES = {
    "num_entity_vectors": 200,
    "vector_dim": 8,
    "epochs": 12,
    "mini_batch_size": 100,
    "learning_rate": 0.01,
}


def _auc(model: Model, table: pa.Table) -> float:
    data = Dataset.of(table, inputs=model.inputs, labels="none", text="text")
    measured = find_algorithm("ipinsights").of(_VALUES).evaluate(model, data)
    return measured["discriminator_auc"]


CASE = Case(
    name="ipinsights",
    values=_VALUES,
    train=partial(make_logins, 600, seed=1),
    later=partial(make_logins, 300, seed=2),
    reply="dot_product",
    column="address",
    quality=_auc,
    baseline=0.8,
    validates=True,
    metric="validation:discriminator_auc",
    exact=False,
    resumes=True,
)
