"""Each declared hyperparameter of XGBoost changes a fit or is refused: none is passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from training.algorithms.tabular.boosting.learner import XGBoost
from training.algorithms.tabular.boosting.rules import METHODS, OBJECTIVES, UPDATERS
from training.data import Dataset
from training.errors import FitFailed, InvalidHyperparameter, TrainingStopped
from training.run import MemorySink, Run

DART = {"booster": "dart", "rate_drop": 0.5, "num_round": 9}
LINEAR = {"booster": "gblinear"}

# Of each name, what is set beside it, and the value that must make a difference.
CHANGES: dict[str, tuple[dict[str, Any], Any]] = {
    "num_round": ({}, 4),
    "num_class": ({"objective": "multi:softprob"}, 4),
    "objective": ({}, "binary:logistic"),
    "eta": ({}, 0.05),
    "gamma": ({}, 5),
    "lambda": ({}, 50),
    "alpha": ({}, 5),
    "max_depth": ({}, 2),
    "max_delta_step": ({}, 0.01),
    "min_child_weight": ({}, 30),
    "subsample": ({}, 0.5),
    "colsample_bytree": ({}, 0.5),
    "colsample_bylevel": ({}, 0.5),
    "colsample_bynode": ({}, 0.5),
    "booster": ({}, "gblinear"),
    "tree_method": ({"objective": "binary:logistic", "max_bin": 8}, "approx"),
    "grow_policy": ({"max_leaves": 4, "max_depth": 0}, "lossguide"),
    "max_leaves": ({}, 3),
    "max_bin": ({}, 4),
    "sampling_method": ({"subsample": 0.5}, "gradient_based"),
    "num_parallel_tree": ({"subsample": 0.5}, 3),
    "scale_pos_weight": ({"objective": "binary:logistic"}, 5),
    "base_score": ({}, 0.9),
    "monotone_constraints": ({}, "(-1,1,0)"),
    "interaction_constraints": ({}, "[[0],[1],[2]]"),
    "updater": ({"objective": "binary:logistic", "max_bin": 8}, "grow_histmaker"),
    "process_type": ({"num_round": 3}, "update"),
    "refresh_leaf": ({"process_type": "update", "updater": "refresh"}, 0),
    "sample_type": (DART, "weighted"),
    "normalize_type": (DART, "forest"),
    "rate_drop": ({"booster": "dart", "num_round": 9}, 0.5),
    "one_drop": ({"booster": "dart", "num_round": 9}, 1),
    "skip_drop": (DART, 0.9),
    "tweedie_variance_power": ({"objective": "reg:tweedie"}, 1.1),
    "aft_loss_distribution": ({"objective": "survival:aft"}, "extreme"),
    "aft_loss_distribution_scale": ({"objective": "survival:aft"}, 3),
    "eval_metric": ({}, "mae,r2"),
    "early_stopping_rounds": ({"num_round": 60}, 2),
    "_kfold": ({}, 3),
    "_num_cv_round": ({"_kfold": 3}, 2),
    "csv_weights": ({}, 1),
    "save_model_on_termination": ({"num_round": 8}, "true"),
    "seed": ({"subsample": 0.5}, 5),
    "nthread": ({}, 2),
    "verbosity": ({}, 0),
    "profile": ({}, "auto"),
}
REFUSED = {"lambda_bias": (LINEAR, 0.5, "the library does not penalise gblinear's bias")}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    random = np.random.default_rng(4)
    columns = {f"x{n}": random.normal(size=240) for n in range(3)}
    noisy = columns["x0"] - columns["x1"] * columns["x2"] + random.normal(size=240)
    label = (noisy > 0).astype(np.float64)
    return pa.table({"label": label, "weight": random.random(240), **columns})


def noticed(values: dict[str, Any], table: pa.Table) -> dict[str, Any]:
    """Fit, and return all that a hyperparameter may change."""
    if values.get("objective") == "survival:aft":
        table = table.set_column(0, "label", pa.compute.add(table["label"], 0.5))
    algorithm = XGBoost.of({"num_round": 3, **values})
    data = Dataset.of(table, beside=algorithm.beside(), features=["x0", "x1", "x2"], intervals=True)
    validation = data.take(np.arange(160, 240), channel="validation")
    data = data.take(np.arange(160))
    levels: list[int] = []
    stops = "save_model_on_termination" in values or values["num_round"] == 8

    def asked() -> bool:
        levels.append(xgboost.get_config()["verbosity"])
        return stops and len(levels) == 4

    start = None
    if algorithm.is_update:
        start = XGBoost.of({"num_round": 5}).fit(validation, Run(threads=1))
    sink = MemorySink()
    run = Run(threads=1, sink=sink, should_stop=asked, start=start)
    try:
        model = algorithm.fit(data, run, validation=validation)
    except TrainingStopped as stop:
        return {"stopped": str(stop)}
    config = json.loads(model.booster.save_config())["learner"]
    return {
        "models": [booster.save_raw("ubj") for booster in model.boosters],
        "answers": model.predict(table)["score"].to_pylist(),
        "reported": sink.rows,
        "levels": levels,
        "threads": config["generic_param"]["nthread"],
    }


def test_every_name_is_looked_at() -> None:
    assert {item.name for item in XGBoost.hyperparameters()} == {*CHANGES, *REFUSED}


@pytest.mark.filterwarnings(
    "ignore:.*manually specified the `updater`",
    "ignore:Exception ignored on calling ctypes callback:pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize("name", CHANGES)
def test_a_hyperparameter_makes_a_difference(table: pa.Table, name: str) -> None:
    given, value = CHANGES[name]
    before = {"num_round": 3, **given}
    if name == "num_class":
        before["num_class"] = 2
    after = {**before, name: value}
    if name == "process_type":
        after |= {"updater": "refresh"}
    first, second = noticed(before, table), noticed(after, table)
    assert first != second
    if name not in {
        *("eval_metric", "nthread", "verbosity", "save_model_on_termination", "_num_cv_round"),
    }:
        assert first["answers"] != second["answers"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_hyperparameter_that_would_change_nothing_is_refused(name: str) -> None:
    given, value, reason = REFUSED[name]
    with pytest.raises(InvalidHyperparameter, match=reason):
        XGBoost.of({"num_round": 1, **given, name: value})


@pytest.mark.parametrize("name", XGBoost.legacy)
def test_a_name_of_before_is_dropped_with_what_replaces_it(name: str) -> None:
    with pytest.warns(UserWarning, match=f"{name} is dropped; "):
        assert XGBoost.of({"num_round": 1, name: "1"}) == XGBoost(num_round=1)


def fits_of(objective: str, table: pa.Table) -> Iterator[Any]:
    shifted = table.set_column(0, "label", pa.compute.add(table["label"], 0.5))
    needs = objective in ("reg:gamma", "survival:aft")
    data = Dataset.of(shifted if needs else table, features=["x0", "x1", "x2"], intervals=True)
    if objective.startswith("rank:"):
        data = Dataset(
            data.features, data.target, data.inputs, groups=np.arange(len(data)) // 8, channel="t"
        )
    classes = {"num_class": 2} if objective.startswith("multi:") else {}
    for booster in ("gbtree", "dart", "gblinear"):
        values = {"num_round": 2, "objective": objective, "booster": booster, **classes}
        yield booster, XGBoost.of(values).fit(data, Run(threads=1)).predict(table)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_fits_with_every_booster(table: pa.Table, objective: str) -> None:
    answers = dict(fits_of(objective, table))
    assert len(answers) == 3
    assert all(len(answer) == len(table) for answer in answers.values())


@pytest.mark.filterwarnings(
    "ignore:.*manually specified the `updater`",
    "ignore:Exception ignored on calling ctypes callback:pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize("updater", UPDATERS)
def test_every_updater_works_or_is_refused(table: pa.Table, updater: str) -> None:
    data = Dataset.of(table, features=["x0", "x1", "x2"])
    linear = updater in ("shotgun", "coord_descent")
    values = {"num_round": 2, "updater": updater, **(LINEAR if linear else {})}
    if updater in METHODS or linear:
        assert XGBoost.of(values).fit(data, Run(threads=1)).importance()
    else:
        with pytest.raises((InvalidHyperparameter, FitFailed), match=r"updater"):
            XGBoost.of(values).fit(data, Run(threads=1))
