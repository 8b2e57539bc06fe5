from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost

import training
from training import metrics
from training.algorithms.tabular.boosting.learner import XGBoost
from training.algorithms.tabular.boosting.matrix import safe_names
from training.algorithms.tabular.boosting.parameters import parameters
from training.data import Dataset
from training.device import Device
from training.errors import (
    DeviceUnavailable,
    FitFailed,
    InvalidData,
    InvalidHyperparameter,
    InvalidJob,
    TrainingStopped,
)
from training.run import MemorySink, Run

CLASSIFY = {"num_round": 15, "objective": "binary:logistic", "max_depth": 3}
NUMBERS = ["wind", "delay", "seats"]


@pytest.fixture
def train(flights: pa.Table) -> Dataset:
    return Dataset.of(flights, label="late")


@pytest.fixture
def validation(train: Dataset, later_flights: pa.Table) -> Dataset:
    return Dataset.of(later_flights, label="late", inputs=train.inputs, channel="validation")


def test_predictions_equal_the_plain_library(
    train: Dataset, flights: pa.Table, later_flights: pa.Table
) -> None:
    values = {"max_depth": 4, "eta": 0.2, "lambda": 2.0, "seed": 7}
    model = XGBoost.of({**CLASSIFY, **values}).fit(train, Run(threads=1))

    def matrix(table: pa.Table) -> pa.Table:
        words = pa.array(["EWR", "JFK", "LGA"])
        codes = pa.compute.index_in(table["origin"], words).combine_chunks()
        column = pa.DictionaryArray.from_arrays(codes, words)
        place = table.column_names.index("origin")
        return table.set_column(place, "origin", column).drop_columns(["late"])

    plain = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1, **values},
        xgboost.QuantileDMatrix(
            matrix(flights), label=flights["late"].to_numpy(), enable_categorical=True
        ),
        15,
    )
    expected = plain.predict(xgboost.DMatrix(matrix(later_flights), enable_categorical=True))
    got = model.predict(later_flights)["score"].to_numpy()
    assert np.abs(got - expected).max() <= 1e-6


def test_the_saved_file_is_a_plain_xgboost_model(train: Dataset, tmp_path: Path) -> None:
    XGBoost.of(CLASSIFY).fit(train, Run(threads=1)).save(tmp_path)
    booster = xgboost.Booster()
    booster.load_model(bytearray((tmp_path / "xgboost-model").read_bytes()))
    assert booster.num_boosted_rounds() == 15
    assert booster.feature_names == ["wind", "delay", "origin", "night", "seats"]


@pytest.mark.filterwarnings(
    # The library's advice, raised in a callback of its C code.
    "ignore:.*manually specified the `updater`",
    "ignore:Exception ignored on calling ctypes callback:pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize(
    ("values", "columns"),
    [
        ({"tree_method": "exact"}, NUMBERS),
        ({"tree_method": "approx"}, None),
        ({"tree_method": "hist", "max_bin": 16, "grow_policy": "lossguide", "max_leaves": 7}, None),
        ({"booster": "dart", "rate_drop": 0.1, "sample_type": "weighted"}, None),
        ({"booster": "gblinear", "updater": "coord_descent"}, NUMBERS),
        ({"booster": "gblinear"}, NUMBERS),
        ({"num_parallel_tree": 3, "subsample": 0.7, "colsample_bynode": 0.7}, None),
        ({"updater": "grow_quantile_histmaker,prune"}, None),
        ({"monotone_constraints": "(1,0,-1)"}, NUMBERS),
        ({"interaction_constraints": "[[0,1],[2]]"}, NUMBERS),
        ({"sampling_method": "gradient_based", "subsample": 0.5}, None),
    ],
)
def test_ways_to_boost_are_reproducible_with_any_number_of_threads(
    flights: pa.Table, values: dict[str, Any], columns: list[str] | None
) -> None:
    data = Dataset.of(flights, label="late", features=columns or ())
    # No depth: gblinear has none, and the library warns.
    algorithm = XGBoost.of({"num_round": 15, "objective": "binary:logistic", **values})
    first, second = (algorithm.fit(data, Run(threads=threads)) for threads in (1, 2))
    assert first.booster.save_raw("ubj") == second.booster.save_raw("ubj")
    assert first.importance()
    score = first.predict(flights)["score"].to_numpy()
    assert metrics.auc(flights["late"].to_numpy(), score) > 0.7


@pytest.mark.parametrize(
    ("objective", "metric"),
    [
        ("reg:squarederror", "rmse"),
        ("reg:linear", "rmse"),
        ("reg:logistic", "rmse"),
        ("reg:absoluteerror", "mae"),
        ("reg:squaredlogerror", "rmsle"),
        ("reg:pseudohubererror", "mphe"),
        ("reg:tweedie", "tweedie-nloglik@1.5"),
        ("binary:logistic", "logloss"),
        ("binary:logitraw", "logloss"),
        ("binary:hinge", "error"),
        ("count:poisson", "poisson-nloglik"),
        ("survival:cox", "cox-nloglik"),
    ],
)
def test_objectives_report_their_own_metric(
    train: Dataset, flights: pa.Table, objective: str, metric: str
) -> None:
    sink = MemorySink()
    model = XGBoost.of({"num_round": 3, "objective": objective}).fit(
        train, Run(sink=sink, threads=1)
    )
    assert set(sink.metrics) == {f"train:{metric}"}
    assert len(model.predict(flights)) == len(flights)


def test_several_classes_answer_a_class_or_all_probabilities(flights: pa.Table) -> None:
    codes = pa.compute.index_in(flights["origin"], pa.array(["EWR", "JFK", "LGA"]))
    table = flights.drop_columns(["origin"]).append_column("airport", codes)
    data = Dataset.of(table, label="airport")
    values = {"num_round": 5, "num_class": 3}
    soft = XGBoost.of({**values, "objective": "multi:softprob"}).fit(data, Run(threads=1))
    hard = XGBoost.of({**values, "objective": "multi:softmax"}).fit(data, Run(threads=1))
    probabilities = soft.predict(table)["score"].to_pylist()
    assert all(len(row) == 3 for row in probabilities)
    assert np.sum(probabilities, axis=1) == pytest.approx(1, abs=1e-5)
    classes = hard.predict(table)["score"].to_numpy()
    assert (np.argmax(probabilities, axis=1) == classes).all()
    assert soft.predict(table.slice(0, 0))["score"].type == pa.list_(pa.float32())


def test_metrics_the_library_lacks_are_computed_on_its_predictions(
    train: Dataset, validation: Dataset, later_flights: pa.Table
) -> None:
    sink = MemorySink()
    algorithm = XGBoost.of({**CLASSIFY, "eval_metric": "accuracy,auc,f1,balanced_accuracy,mse"})
    model = algorithm.fit(train, Run(sink=sink, threads=1), validation=validation)
    score = model.predict(later_flights)["score"].to_numpy()
    target = later_flights["late"].to_numpy()
    guess = score > 0.5
    for name, expected in {
        "accuracy": metrics.accuracy(target, guess),
        "f1": metrics.f1(target, guess),
        "balanced_accuracy": metrics.balanced_accuracy(target, guess),
        "mse": metrics.mse(target, score),
        "auc": metrics.auc(target, score),
    }.items():
        assert sink.metrics[f"validation:{name}"] == pytest.approx(expected, abs=1e-6), name


def test_the_threshold_of_raw_scores_is_zero(train: Dataset, flights: pa.Table) -> None:
    sink = MemorySink()
    algorithm = XGBoost.of({**CLASSIFY, "objective": "binary:logitraw", "eval_metric": "accuracy"})
    score = algorithm.fit(train, Run(sink=sink, threads=1)).predict(flights)["score"].to_numpy()
    expected = metrics.accuracy(flights["late"].to_numpy(), score > 0)
    assert sink.metrics == {"train:accuracy": pytest.approx(expected)}


def test_lines_are_printed_as_log_scrapers_expect(train: Dataset, validation: Dataset) -> None:
    sink = MemorySink()
    algorithm = XGBoost.of({**CLASSIFY, "eval_metric": "auc"})
    algorithm.fit(train, Run(sink=sink, threads=1), validation=validation)
    declared = {metric.name: metric.pattern for metric in algorithm.metrics}
    found = re.match(declared["validation:auc"], sink.lines[14])
    assert found is not None
    assert float(found[1]) == pytest.approx(sink.metrics["validation:auc"], abs=1e-5)
    assert re.fullmatch(
        r"\[14\]#011train-auc:\d\.\d{5}#011validation-auc:\d\.\d{5}", sink.lines[14]
    )
    assert sink.lines[-1].startswith("#quality_metric: host=algo-1, validation auc <score>=0.")
    steps = [step for name, _, step in sink.rows if name == "validation:auc"]
    assert steps == list(range(15))


@pytest.mark.parametrize("booster", ["gbtree", "dart"])
def test_early_stopping_keeps_the_best_round(
    train: Dataset, validation: Dataset, later_flights: pa.Table, booster: str
) -> None:
    sink = MemorySink()
    algorithm = XGBoost.of(
        {
            **CLASSIFY,
            "num_round": 300,
            "eta": 0.5,
            "max_depth": 6,
            "booster": booster,
            "eval_metric": "error,auc",
            "early_stopping_rounds": 5,
        }
    )
    model = algorithm.fit(train, Run(sink=sink, threads=1), validation=validation)
    history = [value for name, value, _ in sink.rows[:-2] if name == "validation:auc"]
    assert len(history) < 300
    assert model.rounds == int(np.argmax(history)) + 1
    assert sink.metrics["validation:auc"] == max(history)
    score = model.predict(later_flights)["score"].to_numpy()
    measured = metrics.auc(later_flights["late"].to_numpy(), score)
    assert measured == pytest.approx(max(history), abs=1e-6)


def test_early_stopping_needs_a_validation_channel(train: Dataset) -> None:
    algorithm = XGBoost.of({**CLASSIFY, "early_stopping_rounds": 5})
    with pytest.raises(InvalidJob, match="channel 'validation' is required with these hyper"):
        algorithm.fit(train, Run(threads=1))


def test_importance_is_reported_for_the_columns_that_matter(train: Dataset) -> None:
    sink = MemorySink()
    model = XGBoost.of(CLASSIFY).fit(train, Run(sink=sink, threads=1))
    importance = model.importance()
    assert sink.properties == {"feature_importance": importance, "rounds": 15}
    assert list(importance.values()) == sorted(importance.values(), reverse=True)
    assert set(list(importance)[:3]) == {"wind", "delay", "origin"}
    assert set(model.importance("weight")) <= set(train.inputs.names)


def test_names_the_library_does_not_take_are_no_trouble(flights: pa.Table) -> None:
    names = ["late", "wind[m/s]", "wind<m/s]", "origin", "night", "seats"]
    table = flights.rename_columns(names)
    model = XGBoost.of(CLASSIFY).fit(Dataset.of(table, label="late"), Run(threads=1))
    assert set(model.importance()) <= set(names)
    assert model.predict(table)["score"].to_pylist() == (
        XGBoost.of(CLASSIFY)
        .fit(Dataset.of(flights, label="late"), Run(threads=1))
        .predict(flights)["score"]
        .to_pylist()
    )


def asked_after(rounds: int) -> Callable[[], bool]:
    asked = iter([False] * rounds)
    return lambda: next(asked, True)


def test_a_fit_that_is_asked_to_stop_keeps_its_model_where_that_is_wished(train: Dataset) -> None:
    values = {**CLASSIFY, "num_round": 1000}
    with pytest.raises(TrainingStopped, match="stopped after round 5 of 1000; set save_model_on"):
        XGBoost.of(values).fit(train, Run(threads=1, should_stop=asked_after(4)))
    kept = XGBoost.of({**values, "save_model_on_termination": "true"})
    assert kept.fit(train, Run(threads=1, should_stop=asked_after(4))).rounds == 5


def test_the_seed_is_the_hyperparameter_or_the_runs(train: Dataset) -> None:
    def fit(run_seed: int, **values: Any) -> bytes:
        algorithm = XGBoost.of({**CLASSIFY, "subsample": 0.5, **values})
        model = algorithm.fit(train, Run(threads=1, seed=run_seed))
        raw: bytes = model.booster.save_raw("ubj")
        return raw

    assert fit(1) != fit(2)
    assert fit(1, seed=9) == fit(2, seed=9)


def test_the_librarys_verbosity_is_left_as_it_was(train: Dataset) -> None:
    before = xgboost.get_config()["verbosity"]
    XGBoost.of({**CLASSIFY, "verbosity": 0}).fit(train, Run(threads=1))
    assert xgboost.get_config()["verbosity"] == before


def test_a_jobs_process_loads_the_library_without_its_wrappers() -> None:
    code = """
import sys
from training.algorithms.tabular.boosting.learner import XGBoost
XGBoost.prepare()
assert "xgboost" in sys.modules
assert "sklearn" not in sys.modules
assert "pandas" not in sys.modules
import sklearn
XGBoost.prepare()
assert sys.modules["sklearn"] is sklearn
"""
    root = Path(training.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"num_round": 0}, "num_round: expected an integer >= 1, got 0"),
        ({"max_dept": 3}, "no hyperparameter 'max_dept'; did you mean 'max_depth'?"),
        ({"eta": "1.5"}, r"eta: expected a number in \[0, 1\], got '1.5'"),
        ({"learning_rate": 2}, r"eta: expected a number in \[0, 1\]"),
        ({"eta": 0.1, "learning_rate": 0.2}, "eta: given twice"),
        ({"subsample": 0}, r"subsample: expected a number in \(0, 1\]"),
        ({"objective": "binary:logit"}, "objective: expected one of reg:squarederror"),
        (
            {"objective": "multi:softmax"},
            "num_class >= 2 goes with multi:.* num_class=None",
        ),
        ({"num_class": 3}, "num_class >= 2 goes with multi:softmax"),
        (
            {"objective": "survival:aft", "eval_metric": "rmse"},
            "only with survival:aft, and is its only one",
        ),
        (
            {"objective": "survival:aft", "aft_loss_distribution_scale": 0},
            "noise of scale 0 has no density",
        ),
        ({"scale_pos_weight": 2, "objective": "count:poisson"}, "others do not look at it"),
        ({"booster": "gblinear", "max_depth": 3}, "booster=gblinear has none; got .*max_depth=3"),
        ({"booster": "gblinear", "tree_method": "hist"}, "booster=gblinear has none"),
        ({"tree_method": "exact", "max_bin": 16}, "tree_method=exact takes no grow_policy"),
        ({"updater": "grow_colmaker", "max_leaves": 9}, "tree_method=exact takes no grow_policy"),
        ({"updater": "distcol"}, "are gone from the library: use grow_colmaker"),
        ({"updater": "prune"}, "updater begins with one that grows trees"),
        ({"updater": "sync,grow_colmaker"}, "updater begins with one that grows trees"),
        (
            {"updater": "grow_colmaker", "tree_method": "hist"},
            "the updater that grows trees is the tree_method: grow_colmaker is exact",
        ),
        ({"sampling_method": "gradient_based"}, "share of rows from subsample, below 1"),
        ({"refresh_leaf": 0}, "refresh_leaf is for the updater refresh"),
        (
            {"process_type": "update", "updater": "refresh", "subsample": 0.5},
            "process_type=update grows no trees, and so takes no subsample",
        ),
        ({"aft_loss_distribution": "normal"}, "aft_\\* goes only with survival:aft"),
        ({"eval_metric": "auc,lift"}, "eval_metric: expected a comma-separated list of accuracy"),
        ({"eval_metric": "aft-nloglik"}, "aft-nloglik goes only with survival:aft"),
        ({"eval_metric": "accuracy", "objective": "reg:gamma"}, "go only with binary:. and multi"),
        (
            {"eval_metric": "f1_binary", "objective": "multi:softmax", "num_class": 3},
            "f1_binary, precision, recall go only with binary",
        ),
        (
            {"eval_metric": "r2", "objective": "multi:softmax", "num_class": 3},
            "mse and r2 do not go with multi",
        ),
        ({"booster": "gblinear", "updater": "shotgun,coord_descent"}, "takes exactly one of"),
        ({"updater": "grow_colmaker,grow_histmaker"}, "at most one updater that grows trees"),
        ({"updater": "shotgun"}, "neither shotgun nor coord_descent"),
        ({"process_type": "update"}, "changes the trees of a model with updater refresh, prune"),
        (
            {"process_type": "update", "updater": "refresh", "early_stopping_rounds": 2},
            "early_stopping_rounds does not go with process_type=update",
        ),
        ({"rate_drop": 0.1}, "go only with booster=dart; got .*rate_drop=0.1"),
        ({"booster": "gblinear", "early_stopping_rounds": 3}, "cannot return to its best round"),
        (
            {"monotone_constraints": "(1,0)", "tree_method": "approx"},
            "goes with tree_method exact, hist or auto",
        ),
        ({"tweedie_variance_power": 1.2}, "goes only with reg:tweedie"),
        ({"tweedie_variance_power": 2}, r"expected a number in \(1, 2\)"),
        ({"_kfold": 1}, "_kfold: expected an integer >= 2, got 1"),
        ({"_num_cv_round": 2}, "_num_cv_round repeats the folds of _kfold, and needs it"),
        ({"lambda_bias": 0.5}, "the library does not penalise gblinear's bias any more"),
        ({"save_model_on_termination": "maybe"}, "expected true or false, got 'maybe'"),
    ],
)
def test_a_hyperparameter_that_cannot_be_is_refused_with_what_can(
    values: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidHyperparameter, match=expected) as caught:
        XGBoost.of({"num_round": 5, "objective": "binary:logistic", **values})
    assert str(caught.value).startswith("xgboost: ")
    assert caught.value.algorithm == "xgboost"


def test_num_round_is_required() -> None:
    with pytest.raises(InvalidHyperparameter, match="num_round: required, expected an integer >="):
        XGBoost.of({})


def test_what_is_off_by_default_may_be_said() -> None:
    assert XGBoost.of({"num_round": "1", "csv_weights": "0", "_num_cv_round": "1"}).csv_weights == 0


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("sketch_eps", "max_bin"),
        ("predictor", "device"),
        ("dsplit", "hosts"),
        ("deterministic_histogram", "deterministic"),
        ("single_precision_histogram", "double precision"),
        ("prob_buffer_row", "no effect"),
        ("use_dask_gpu_training", "device"),
    ],
)
def test_a_legacy_name_is_dropped_with_a_warning(name: str, replacement: str) -> None:
    with pytest.warns(UserWarning, match=f"{name} is dropped; .*{replacement}"):
        made = XGBoost.of({"num_round": 1, name: "x"})
    assert made == XGBoost(num_round=1)


def test_gpu_hist_is_hist_on_a_cuda_device(train: Dataset) -> None:
    with pytest.warns(UserWarning, match="gpu_hist is now tree_method=hist"):
        algorithm = XGBoost.of({**CLASSIFY, "tree_method": "gpu_hist"})
    with pytest.raises(DeviceUnavailable, match="needs a CUDA device and the job runs on the CPU"):
        algorithm.fit(train, Run(threads=1))
    params = parameters(algorithm, Run(threads=1, device=Device("cuda", 1)))
    assert (params["tree_method"], params["device"]) == ("hist", "cuda:1")


@pytest.mark.parametrize(
    ("objective", "labels", "expected"),
    [
        ("binary:logistic", [0, 2], r"expects labels from 0 to 1, got 2 in row 2"),
        ("binary:hinge", [0, 0.5], "expects labels 0 and 1, got 0.5 in row 2"),
        ("multi:softmax", [3, 0], "expects classes numbered 0 to 2, got 3 in row 1"),
        ("multi:softprob", [1.5, 0], "expects classes numbered 0 to 2, got 1.5 in row 1"),
        ("count:poisson", [1, -1], "expects labels >= 0, got -1 in row 2"),
        ("reg:gamma", [1, 0], "expects labels > 0, got 0 in row 2"),
        ("reg:squaredlogerror", [1, -1], "expects labels > -1, got -1 in row 2"),
    ],
)
def test_labels_an_objective_does_not_take_are_named(
    objective: str, labels: list[float], expected: str
) -> None:
    data = Dataset.of(pa.table({"late": labels, "wind": [1.0, 2.0]}), label="late")
    values = {"num_class": 3} if objective.startswith("multi:") else {}
    with pytest.raises(InvalidData, match=f"train: label column 'late': {objective} {expected}"):
        XGBoost.of({"num_round": 1, "objective": objective, **values}).fit(data, Run(threads=1))


@pytest.mark.parametrize("values", [{"booster": "gblinear"}, {"tree_method": "exact"}])
def test_text_where_only_numbers_go_is_named(train: Dataset, values: dict[str, str]) -> None:
    with pytest.raises(InvalidData, match=r"train: column 'origin' is text, and .*numbers only"):
        XGBoost.of({"num_round": 15, **values}).fit(train, Run(threads=1))


def test_constraints_must_fit_the_columns(train: Dataset) -> None:
    with pytest.raises(InvalidHyperparameter, match=r"one number per input column \(5: wind, "):
        XGBoost.of({**CLASSIFY, "monotone_constraints": "(1,0)"}).fit(train, Run(threads=1))
    with pytest.raises(InvalidHyperparameter, match="input columns from 0 to 4, got 5"):
        XGBoost.of({**CLASSIFY, "interaction_constraints": "[[0,5]]"}).fit(train, Run(threads=1))


def test_what_the_library_refuses_is_said_in_one_line(train: Dataset) -> None:
    with pytest.raises(FitFailed) as caught:
        XGBoost.of({**CLASSIFY, "base_score": 3}).fit(train, Run(threads=1))
    assert str(caught.value).startswith("xgboost: ")
    assert "base_score" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_schema_is_json(train: Dataset) -> None:
    made = json.loads(json.dumps(XGBoost.schema()))
    assert made["required"] == ["num_round"]
    assert made["properties"]["eta"]["x-tunable"] == {"low": 0.1, "high": 0.5, "scale": "Linear"}
    assert made["x-legacy"]["sketch_eps"]
    assert len(made["x-dependencies"]) == len(XGBoost.dependencies)


@pytest.mark.parametrize("kind", ["vector", "sparse"])
def test_vectors_are_the_columns_they_hold(flights: pa.Table, kind: str) -> None:
    numbers = flights.select(["delay", "seats"])
    plain = numbers.append_column("label", flights["late"])
    rows = np.column_stack([numbers[name].to_numpy() for name in numbers.column_names])
    if kind == "vector":
        features: Any = pa.array(list(rows), pa.list_(pa.float64(), 2))
    else:
        features = pa.array([{"indices": [0, 1], "values": row} for row in rows.tolist()])
    packed = pa.table({"features": features, "label": flights["late"]})
    models = [XGBoost.of(CLASSIFY).fit(Dataset.of(t), Run(threads=1)) for t in (plain, packed)]
    answers = [
        model.predict(t)["score"].to_numpy()
        for model, t in zip(models, (plain, packed), strict=True)
    ]
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-6)
    assert next(iter(models[1].importance())).startswith("features[")


def test_a_model_is_measured_by_the_metrics_asked_for(train: Dataset, validation: Dataset) -> None:
    algorithm = XGBoost.of({**CLASSIFY, "eval_metric": "logloss,auc,f1"})
    sink = MemorySink()
    model = algorithm.fit(train, Run(threads=1, sink=sink), validation=validation)
    measured = algorithm.evaluate(model, validation)
    for name in ("logloss", "auc", "f1"):
        assert measured[name] == pytest.approx(sink.metrics[f"validation:{name}"], abs=1e-6)


def test_very_wide_sparse_rows_are_named_at_once() -> None:
    width = 300_000
    features = pa.array([{"indices": [row], "values": [1.0]} for row in range(4)])
    field = pa.field("f", features.type, metadata={b"featureline.size": str(width).encode()})
    label = pa.field("label", pa.float64())
    table = pa.table([pa.array([0.0, 1, 0, 1]), features], schema=pa.schema([label, field]))
    assert len(safe_names(Dataset.of(table).inputs)) == width


def test_a_channel_of_scripts_is_refused_with_what_runs_them() -> None:
    with pytest.raises(InvalidJob, match=r"channel 'code' holds a script, .*AlgorithmName=script"):
        XGBoost.of(CLASSIFY).check_channels(["train", "code"])
