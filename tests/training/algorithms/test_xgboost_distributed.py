"""One fit of XGBoost in two processes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from training.algorithms.tabular.boosting.distributed import fit_in_processes, shares
from training.algorithms.tabular.boosting.learner import XGBoost
from training.data import Dataset
from training.errors import InvalidData, InvalidJob, TrainingStopped
from training.run import MemorySink, Run

VALUES = {
    "num_round": 8,
    "objective": "binary:logistic",
    "max_depth": 3,
    "eval_metric": "auc,accuracy,logloss",
}


def problem(rows: int, *, seed: int, like: Dataset | None = None) -> Dataset:
    """Few different values, so that the bins of two halves are those of the whole."""
    random = np.random.default_rng(seed)
    wind = random.integers(0, 20, rows)
    origin = random.choice(["EWR", "JFK", "LGA"], rows)
    late = wind + 5 * (origin == "LGA") + random.normal(0, 4, rows) > 12
    table = pa.table({"late": late, "wind": wind, "origin": origin})
    inputs = like.inputs if like else None
    return Dataset.of(table, inputs=inputs, channel="validation" if like else "train")


def test_two_processes_make_one_model_and_the_metrics_of_all_rows() -> None:
    train = problem(501, seed=0)
    validation = problem(200, seed=1, like=train)
    algorithm = XGBoost.of(VALUES)
    sinks = MemorySink(), MemorySink()
    alone = algorithm.fit(train, Run(threads=1, sink=sinks[0]), validation=validation)
    # It fails where the models of the processes differ.
    spread = fit_in_processes(
        algorithm, train, Run(threads=1, sink=sinks[1]), validation=validation, processes=2
    )
    one, other = (model.predict(validation.features)["score"] for model in (alone, spread))
    assert other.to_numpy() == pytest.approx(one.to_numpy(), abs=1e-4)
    assert set(sinks[1].metrics) == set(sinks[0].metrics)
    for name in ("train:accuracy", "validation:accuracy", "train:logloss", "validation:logloss"):
        assert sinks[1].metrics[name] == pytest.approx(sinks[0].metrics[name], abs=1e-4), name
    assert sinks[1].done == (8, 8)
    assert [step for name, _, step in sinks[1].rows if name == "train:logloss"] == list(range(8))


def test_an_error_or_a_wish_to_stop_ends_all_processes() -> None:
    train = problem(100, seed=0)
    labels = train.labels().copy()
    labels[80] = 7
    wrong = Dataset(train.features, labels, train.inputs)
    with pytest.raises(InvalidData, match="binary:logistic expects labels from 0 to 1, got 7"):
        fit_in_processes(XGBoost.of(VALUES), wrong, Run(threads=1))
    endless = XGBoost.of({**VALUES, "num_round": 1_000_000})
    sink = MemorySink()
    with pytest.raises(TrainingStopped, match="stopped after round"):
        fit_in_processes(
            endless, train, Run(threads=1, sink=sink, should_stop=lambda: sink.done[0] > 2)
        )


def test_queries_are_not_cut_and_folds_are_refused() -> None:
    data = problem(60, seed=0)
    asked = Dataset(data.features, data.target, data.inputs, groups=np.arange(60) % 7)
    parts = [set(part.groups.tolist()) for part in shares(asked, 3) if part.groups is not None]
    assert sorted(query for part in parts for query in part) == list(range(7))
    with pytest.raises(InvalidData, match="train: 8 processes need as many queries, and there are"):
        shares(asked, 8)
    with pytest.raises(InvalidJob, match="_kfold and several processes do not go together"):
        fit_in_processes(XGBoost.of({**VALUES, "_kfold": 2}), data, Run(threads=1))
