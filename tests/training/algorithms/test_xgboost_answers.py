"""What XGBoost's models answer: keys chosen for a reply, and the boosters of folds together."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from training import Channel, TrainingJob, load_model, metrics, train
from training.algorithms.tabular.boosting.answers import KEYS, answers
from training.algorithms.tabular.boosting.folds import parts
from training.algorithms.tabular.boosting.learner import XGBoost
from training.algorithms.tabular.boosting.model import XGBoostModel
from training.data import Dataset
from training.errors import InvalidData, InvalidJob, TrainingStopped
from training.run import MemorySink, Run

FOLDS = {"num_round": 5, "objective": "binary:logistic", "max_depth": 3, "_kfold": 3}


@pytest.fixture(scope="module")
def data(flights: pa.Table) -> Dataset:
    return Dataset.of(flights, label="late")


@pytest.mark.parametrize(
    ("objective", "scores", "expected"),
    [
        (
            "binary:logistic",
            [0.25, 0.75],
            {
                "predicted_label": [0, 1],
                "labels": [[0, 1], [0, 1]],
                "probability": [0.25, 0.75],
                "probabilities": [[0.75, 0.25], [0.25, 0.75]],
                "raw_score": [0.25, 0.75],
                "raw_scores": [[0.75, 0.25], [0.25, 0.75]],
            },
        ),
        (
            "multi:softprob",
            [[0.25, 0.5, 0.25], [0.75, 0.0, 0.25]],
            {
                "predicted_label": [1, 0],
                "labels": [[0, 1, 2], [0, 1, 2]],
                "probability": [0.5, 0.75],
                "probabilities": [[0.25, 0.5, 0.25], [0.75, 0.0, 0.25]],
                "raw_score": [0.5, 0.75],
                "raw_scores": [[0.25, 0.5, 0.25], [0.75, 0.0, 0.25]],
            },
        ),
        (
            "binary:logitraw",
            [-0.5, 0.25],
            {
                "predicted_label": [0, 1],
                "labels": [[0, 1], [0, 1]],
                "raw_score": [-0.5, 0.25],
                "raw_scores": [[1.5, -0.5], [0.75, 0.25]],
            },
        ),
        (
            "multi:softmax",
            [2.0, 0.0],
            {
                "predicted_label": [2, 0],
                "labels": [[0, 1, 2], [0, 1, 2]],
                "raw_score": [2, 0],
                "raw_scores": [[2], [0]],
            },
        ),
        ("reg:squarederror", [1.5, -2.0], {"predicted_score": [1.5, -2]}),
    ],
)
@pytest.mark.filterwarnings("ignore:.* has no meaning for")
def test_a_reply_holds_the_keys_that_are_chosen(
    objective: str, scores: Any, expected: dict[str, Any]
) -> None:
    given = np.array(scores, np.float32)
    several = 3 if objective.startswith("multi:") else 0
    got = answers(given, KEYS, objective=objective, num_class=several)
    for key in KEYS:
        if key in expected:
            assert got[key].to_pylist() == expected[key], key
        else:
            assert np.isnan(got[key].to_numpy()).all(), key
    backwards = answers(given, ["raw_score", "labels"], objective=objective, num_class=several)
    assert backwards.column_names == ["raw_score", "labels"]


def test_the_environment_chooses_what_is_answered(data: Dataset, flights: pa.Table) -> None:
    model = XGBoost.of({"num_round": 3, "objective": "binary:logistic"}).fit(data, Run(threads=1))
    keys = {"SAGEMAKER_INFERENCE_OUTPUT": "predicted_label,probabilities"}
    served = model.served(keys)
    reply = served.predict(flights)
    assert reply.column_names == ["predicted_label", "probabilities"]
    score = model.predict(flights)["score"].to_numpy()
    assert (reply["predicted_label"].to_numpy() == (score > 0.5)).all()
    assert len(served.predict(flights.slice(0, 0))) == 0
    assert model.served({}).predict(flights).column_names == ["score"]
    with pytest.warns(UserWarning, match="predicted_score has no meaning for binary:logistic"):
        model.served({"SAGEMAKER_INFERENCE_OUTPUT": "predicted_score"}).predict(flights)
    with pytest.raises(InvalidJob, match="no 'labls'; did you mean 'labels'"):
        model.served({"SAGEMAKER_INFERENCE_OUTPUT": "labls"})
    with pytest.raises(InvalidJob, match="expected true or false, got 'maybe'"):
        model.served({"SAGEMAKER_INFERENCE_ENSEMBLE": "maybe"})


# -- folds ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folded(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    sink, output = MemorySink(), tmp_path_factory.mktemp("output")
    values = {**FOLDS, "_num_cv_round": 2, "eval_metric": "logloss,accuracy"}
    run = Run(threads=1, sink=sink, output=output)
    return XGBoost.of(values).fit(data, run), sink, output


def test_each_row_is_predicted_by_the_boosters_that_have_not_seen_it(
    data: Dataset, folded: tuple[XGBoostModel, MemorySink, Path]
) -> None:
    model, sink, output = folded
    assert len(model.boosters) == 6
    with (output / "predictions.csv").open() as file:
        written = np.array([[float(cell) for cell in line] for line in csv.reader(file)])
    held = list(parts(data, 3, 2, stratified=True, seed=0))
    total, losses = np.zeros(len(data)), []
    for rows, booster in zip(held, model.boosters, strict=True):
        one = XGBoostModel(booster, model.columns)
        score = one.predict(data.features)["score"].to_numpy()[rows]
        total[rows] += score / 2
        losses.append(metrics.logloss(data.labels()[rows], score))
    assert written[:, 0] == pytest.approx(data.labels())
    assert written[:, 1] == pytest.approx(total, abs=1e-6)
    assert (written[:, 2] == (total > 0.5)).all()
    assert sink.metrics["validation:logloss"] == pytest.approx(np.mean(losses), abs=1e-6)
    assert sink.metrics["validation:logloss-std"] == pytest.approx(np.std(losses), abs=1e-6)
    assert sink.done == (30, 30)
    assert sink.lines[0].startswith("fold 1 of 6 [0]#011train-logloss:0.")
    assert sink.lines[-1].startswith("[4]#011train-logloss:0.")
    assert sink.properties["rounds"] == [5] * 6


def test_boosters_of_folds_answer_together(
    folded: tuple[XGBoostModel, MemorySink, Path], later_flights: pa.Table, tmp_path: Path
) -> None:
    model = folded[0]
    singles = [
        XGBoostModel(booster, model.columns).predict(later_flights)["score"].to_numpy()
        for booster in model.boosters
    ]
    score = model.predict(later_flights)["score"].to_numpy()
    assert score == pytest.approx(np.mean(singles, axis=0), abs=1e-6)
    first = model.served({"SAGEMAKER_INFERENCE_ENSEMBLE": "false"}).predict(later_flights)
    assert (first["score"].to_numpy() == singles[0]).all()
    model.save(tmp_path)
    names = {f"xgboost-model-{number}" for number in range(6)}
    assert {path.name for path in tmp_path.iterdir()} == names | {"inputs.json"}
    loaded = XGBoostModel.load(tmp_path)
    assert loaded.predict(later_flights).equals(model.predict(later_flights))
    (test,) = {
        XGBoost.of(FOLDS).evaluate(model, Dataset.of(later_flights, label="late"))["logloss"]
    }
    each = [metrics.logloss(later_flights["late"].to_numpy(), one) for one in singles]
    assert test == pytest.approx(np.mean(each), abs=1e-6)


def test_classes_of_folds_are_voted_on(flights: pa.Table, tmp_path: Path) -> None:
    codes = pa.compute.index_in(flights["origin"], pa.array(["EWR", "JFK", "LGA"]))
    table = flights.drop_columns(["origin"]).append_column("airport", codes)
    values = {"num_round": 3, "objective": "multi:softmax", "num_class": 3, "_kfold": 3}
    data = Dataset.of(table, label="airport")
    model = XGBoost.of(values).fit(data, Run(threads=1, output=tmp_path))
    votes = np.stack(
        [
            XGBoostModel(one, model.columns).predict(table)["score"].to_numpy()
            for one in model.boosters
        ]
    )
    expected = [np.bincount(column).argmax() for column in votes.T.astype(np.int64)]
    assert model.predict(table)["score"].to_pylist() == expected
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(lines) == len(table)
    assert all(line.count(",") == 1 for line in lines)


def test_folds_are_as_equal_as_can_be_and_keep_queries_together() -> None:
    labels = np.repeat([0.0, 1.0, 2.0], [50, 31, 7])
    table = pa.table({"label": labels, "f0": np.arange(88.0)})
    data = Dataset.of(table)
    held = list(parts(data, 4, 2, stratified=True, seed=5))
    for repeat in (held[:4], held[4:]):
        assert sorted(np.concatenate(repeat)) == list(range(88))
        counts = np.array([np.bincount(labels[rows].astype(int), minlength=3) for rows in repeat])
        assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    assert not np.array_equal(held[0], held[4])
    groups = np.arange(88) % 11
    asked = Dataset(data.features, data.target, data.inputs, groups=groups)
    for rows in parts(asked, 4, 1, stratified=False, seed=5):
        assert not set(groups[rows]) & set(np.delete(groups, rows))
    with pytest.raises(InvalidData, match="_kfold=12 needs as many queries, and there are 11"):
        list(parts(asked, 12, 1, stratified=False, seed=5))


def test_folds_go_on_where_they_were_stopped(data: Dataset, tmp_path: Path) -> None:
    algorithm = XGBoost.of({**FOLDS, "early_stopping_rounds": 2})
    undisturbed = algorithm.fit(data, Run(threads=1))
    asked = iter([False] * 7)
    run = Run(threads=1, checkpoints=tmp_path, should_stop=lambda: next(asked, True))
    with pytest.raises(TrainingStopped, match="stopped in fold 2 of 3"):
        algorithm.fit(data, run)
    resumed = algorithm.fit(data, Run(threads=1, checkpoints=tmp_path))
    for one, other in zip(resumed.boosters, undisturbed.boosters, strict=True):
        assert one.save_raw("ubj") == other.save_raw("ubj")
    with pytest.raises(InvalidJob, match="_kfold starts each fold anew"):
        algorithm.fit(data, Run(threads=1, start=undisturbed))
    with pytest.raises(InvalidJob, match="holds the 3 boosters of folds, and one is needed"):
        XGBoost.of({k: v for k, v in FOLDS.items() if k != "_kfold"}).fit(
            data, Run(threads=1, start=undisturbed)
        )


def test_a_job_in_folds_keeps_its_predictions(
    home: Path, make_job: Any, flight_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    job: TrainingJob = make_job(
        hyper_parameters={"num_round": 3, "_kfold": 2},
        channels=[
            Channel(channel_name=name, path=str(path), label="late")
            for name, path in flight_files.items()
        ],
    )
    result = train(home, job).check()
    assert set(result.metrics) == {
        *("train:auc", "train:auc-std", "validation:auc", "validation:auc-std"),
    }
    monkeypatch.setenv("SAGEMAKER_INFERENCE_OUTPUT", "probability")
    asked = pa.table({"wind": [30.0], "delay": [5.0], "origin": ["LGA"], "night": [True]})
    reply = load_model(result.model).predict(asked.append_column("seats", pa.array([100])))
    assert reply.column_names == ["probability"]
    (packed,) = home.rglob("output.tar.gz")
    with tarfile.open(packed) as archive:
        assert "predictions.csv" in archive.getnames()
