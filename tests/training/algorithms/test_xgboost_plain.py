"""XGBoost gives what a plain call of the library gives, also where it draws at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from training.algorithms.tabular.boosting.learner import XGBoost
from training.data import Dataset
from training.run import Run

NUMBERS = ["wind", "delay", "seats"]


@pytest.mark.filterwarnings(
    # The library's advice, raised in a callback of its C code.
    "ignore:.*manually specified the `updater`",
    "ignore:Exception ignored on calling ctypes callback:pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize("stops", [False, True], ids=["", "early"])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"subsample": 0.6},
        {"colsample_bytree": 0.7, "colsample_bylevel": 0.7, "colsample_bynode": 0.7},
        {"subsample": 0.7, "colsample_bytree": 0.7, "num_parallel_tree": 3},
        {"sampling_method": "gradient_based", "subsample": 0.5},
        {"tree_method": "exact", "subsample": 0.6, "colsample_bylevel": 0.7},
        {"tree_method": "approx", "subsample": 0.6, "colsample_bynode": 0.7},
        {"tree_method": "hist", "grow_policy": "lossguide", "max_leaves": 7, "max_bin": 16},
        {"tree_method": "auto", "monotone_constraints": "(1,0,-1)", "subsample": 0.5},
        {"updater": "grow_quantile_histmaker,prune", "gamma": 1, "subsample": 0.6},
        {"booster": "dart", "rate_drop": 0.3, "skip_drop": 0.2, "sample_type": "weighted"},
        {"booster": "dart", "one_drop": 1, "subsample": 0.7, "normalize_type": "forest"},
        {"booster": "gblinear"},
        {"booster": "gblinear", "updater": "coord_descent", "eta": 0.2, "lambda": 0.5},
    ],
    ids=lambda values: ",".join(f"{name}={value}" for name, value in values.items()) or "plain",
)
def test_a_fit_equals_the_plain_call(
    flights: pa.Table, later_flights: pa.Table, values: dict[str, Any], stops: bool
) -> None:
    if stops and values.get("booster") == "gblinear":
        pytest.skip("gblinear does not stop early")
    values = {"objective": "binary:logistic", "eval_metric": "logloss", "seed": 11, **values}
    train = Dataset.of(flights, label="late", features=NUMBERS)
    held = Dataset.of(later_flights, label="late", inputs=train.inputs, channel="validation")
    rounds = {"num_round": 40, "early_stopping_rounds": 3} if stops else {"num_round": 12}
    model = XGBoost.of({**values, **rounds}).fit(
        train, Run(threads=1), validation=held if stops else None
    )
    matrices = [
        xgboost.DMatrix(data.features, label=data.labels(), nthread=1) for data in (train, held)
    ]
    plain = xgboost.train(
        {**values, "nthread": 1},
        matrices[0],
        rounds["num_round"],
        evals=[(matrices[1], "validation")] if stops else [],
        early_stopping_rounds=rounds.get("early_stopping_rounds"),
        verbose_eval=False,
    )
    last = plain.best_iteration + 1 if stops else 0
    expected = plain.predict(matrices[1], iteration_range=(0, last))
    got = model.predict(later_flights)["score"].to_numpy()
    assert np.abs(got - expected).max() <= 1e-6
    assert model.rounds == (last or 12)


def test_the_seed_of_a_run_is_the_librarys(flights: pa.Table) -> None:
    train = Dataset.of(flights, label="late", features=NUMBERS)
    values = {"objective": "binary:logistic", "subsample": 0.5, "max_depth": 3}
    model = XGBoost.of({**values, "num_round": 5}).fit(train, Run(threads=1, seed=23))
    matrix = xgboost.DMatrix(train.features, label=train.labels(), nthread=1)
    plain = xgboost.train({**values, "seed": 23, "nthread": 1}, matrix, 5)
    got = model.predict(train.features)["score"].to_numpy()
    assert np.abs(got - plain.predict(matrix)).max() <= 1e-6
