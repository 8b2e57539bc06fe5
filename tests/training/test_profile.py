"""`profile=auto`: values by the size of the data, told in the log, and none that was set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.training.blobs import make_blobs, sparse_vectors
from training.algorithms import find_algorithm
from training.data import Dataset
from training.errors import InvalidHyperparameter
from training.run import MemorySink, Run

CHOSEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "kmeans": ({"k": 3}, {"epochs": 10}),
    "pca": ({"num_components": 2, "mini_batch_size": 100}, {"algorithm_mode": "regular"}),
    "randomcutforest": ({"num_trees": 50}, {"num_samples_per_tree": 512}),
}


def pairs(rows: int, *, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    user, film = random.integers(0, 20, rows), random.integers(0, 10, rows)
    return pa.table(
        {
            "label": 3 + (user + film) % 2 + random.normal(0, 0.1, rows),
            "user": [f"user{number}" for number in user],
            "film": [f"film{number}" for number in film],
        }
    )


@pytest.mark.parametrize("name", CHOSEN)
def test_what_is_not_set_follows_the_rows_and_is_told(name: str) -> None:
    given, chosen = CHOSEN[name]
    data = Dataset.of(make_blobs(5000, seed=1), labels="optional")
    make = find_algorithm(name)
    given = {**given, "feature_dim": data.width}
    sink = MemorySink()
    auto = make.of({**given, "profile": "auto"}).fit(data, Run(threads=1, sink=sink))
    assert sink.properties["profile"] == chosen
    (told,) = [line for line in sink.lines if line.startswith("profile: auto: ")]
    assert told.endswith(", ".join(f"{key}={value}" for key, value in chosen.items()))
    asked = make.of({**given, **chosen}).fit(data, Run(threads=1))
    later = make_blobs(50, seed=2)
    assert auto.predict(later).equals(asked.predict(later))


@pytest.mark.parametrize("name", CHOSEN)
def test_what_is_set_stays_also_where_it_is_the_default(name: str) -> None:
    given, chosen = CHOSEN[name]
    data = Dataset.of(make_blobs(600, seed=1), labels="optional")
    make = find_algorithm(name)
    defaults = {item.name: item.default for item in make.hyperparameters()}
    kept = {key: defaults[key] for key in chosen}
    sink = MemorySink()
    algorithm = make.of({**given, **kept, "feature_dim": data.width, "profile": "auto"})
    algorithm.fit(data, Run(threads=1, sink=sink))
    assert sink.properties["profile"] == {}
    assert "profile: auto: all values were set" in sink.lines


def test_factorization_machines_learn_pairs_that_the_defaults_do_not() -> None:
    pytest.importorskip("torch")
    data = Dataset.of(pairs(1500, seed=0))
    later = Dataset.of(pairs(500, seed=1), inputs=data.inputs)
    given = {"feature_dim": data.width, "num_factors": 4, "predictor_type": "regressor"}
    make = find_algorithm("factorization-machines")
    errors = []
    for more in ({}, {"profile": "auto", "epochs": 30}):
        algorithm = make.of({**given, **more})
        model = algorithm.fit(data, Run(threads=1))
        errors.append(algorithm.evaluate(model, later)["rmse"])
    assert errors[0] > 2
    assert errors[1] < 0.3
    sink = MemorySink()
    uniform = {"factors_init_method": "uniform", "factors_init_scale": 0.1, "epochs": 1}
    make.of({**given, **uniform, "profile": "auto"}).fit(data, Run(threads=1, sink=sink))
    assert sink.properties["profile"] == {
        "linear_lr": 0.01,
        "linear_wd": 0.2,
        "factors_lr": 0.005,
        "factors_wd": 1.0,
        "mini_batch_size": 100,
    }


def test_wide_rows_are_sketched_unless_the_exact_way_was_asked_for() -> None:
    data = Dataset.of(sparse_vectors(np.eye(4200, 5000)), labels="optional")
    given = {"feature_dim": 5000, "mini_batch_size": 1000, "num_components": 2, "profile": "auto"}
    make = find_algorithm("pca")
    sink = MemorySink()
    make.of(given).fit(data, Run(threads=1, sink=sink))
    assert sink.properties["method"] == "randomized, 2 passes"
    with pytest.raises(InvalidHyperparameter, match="profile: expected one of default, auto"):
        make.of({**given, "profile": "best"})
