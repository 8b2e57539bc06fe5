"""Linear Learner beside scikit-learn on standardised inputs, with equal folds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import sklearn
from sklearn import datasets, linear_model, metrics, model_selection
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.benchmarks.quality.harness import Row, median_seconds
from training.algorithms.tabular.linear.learner import LinearLearner
from training.data import Dataset
from training.run import MemorySink, Run

__all__ = ["measure"]

_REFERENCE: Final = f"scikit-learn {sklearn.__version__}"
_LBFGS: Final = {"optimizer": "lbfgs"}
_STEPS: Final = {"epochs": 100, "mini_batch_size": 100}
_BINARY: Final = {"predictor_type": "binary_classifier"}


def measure() -> list[Row]:
    """Run the development cases and the speed bars."""
    return [*_small(), *_skewed(), *_speed()]


def _dataset(rows: Any, target: Any, *, like: Dataset | None = None, channel: str) -> Dataset:
    flat = pa.array(np.ascontiguousarray(rows, np.float32).ravel())
    features = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    table = pa.table({"label": np.asarray(target, np.float64), "features": features})
    return Dataset.of(table, inputs=like.inputs if like else None, channel=channel)


def _small() -> Iterator[Row]:
    folds = model_selection.StratifiedKFold(5, shuffle=True, random_state=0)
    for name, loaded in {
        "breast_cancer": datasets.load_breast_cancer(),
        "digits": datasets.load_digits(),
        "wine": datasets.load_wine(),
    }.items():
        classes = len(np.unique(loaded.target))
        kind = (
            _BINARY
            if classes == 2
            else {"predictor_type": "multiclass_classifier", "num_classes": classes}
        )
        reference = make_pipeline(StandardScaler(), linear_model.LogisticRegression(max_iter=1000))
        theirs = _theirs(reference, loaded, folds, _classified)
        for how, more in (("lbfgs", _LBFGS), ("adam, 100 epochs of 100 rows", _STEPS)):
            ours = _ours({**kind, **more}, loaded, folds)
            case = f"{name}, 5 folds, {how}"
            accuracy = "binary_classification_accuracy" if classes == 2 else "multiclass_accuracy"
            yield Row(
                case=case,
                measure="accuracy",
                ours=ours[accuracy],
                reference=f"{_REFERENCE} LogisticRegression",
                reference_value=theirs["accuracy"],
                bar=round(theirs["accuracy"] - 0.003, 4),
                seconds=ours["seconds"],
                reference_seconds=theirs["seconds"],
            )
            if classes == 2:
                yield Row(
                    case=case,
                    measure="AUC",
                    ours=ours["roc_auc_score"],
                    reference=f"{_REFERENCE} LogisticRegression",
                    reference_value=theirs["auc"],
                    bar=round(theirs["auc"] - 0.003, 4),
                )
                yield Row(
                    case=case,
                    measure="log loss",
                    ours=ours["objective_loss"],
                    reference=f"{_REFERENCE} LogisticRegression",
                    reference_value=theirs["log loss"],
                )
    diabetes = datasets.load_diabetes()
    plain = model_selection.KFold(5, shuffle=True, random_state=0)
    ridge = make_pipeline(StandardScaler(), linear_model.RidgeCV(alphas=np.logspace(-3, 3, 13)))
    theirs = _theirs(ridge, diabetes, plain, _regressed)
    for how, more in (("lbfgs", _LBFGS), ("adam, the defaults", {})):
        ours = _ours({"predictor_type": "regressor", **more}, diabetes, plain)
        yield Row(
            case=f"diabetes, 5 folds, {how}",
            measure="RMSE",
            ours=ours["rmse"],
            reference=f"{_REFERENCE} RidgeCV",
            reference_value=theirs["rmse"],
            bar=round(theirs["rmse"] * 1.01, 2),
            sense="<=",
            seconds=ours["seconds"],
            reference_seconds=theirs["seconds"],
        )


def _ours(values: dict[str, Any], loaded: Any, folds: Any) -> dict[str, float]:
    found: list[dict[str, float]] = []
    learner = LinearLearner.of(values)
    for chosen, left in folds.split(loaded.data, loaded.target):
        train = _dataset(loaded.data[chosen], loaded.target[chosen], channel="train")
        test = _dataset(loaded.data[left], loaded.target[left], like=train, channel="test")
        began = time.perf_counter()
        model = learner.fit(train, Run(threads=1))
        seconds = time.perf_counter() - began
        found.append({**learner.evaluate(model, test), "seconds": seconds})
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _theirs(
    reference: Any, loaded: Any, folds: Any, judge: Callable[..., dict[str, float]]
) -> dict[str, float]:
    found = []
    for chosen, left in folds.split(loaded.data, loaded.target):
        began = time.perf_counter()
        reference.fit(loaded.data[chosen], loaded.target[chosen])
        seconds = time.perf_counter() - began
        judged = judge(reference, loaded.data[left], loaded.target[left])
        found.append({**judged, "seconds": seconds})
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _classified(model: Any, rows: Any, target: Any) -> dict[str, float]:
    scores = model.predict_proba(rows)
    judged = {"accuracy": float(model.score(rows, target)), "log loss": 0.0, "auc": 0.0}
    if scores.shape[1] == 2:
        judged["auc"] = float(metrics.roc_auc_score(target, scores[:, 1]))
        judged["log loss"] = float(metrics.log_loss(target, scores))
    return judged


def _regressed(model: Any, rows: Any, target: Any) -> dict[str, float]:
    return {"rmse": float(metrics.root_mean_squared_error(target, model.predict(rows)))}


def _skewed() -> Iterator[Row]:
    rows, target = datasets.make_classification(
        n_samples=40_000,
        n_features=30,
        n_informative=8,
        n_redundant=6,
        n_clusters_per_class=1,
        weights=[0.8],
        class_sep=0.9,
        flip_y=0.05,
        random_state=0,
    )
    parts = model_selection.train_test_split(
        rows, target, test_size=0.3, stratify=target, random_state=0
    )
    train_rows, test_rows, train_target, test_target = parts
    cut = len(train_rows) * 4 // 5
    train = _dataset(train_rows[:cut], train_target[:cut], channel="train")
    held_out = _dataset(train_rows[cut:], train_target[cut:], like=train, channel="validation")
    test = _dataset(test_rows, test_target, like=train, channel="test")
    reference = make_pipeline(StandardScaler(), linear_model.LogisticRegression(max_iter=1000))
    reference.fit(train_rows, train_target)
    scores = reference.predict_proba(test_rows)[:, 1]
    case = "40,000 x 30, one in five positive"
    sink = MemorySink()
    for criterion in ("accuracy", "loss_function", "f1", "precision_at_target_recall"):
        learner = LinearLearner.of(
            {**_BINARY, "binary_classifier_model_selection_criteria": criterion}
        )
        began = time.perf_counter()
        model = learner.fit(train, Run(threads=1, sink=sink), validation=held_out)
        seconds = time.perf_counter() - began
        measured = learner.evaluate(model, test)
        match criterion:
            case "accuracy":
                yield Row(
                    case=case,
                    measure="accuracy",
                    ours=measured["binary_classification_accuracy"],
                    reference=f"{_REFERENCE} LogisticRegression",
                    reference_value=float(reference.score(test_rows, test_target)),
                    bar=0.8803,
                    seconds=seconds,
                )
            case "loss_function":
                yield Row(
                    case=f"{case}, chosen by loss",
                    measure="AUC",
                    ours=measured["roc_auc_score"],
                    reference=f"{_REFERENCE} LogisticRegression",
                    reference_value=float(metrics.roc_auc_score(test_target, scores)),
                    bar=0.8319,
                )
            case "f1":
                yield Row(
                    case=f"{case}, chosen by f1",
                    measure="F1",
                    ours=measured["binary_f_beta"],
                    reference=f"{_REFERENCE}, threshold 0.5",
                    reference_value=float(metrics.f1_score(test_target, scores > 0.5)),
                )
            case _:
                yield Row(
                    case=f"{case}, precision at recall 0.8",
                    measure="recall on validation",
                    ours=learner.evaluate(model, held_out)["recall"],
                    reference="the target",
                    reference_value=0.8,
                    bar=0.8,
                )
                yield Row(
                    case=f"{case}, precision at recall 0.8",
                    measure="recall on test",
                    ours=measured["recall"],
                    reference="the target",
                    reference_value=0.8,
                    bar=0.78,
                )
                yield Row(
                    case=f"{case}, precision at recall 0.8",
                    measure="precision on test",
                    ours=measured["precision"],
                    reference=f"{_REFERENCE} at recall 0.8 on test",
                    reference_value=_precision_at(test_target, scores, 0.8),
                )


def _precision_at(target: Any, score: Any, recall: float) -> float:
    precisions, recalls, _ = metrics.precision_recall_curve(target, score)
    return float(precisions[recalls >= recall].max())


def _speed() -> Iterator[Row]:
    random = np.random.default_rng(0)
    rows = random.normal(size=(1_000_000, 30)).astype(np.float32)
    target = (rows[:, 0] + random.normal(size=len(rows)) > 0).astype(np.float64)
    data = _dataset(rows, target, channel="train")

    def epochs(count: int, models: int) -> float:
        values = {**_BINARY, "num_models": models, "epochs": count}
        learner = LinearLearner.of({**values, "num_calibration_samples": 10_000})
        seconds, _ = median_seconds(lambda: learner.fit(data, Run(threads=2)), repeats=5)
        return seconds

    # The first fit loads what all of them use.
    epochs(1, 1)
    one = epochs(3, 1) - epochs(1, 1)
    many = epochs(2, 32) - epochs(1, 32)
    yield Row(
        case="1,000,000 x 30, one model, 2 threads",
        measure="rows/s of an epoch",
        ours=2 * len(rows) / one,
        reference="",
        bar=1e6,
    )
    yield Row(
        case="1,000,000 x 30, 32 models, 2 threads",
        measure="time beside one model",
        ours=many / (one / 2),
        reference="one model",
        reference_value=1.0,
        bar=3.0,
        sense="<=",
    )
