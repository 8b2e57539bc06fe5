"""Rounds of XGBoost that go on: from checkpoints, from a model, and over a model's own trees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from training.algorithms.tabular.boosting.learner import XGBoost
from training.algorithms.tabular.boosting.model import XGBoostModel
from training.data import Dataset
from training.errors import (
    FitFailed,
    InvalidData,
    InvalidHyperparameter,
    InvalidJob,
    TrainingStopped,
)
from training.run import MemorySink, Run

CLASSIFY = {"num_round": 15, "objective": "binary:logistic", "max_depth": 3}


@pytest.fixture(scope="module")
def train(flights: pa.Table) -> Dataset:
    return Dataset.of(flights, label="late", features=["wind", "delay", "seats"])


@pytest.fixture(scope="module")
def validation(train: Dataset, later_flights: pa.Table) -> Dataset:
    return Dataset.of(later_flights, label="late", inputs=train.inputs, channel="validation")


def asked_after(rounds: int) -> Callable[[], bool]:
    asked = iter([False] * rounds)
    return lambda: next(asked, True)


def raw(model: XGBoostModel) -> bytes:
    return bytes(model.booster.save_raw("ubj"))


@pytest.mark.filterwarnings(
    "ignore:.*manually specified the `updater`",
    "ignore:Exception ignored on calling ctypes callback:pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize(
    "values",
    [
        {"subsample": 0.6},
        {"colsample_bytree": 0.5, "colsample_bylevel": 0.7, "colsample_bynode": 0.7},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"sampling_method": "gradient_based", "subsample": 0.3},
        {"tree_method": "approx", "subsample": 0.6, "colsample_bynode": 0.5},
        {"tree_method": "exact", "subsample": 0.6, "colsample_bytree": 0.5},
        {"booster": "dart", "rate_drop": 0.3, "skip_drop": 0.2},
        {"booster": "gblinear"},
        {"updater": "grow_quantile_histmaker,prune", "subsample": 0.6, "gamma": 1},
    ],
    ids=lambda values: ",".join(values),
)
def test_what_is_drawn_after_a_checkpoint_is_what_would_have_been(
    train: Dataset, tmp_path: Path, values: dict[str, Any]
) -> None:
    given = {k: v for k, v in CLASSIFY.items() if k != "max_depth"}
    algorithm = XGBoost.of({**given, **values})
    undisturbed = algorithm.fit(train, Run(threads=1))
    with pytest.raises(TrainingStopped, match="stopped after round 7 of 15"):
        algorithm.fit(train, Run(threads=1, checkpoints=tmp_path, should_stop=asked_after(6)))
    sink = MemorySink()
    resumed = algorithm.fit(train, Run(threads=1, checkpoints=tmp_path, sink=sink))
    assert raw(resumed) == raw(undisturbed)
    assert sink.lines[0] == "going on from the checkpoint after round 7 of 15"
    draws = "booster" not in values or values["booster"] == "dart"
    assert (sink.lines[1] == "this fit draws at random: rounds 1 to 7 anew") == draws
    assert [step for _, _, step in sink.rows] == list(range(7, 15))


def test_early_stopping_remembers_the_rounds_before_a_checkpoint(
    train: Dataset, validation: Dataset, tmp_path: Path
) -> None:
    values = {**CLASSIFY, "num_round": 200, "eta": 0.5, "max_depth": 6}
    algorithm = XGBoost.of({**values, "eval_metric": "auc", "early_stopping_rounds": 8})
    undisturbed = algorithm.fit(train, Run(threads=1), validation=validation)
    run = Run(threads=1, checkpoints=tmp_path, should_stop=asked_after(undisturbed.rounds + 3))
    with pytest.raises(TrainingStopped):
        algorithm.fit(train, run, validation=validation)
    sink = MemorySink()
    going_on = Run(threads=1, checkpoints=tmp_path, sink=sink)
    assert raw(algorithm.fit(train, going_on, validation=validation)) == raw(undisturbed)
    assert sink.done == (200, 200)
    # One that has ended only reads its model again.
    again = algorithm.fit(train, Run(threads=1, checkpoints=tmp_path), validation=validation)
    assert raw(again) == raw(undisturbed)


def test_checkpoints_are_models_and_the_newest_five_are_kept(
    train: Dataset, tmp_path: Path
) -> None:
    for rounds in range(1, 8):
        XGBoost.of({**CLASSIFY, "num_round": rounds}).fit(
            train, Run(threads=1, checkpoints=tmp_path)
        )
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"xgboost-checkpoint.{number}" for number in range(3, 8)]
    booster = xgboost.Booster()
    booster.load_model(bytearray((tmp_path / "xgboost-checkpoint.7").read_bytes()))
    assert booster.num_boosted_rounds() == 7
    with pytest.raises(FitFailed, match="checkpoints have 7 rounds, and the fit is to have 2"):
        XGBoost.of({**CLASSIFY, "num_round": 2}).fit(train, Run(threads=1, checkpoints=tmp_path))


def test_a_checkpoint_of_another_fit_is_refused(train: Dataset, tmp_path: Path) -> None:
    run = Run(threads=1, checkpoints=tmp_path)
    XGBoost.of(CLASSIFY).fit(train, run)
    with pytest.raises(FitFailed, match=r"is of another fit \(hyperparameters: .*'max_depth': 3"):
        XGBoost.of({**CLASSIFY, "max_depth": 4}).fit(train, run)
    with pytest.raises(FitFailed, match=r"another fit \(labels: .*rows: \[600\], now \[599\]\)"):
        XGBoost.of(CLASSIFY).fit(train.take(np.arange(599)), run)
    (tmp_path / "xgboost-checkpoint.15").write_bytes(b"{")
    with pytest.raises(FitFailed, match=r"xgboost-checkpoint\.15 cannot be read as a checkpoint"):
        XGBoost.of(CLASSIFY).fit(train, run)


def test_rounds_go_on_from_a_model(train: Dataset) -> None:
    values = {"objective": "binary:logistic", "max_depth": 3, "subsample": 0.7}
    first = XGBoost.of({**values, "num_round": 5}).fit(train, Run(threads=1))
    sink = MemorySink()
    second = XGBoost.of({**values, "num_round": 10}).fit(
        train, Run(threads=1, start=first, sink=sink)
    )
    assert second.rounds == 15
    plain = xgboost.train(
        {**values, "nthread": 1, "seed": 0},
        xgboost.QuantileDMatrix(train.features, label=train.labels()),
        10,
        xgb_model=bytearray(raw(first)),
    )
    asked = xgboost.DMatrix(train.features)
    expected = plain.predict(asked)
    assert np.abs(second.predict(train.features)["score"].to_numpy() - expected).max() <= 1e-6
    assert [step for _, _, step in sink.rows] == list(range(5, 15))
    assert sink.done == (10, 10)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"objective": "reg:logistic"}, "its objective is binary:logistic, and that of this"),
        ({"booster": "dart"}, "its booster is gbtree, and that of this fit dart"),
        ({"num_parallel_tree": 2}, "its num_parallel_tree is 1, and that of this fit 2"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    flights: pa.Table, train: Dataset, values: Any, reason: str
) -> None:
    first = XGBoost.of({**CLASSIFY, "num_round": 2}).fit(train, Run(threads=1))
    with pytest.raises(InvalidJob, match=f"cannot go on from the model.*{reason}"):
        XGBoost.of({**CLASSIFY, **values}).fit(train, Run(threads=1, start=first))
    fewer = Dataset.of(flights, label="late", features=["wind", "delay"])
    with pytest.raises(InvalidData, match="goes on from a model with the same inputs; it takes"):
        XGBoost.of(CLASSIFY).fit(fewer, Run(threads=1, start=first))


UPDATE = {"process_type": "update", "num_round": 15, "objective": "binary:logistic"}


@pytest.mark.filterwarnings(
    "ignore:.*manually specified the `updater`",
    "ignore:Exception ignored on calling ctypes callback:pytest.PytestUnraisableExceptionWarning",
)
def test_trees_of_a_model_are_refreshed_and_pruned(train: Dataset, validation: Dataset) -> None:
    first = XGBoost.of(CLASSIFY).fit(train, Run(threads=1))
    same = XGBoost.of({**UPDATE, "updater": "refresh"}).fit(train, Run(threads=1, start=first))
    asked = validation.features
    before = first.predict(asked)["score"].to_numpy()
    # On its own data leaves are what they were.
    assert same.predict(asked)["score"].to_numpy() == pytest.approx(before, abs=1e-4)
    refresh = XGBoost.of({**UPDATE, "updater": "refresh"})
    other = refresh.fit(validation, Run(threads=1, start=first))
    assert np.abs(other.predict(asked)["score"].to_numpy() - before).max() > 0.01
    kept = XGBoost.of({**UPDATE, "updater": "refresh", "refresh_leaf": 0}).fit(
        validation, Run(threads=1, start=first)
    )
    assert kept.predict(asked)["score"].to_numpy() == pytest.approx(before, abs=1e-6)
    pruned = XGBoost.of({**UPDATE, "updater": "prune", "gamma": 10}).fit(
        train, Run(threads=1, start=first)
    )
    assert pruned.rounds == first.rounds
    assert leaves(pruned) < leaves(first)


def leaves(model: XGBoostModel) -> int:
    return sum(tree.count("leaf=") for tree in model.booster.get_dump())


def test_an_update_needs_a_model_of_enough_rounds(train: Dataset) -> None:
    refresh = XGBoost.of({**UPDATE, "updater": "refresh"})
    with pytest.raises(InvalidJob, match="process_type=update changes the trees of a model: give"):
        refresh.fit(train, Run(threads=1))
    short = XGBoost.of({**CLASSIFY, "num_round": 3}).fit(train, Run(threads=1))
    with pytest.raises(InvalidHyperparameter, match="changes the 3 rounds of the model, got 15"):
        refresh.fit(train, Run(threads=1, start=short))
