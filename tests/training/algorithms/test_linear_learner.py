"""Linear Learner beside closed forms and scikit-learn, and what each hyperparameter does."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import datasets, linear_model

from training.algorithms import find_algorithm
from training.algorithms.tabular.linear.grid import candidates
from training.algorithms.tabular.linear.model import LinearModel
from training.algorithms.tabular.linear.scaling import Scaling
from training.algorithms.tabular.linear.selection import choose
from training.data import Dataset
from training.errors import InvalidData, InvalidHyperparameter
from training.run import MemorySink, Run

torch = pytest.importorskip("torch")

LinearLearner: Any = find_algorithm("linear-learner")
BINARY = {"predictor_type": "binary_classifier", "num_models": 1}
VALUES = {"predictor_type": "regressor", "num_models": 1}


def dataset(rows: Any, target: Any, *, like: Dataset | None = None) -> Dataset:
    flat = pa.array(np.ascontiguousarray(rows, np.float32).ravel())
    features = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    table = pa.table({"label": np.asarray(target, np.float64), "features": features})
    return Dataset.of(
        table,
        inputs=like.inputs if like else None,
        channel="validation" if like else "train",
    )


def thinned(data: Dataset) -> Dataset:
    """The same rows as sparse vectors."""
    rows = data.matrix()
    lists = [{"indices": np.flatnonzero(row), "values": row[np.flatnonzero(row)]} for row in rows]
    table = pa.table({"label": data.labels(), "features": lists})
    return Dataset.of(table)


@pytest.fixture(scope="module")
def cancer() -> Dataset:
    loaded = datasets.load_breast_cancer()
    return dataset(loaded.data, loaded.target)


@pytest.fixture(scope="module")
def line() -> Dataset:
    """y = 3 + 2a - b with little noise."""
    random = np.random.default_rng(0)
    rows = random.normal([5, -2], [3, 0.5], (400, 2))
    return dataset(rows, 3 + 2 * rows[:, 0] - rows[:, 1] + random.normal(0, 0.01, 400))


def fit(data: Dataset, values: dict[str, Any], **options: Any) -> LinearModel:
    model: LinearModel = LinearLearner.of(values).fit(
        data, Run(threads=1, seed=options.pop("seed", 0)), **options
    )
    return model


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "lbfgs", "wd": 0},
        {"epochs": 150, "learning_rate": 0.1, "wd": 0, "mini_batch_size": 100},
        {"epochs": 150, "optimizer": "rmsprop", "learning_rate": 0.1, "mini_batch_size": 100},
        {"epochs": 100, "optimizer": "sgd", "learning_rate": 0.05, "mini_batch_size": 100},
    ],
    ids=["lbfgs", "adam", "rmsprop", "sgd"],
)
def test_a_line_is_found_in_the_units_of_the_data(line: Dataset, values: dict[str, Any]) -> None:
    if values.get("optimizer") != "lbfgs":
        values = {**values, "early_stopping_patience": 50}
    model = fit(line, {**VALUES, **values})
    assert model.weights[:, 0] == pytest.approx([2, -1], abs=0.05)
    assert model.bias[0] == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("scaled", [True, False])
def test_sparse_rows_learn_as_dense_ones_do(line: Dataset, scaled: bool) -> None:
    values = {**VALUES, "epochs": 3, "mini_batch_size": 50, "normalize_data": scaled}
    dense, sparse = fit(line, values), fit(thinned(line), values)
    np.testing.assert_allclose(dense.weights, sparse.weights, rtol=2e-2, atol=1e-3)
    np.testing.assert_allclose(dense.bias, sparse.bias, rtol=2e-2, atol=1e-2)


def test_ridge_is_scikit_learns(line: Dataset) -> None:
    model = fit(line, {**VALUES, "optimizer": "lbfgs", "wd": 0.1, "normalize_label": False})
    rows = line.matrix().astype(np.float64)
    scaling = Scaling.of(rows, centre=True, normalize=True)
    ridge = linear_model.Ridge(alpha=0.1 * len(rows)).fit(scaling.apply(rows), line.labels())
    np.testing.assert_allclose(
        model.predict(line.features)["score"].to_numpy(),
        ridge.predict(scaling.apply(rows)),
        rtol=1e-3,
    )


def test_logistic_regression_is_scikit_learns(cancer: Dataset) -> None:
    model = fit(cancer, {**BINARY, "optimizer": "lbfgs", "wd": 1 / len(cancer)})
    rows = Scaling.of(cancer.matrix(), centre=True, normalize=True).apply(cancer.matrix())
    expected = linear_model.LogisticRegression(max_iter=2000, tol=1e-8).fit(rows, cancer.labels())
    np.testing.assert_allclose(
        model.predict(cancer.features)["score"].to_numpy(),
        expected.predict_proba(rows)[:, 1],
        atol=2e-3,
    )


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_decay_means_the_same_to_steps_and_to_a_solver(cancer: Dataset, optimizer: str) -> None:
    values = {**BINARY, "num_models": 1, "wd": 0.1, "unbias_data": True}
    solved = fit(cancer, {**values, "optimizer": "lbfgs"})
    steps = {"epochs": 400, "mini_batch_size": len(cancer), "early_stopping_patience": 400}
    stepped = fit(cancer, {**values, **steps, "optimizer": optimizer, "learning_rate": 0.02})
    deviation = cancer.matrix().std(axis=0)
    np.testing.assert_allclose(
        stepped.weights[:, 0] * deviation, solved.weights[:, 0] * deviation, atol=0.01
    )


def test_gains_too_small_to_count_alone_add_up() -> None:
    from training.algorithms.tabular.linear.module import LinearModels

    models = LinearModels(torch.zeros(1, 1), None, models=1)
    waited = []
    for value in (1.0, 0.9996, 0.9992, 0.9988, 0.9987, 0.9986, 0.9985):
        models.keep(np.array([value]), tolerance=0.001)
        waited.append(int(models.waited))
    assert waited == [0, 1, 2, 0, 1, 2, 3]
    assert float(models.best_value) == 0.9985


def test_several_classes_have_probabilities() -> None:
    digits = datasets.load_digits()
    data = dataset(digits.data, digits.target)
    values = {"predictor_type": "multiclass_classifier", "num_classes": 10, "num_models": 1}
    algorithm = LinearLearner.of({**values, "mini_batch_size": 100})
    model = algorithm.fit(data, Run(threads=1))
    answered = model.predict(data.features)
    scores = np.array(answered["score"].to_pylist())
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert (answered["predicted_label"].to_numpy() == scores.argmax(axis=1)).all()
    measured = algorithm.evaluate(model, data)
    assert measured["multiclass_accuracy"] > 0.95
    assert measured["multiclass_top_k_accuracy"] >= measured["multiclass_accuracy"]


@pytest.mark.parametrize(
    ("loss", "more", "expected"),
    [
        ("absolute_loss", {}, 0.0),
        ("quantile_loss", {"quantile": 0.9}, 1.28),
        ("huber_loss", {"huber_delta": 0.5}, 0.0),
        ("eps_insensitive_absolute_loss", {"loss_insensitivity": 0.1}, 0.0),
        ("eps_insensitive_squared_loss", {"loss_insensitivity": 0.1}, 0.0),
    ],
)
def test_each_loss_finds_its_own_centre(loss: str, more: dict[str, Any], expected: float) -> None:
    random = np.random.default_rng(1)
    rows = random.normal(size=(4000, 1))
    data = dataset(rows, rows[:, 0] + random.normal(size=4000))
    model = fit(data, {**VALUES, "loss": loss, "epochs": 20, "learning_rate": 0.05, **more})
    assert model.bias[0] == pytest.approx(expected, abs=0.12)
    assert model.weights[0, 0] == pytest.approx(1, abs=0.12)


def test_hinge_scores_are_distances(cancer: Dataset) -> None:
    model = fit(cancer, {**BINARY, "loss": "hinge_loss", "mini_batch_size": 100, "margin": 2})
    answered = model.predict(cancer.features)
    scores = answered["score"].to_numpy()
    assert scores.min() < -1 < 1 < scores.max()
    assert (answered["predicted_label"].to_numpy() == cancer.labels()).mean() > 0.95


def test_l1_makes_weights_zero() -> None:
    random = np.random.default_rng(2)
    rows = random.normal(size=(500, 10))
    data = dataset(rows, rows[:, 0] + 0.1 * random.normal(size=500))
    model = fit(data, {**VALUES, "l1": 0.5, "mini_batch_size": 50, "wd": 0, "learning_rate": 0.05})
    assert (model.weights[1:, 0] == 0).sum() >= 7
    assert model.weights[0, 0] > 0.5


def test_weight_decay_pulls_towards_zero(line: Dataset) -> None:
    sizes = [
        np.abs(fit(line, {**VALUES, "wd": wd, "mini_batch_size": 20}).weights).sum()
        for wd in (0, 1.0)
    ]
    assert sizes[1] < 0.8 * sizes[0]


def test_without_a_bias_the_line_goes_through_zero(line: Dataset) -> None:
    model = fit(line, {**VALUES, "use_bias": "false", "optimizer": "lbfgs"})
    assert model.bias[0] == 0
    values = {**VALUES, "use_bias": False, "unbias_data": True}
    with pytest.raises(InvalidHyperparameter, match="unbias_data and unbias_label need use_bias"):
        LinearLearner.of(values)


def test_a_positive_row_may_count_more(cancer: Dataset) -> None:
    rare = cancer.take(np.flatnonzero((cancer.labels() == 0) | (np.arange(len(cancer)) % 9 == 0)))
    values = {**BINARY, "optimizer": "lbfgs"}
    plain = fit(rare, values)
    balanced = fit(rare, {**values, "positive_example_weight_mult": "balanced"})
    means = [m.predict(rare.features)["score"].to_numpy().mean() for m in (plain, balanced)]
    assert means[1] > means[0]
    tried = LinearLearner.of({**BINARY, "positive_example_weight_mult": "auto", "num_models": 9})
    weights = {one.positive_weight for one in tried.candidates(rare)}
    positive = rare.labels().mean()
    assert max(weights) == pytest.approx((1 - positive) / positive)


def test_classes_may_count_the_same() -> None:
    target = np.array([0] * 80 + [1] * 15 + [2] * 5)
    values = {"predictor_type": "multiclass_classifier", "num_classes": 3}
    weights = LinearLearner.of({**values, "balance_multiclass_weights": True}).class_weights(target)
    assert (weights * np.bincount(target)).tolist() == pytest.approx([100 / 3] * 3)
    assert LinearLearner.of(values).class_weights(target) is None


def test_the_best_model_on_validation_is_kept(cancer: Dataset) -> None:
    order = np.random.default_rng(0).permutation(len(cancer))
    train = cancer.take(order[:300])
    held_out = cancer.take(order[300:], channel="validation")
    sink = MemorySink()
    learner = LinearLearner.of({**BINARY, "num_models": 6, "mini_batch_size": 100})
    model = learner.fit(train, Run(threads=1, sink=sink), validation=held_out)
    measured = learner.evaluate(model, held_out)
    assert sink.metrics["validation:roc_auc_score"] == measured["roc_auc_score"]
    single = [
        learner.evaluate(
            LinearLearner.of(
                {
                    **BINARY,
                    "mini_batch_size": 100,
                    "learning_rate": one.learning_rate,
                    "wd": one.wd,
                    "l1": one.l1,
                }
            ).fit(train, Run(threads=1), validation=held_out),
            held_out,
        )["binary_classification_accuracy"]
        for one in learner.candidates(train)
    ]
    assert measured["binary_classification_accuracy"] >= max(single) - 0.011
    assert sink.properties["chosen"]["learning_rate"] > 0


@pytest.mark.parametrize(
    ("criterion", "more"),
    [
        ("accuracy", {}),
        ("f1", {}),
        ("f_beta", {"f_beta": 2}),
        ("precision_at_target_recall", {"target_recall": 0.9}),
        ("recall_at_target_precision", {"target_precision": 0.99}),
        ("cross_entropy_loss", {}),
        ("loss_function", {}),
    ],
)
def test_each_criterion_chooses_model_and_threshold(
    cancer: Dataset, criterion: str, more: dict[str, Any]
) -> None:
    train, held_out = cancer.take(np.arange(0, 569, 2)), cancer.take(np.arange(1, 569, 2))
    values = {**BINARY, "num_models": 3, "binary_classifier_model_selection_criteria": criterion}
    learner = LinearLearner.of({**values, **more, "mini_batch_size": 100})
    model = learner.fit(
        train, Run(threads=1), validation=Dataset(**{**vars(held_out), "channel": "validation"})
    )
    measured = learner.evaluate(model, held_out)
    if criterion == "precision_at_target_recall":
        assert measured["recall"] >= 0.9
    if criterion == "recall_at_target_precision":
        assert measured["precision"] >= 0.99
    assert measured["binary_classification_accuracy"] > 0.85


def test_the_threshold_is_the_best_of_all(cancer: Dataset) -> None:
    random = np.random.default_rng(4)
    target = (random.random(200) < 0.3).astype(float)
    score = np.round(np.clip(target * 0.3 + random.random(200) * 0.7, 0, 1), 2)
    for criterion, measure in {
        "accuracy": lambda g: float((g == target).mean()),
        "f1": lambda g: 2 * (g * target).sum() / (g.sum() + target.sum()),
    }.items():
        chosen = choose(target, score, criterion)
        tries = [measure((score >= at).astype(float)) for at in [*np.unique(score), 2.0]]
        assert chosen.value == pytest.approx(max(tries))
        assert measure((score >= chosen.threshold).astype(float)) == pytest.approx(max(tries))


def test_a_target_that_cannot_be_reached_is_come_near_to() -> None:
    chosen = choose(
        np.array([0, 1, 0]), np.array([0.9, 0.5, 0.1]), "recall_at_target_precision", precision=0.9
    )
    assert chosen.threshold == 0.5


def test_thresholds_keep_to_the_natural_one() -> None:
    target, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.95, 0.99])
    assert choose(target, score, "accuracy").threshold == 0.5
    assert choose(target, score, "accuracy", prefer=0.1).threshold == pytest.approx(0.575)


def test_neighbours_differ_and_begin_with_the_one_asked_for() -> None:
    tried = candidates(32, learning_rate=0.1, wd=None, l1=None, positive_weights=[1.0], rows=1000)
    assert len(set(tried)) == 32
    assert (tried[0].learning_rate, tried[0].wd, tried[0].l1) == (0.1, 0.001, 0.0)
    unjudged = candidates(
        32, learning_rate=0.1, wd=0.5, l1=0.1, positive_weights=[1.0], rows=9, can_judge=False
    )
    assert {(one.wd, one.l1) for one in unjudged} == {(0.5, 0.1)}


def test_a_fit_goes_on_from_a_model(line: Dataset) -> None:
    values = {**VALUES, "epochs": 1, "learning_rate": 0.02, "wd": 0}
    first = fit(line, {**VALUES, "optimizer": "lbfgs", "wd": 0})
    on = LinearLearner.of(values).fit(line, Run(threads=1, start=first))
    anew = fit(line, values)
    errors = [
        np.abs(m.predict(line.features)["score"].to_numpy() - line.labels()).mean()
        for m in (on, anew)
    ]
    assert errors[0] < 0.2 * errors[1]
    other = fit(dataset(line.matrix()[:, :1], line.labels()), values)
    with pytest.raises(InvalidData, match="model: the model to go on from takes other columns"):
        LinearLearner.of(values).fit(line, Run(threads=1, start=other))
    with pytest.raises(InvalidData, match="go on from has a bias, and this fit use_bias=false"):
        LinearLearner.of({**values, "use_bias": False}).fit(line, Run(threads=1, start=first))
    positive = dataset(line.matrix(), line.labels() > 0)
    with pytest.raises(InvalidData, match="has predictor_type=regressor, and this fit binary_cl"):
        LinearLearner.of(BINARY).fit(positive, Run(threads=1, start=first))


def test_a_model_of_other_classes_begins_anew_and_says_so() -> None:
    loaded = datasets.load_wine()
    data = dataset(loaded.data, loaded.target)
    values = {"predictor_type": "multiclass_classifier", "num_models": 1, "optimizer": "lbfgs"}
    first = fit(data, {**values, "num_classes": 3})
    sink = MemorySink()
    learner = LinearLearner.of({**values, "num_classes": 4})
    model = learner.fit(data, Run(threads=1, start=first, sink=sink))
    assert "go on from has 3 classes, and this fit 4" in "".join(sink.lines)
    assert model.weights.shape[1] == 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"predictor_type": "multiclass_classifier"}, "num_classes goes with predictor_type"),
        ({**BINARY, "num_classes": 3}, "num_classes goes with predictor_type"),
        ({**BINARY, "loss": "squared_loss"}, "loss is logistic or hinge_loss for two classes"),
        ({**BINARY, "margin": 1}, "margin goes only with loss hinge_loss"),
        ({**VALUES, "quantile": 0.5}, "quantile goes only with loss quantile_loss"),
        ({**VALUES, "momentum": 0.5}, "momentum goes only with optimizer sgd"),
        ({**VALUES, "optimizer": "sgd", "beta_1": 0.5}, "beta_1, beta_2 go only with optimizer"),
        ({**VALUES, "init_sigma": 0.5}, "init_sigma goes only with init_method normal"),
        ({**BINARY, "normalize_label": True}, "normalize_label, unbias_label go only with"),
        ({**VALUES, "target_recall": 0.5}, "target_recall goes only with precision_at"),
        ({**VALUES, "balance_multiclass_weights": True}, "goes only with multiclass_classifier"),
        ({**VALUES, "positive_example_weight_mult": 2}, "goes only with binary_classifier"),
        ({**VALUES, "optimizer": "lbfgs", "l1": 1}, "lbfgs takes a smooth loss"),
        ({**VALUES, "optimizer": "lbfgs", "learning_rate": 1}, "and so takes no learning_rate"),
        ({**VALUES, "optimizer": "lbfgs", "mini_batch_size": 9}, "and so takes no learning_rate"),
        ({**VALUES, "optimizer": "lbfgs", "bias_wd_mult": 9}, "and so takes no learning_rate"),
        ({**VALUES, "use_lr_scheduler": False, "lr_scheduler_step": 9}, "only with use_lr_sched"),
        ({**VALUES, "use_bias": False, "init_bias": 9}, "init_bias go only with use_bias"),
        ({**BINARY, "accuracy_top_k": 2}, "accuracy_top_k goes only with multiclass_classifier"),
        ({**VALUES, "f_beta": 2}, "f_beta goes only with classifiers"),
        ({**BINARY, "num_models": 0}, "num_models: expected an integer > 0 or auto, got 0"),
    ],
)
def test_hyperparameters_that_do_not_go_together_are_refused(
    values: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InvalidHyperparameter, match=expected):
        LinearLearner.of(values)


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        (BINARY, [0, 2], "expects classes numbered 0 to 1, got 2 in row 2"),
        (BINARY, [0, 0.5], "expects classes numbered 0 to 1, got 0.5 in row 2"),
        ({**VALUES, "feature_dim": 7}, [0, 1], "feature_dim: train has 2 columns, got 7"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    values: dict[str, Any], target: list[float], expected: str
) -> None:
    with pytest.raises((InvalidData, InvalidHyperparameter), match=expected):
        fit(dataset(np.eye(2), target), values)


@pytest.mark.parametrize("rows", [1, 2])
def test_one_row_one_class_and_a_wide_table_can_be_fitted(rows: int) -> None:
    data = dataset(np.random.default_rng(0).normal(size=(rows, 30)), [1.0] * rows)
    for values in (BINARY, VALUES, {**VALUES, "optimizer": "lbfgs"}):
        answered = fit(data, values).predict(data.features)["score"].to_numpy()
        assert np.isfinite(answered).all()


def test_metrics_of_one_class_leave_out_what_has_no_value(cancer: Dataset) -> None:
    ones = cancer.take(np.flatnonzero(cancer.labels() == 1))
    sink = MemorySink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LinearLearner.of(BINARY).fit(ones, Run(threads=1, sink=sink))
    assert "train:roc_auc_score" not in sink.metrics
    assert all(math.isfinite(value) for value in sink.metrics.values())


def test_a_tuner_asks_for_one_model(cancer: Dataset) -> None:
    learner = LinearLearner.of({"predictor_type": "binary_classifier"})
    assert len(learner.candidates(cancer)) > 1
    assert len(learner.candidates(cancer, is_tuned=True)) == 1
    asked = replace(learner, num_models=4)
    assert len(asked.candidates(cancer, is_tuned=True)) == 4


def test_a_loss_is_reported_of_the_channel_it_is_of(cancer: Dataset) -> None:
    sink = MemorySink()
    learner = LinearLearner.of({**BINARY, "epochs": 2, "num_models": 1})
    learner.fit(cancer, Run(threads=1, sink=sink))
    assert {name.partition(":")[0] for name in sink.metrics} == {"train"}
    held_out = replace(cancer, channel="validation")
    learner.fit(cancer, Run(threads=1, sink=sink), validation=held_out)
    steps = [step for name, _, step in sink.rows if name == "validation:objective_loss"]
    assert {0, 1} <= {step for step in steps if step is not None}


def test_the_profile_solves_small_data_and_steps_through_what_no_solver_takes(
    cancer: Dataset,
) -> None:
    found = {}
    for name, more in {
        "small": {},
        "hinge": {"loss": "hinge_loss"},
        "rate": {"learning_rate": 0.1},
        "given": {"optimizer": "adam", "epochs": 15},
    }.items():
        sink = MemorySink()
        learner = LinearLearner.of({**BINARY, **more, "num_models": 1, "profile": "auto"})
        learner.fit(cancer, Run(threads=1, sink=sink))
        found[name] = sink.properties["profile"]
    steps = {"epochs": 100, "mini_batch_size": 100}
    assert found == {
        "small": {"optimizer": "lbfgs"},
        "hinge": steps,
        "rate": steps,
        "given": {"mini_batch_size": 100},
    }
