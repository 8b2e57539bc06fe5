"""What every algorithm promises: one suite, run for each on a problem that suits it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from training import metrics
from training.algorithm import Algorithm, Model
from training.algorithms import find_algorithm, list_algorithms
from training.data import Dataset
from training.errors import InvalidData, InvalidHyperparameter, InvalidJob
from training.run import MemorySink, Run


@dataclass(frozen=True)
class Case:
    """An algorithm on the flights, and the metric it reports there as ours measures it."""

    algorithm: Algorithm
    metric: str
    measure: Callable[[Any, Any], float]


CASES = {
    "xgboost": Case(
        find_algorithm("xgboost").of(
            {"num_round": 30, "objective": "binary:logistic", "max_depth": 3, "eta": 0.2}
        ),
        "validation:logloss",
        metrics.logloss,
    )
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def train(flights: pa.Table) -> Dataset:
    return Dataset.of(flights, label="late")


@pytest.fixture
def fit(case: Case, train: Dataset) -> Callable[..., Model]:
    def fit(data: Dataset = train, *, seed: int = 0, threads: int = 1) -> Model:
        return case.algorithm.fit(data, Run(seed=seed, threads=threads))

    return fit


def saved(model: Model, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    model.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def scores(model: Model, table: pa.Table) -> list[float]:
    values: list[float] = model.predict(table)["score"].to_pylist()
    return values


def test_every_algorithm_is_in_this_suite() -> None:
    assert set(CASES) == set(list_algorithms())


def test_it_declares_what_a_job_needs_to_know(case: Case) -> None:
    algorithm = case.algorithm
    assert algorithm.channels[0].name == "train"
    assert algorithm.channels[0].required
    assert algorithm.files
    assert case.metric in [metric.name for metric in algorithm.metrics]
    assert set(algorithm.schema()["properties"]) == {h.name for h in algorithm.hyperparameters()}
    assert all(h.about for h in algorithm.hyperparameters())


def test_its_values_make_it_again(case: Case) -> None:
    assert type(case.algorithm).of(case.algorithm.values()) == case.algorithm


def test_an_unknown_hyperparameter_is_refused_with_what_is_allowed(case: Case) -> None:
    values = case.algorithm.values()
    name = next(iter(values))
    with pytest.raises(InvalidHyperparameter, match=f"did you mean '{name}'") as caught:
        type(case.algorithm).of({name + "z": values[name]})
    assert "allowed are" in str(caught.value)


def test_an_unknown_and_a_missing_channel_are_refused(case: Case) -> None:
    with pytest.raises(InvalidJob, match="no channel 'trian'; did you mean 'train'"):
        case.algorithm.check_channels(["trian"])
    with pytest.raises(InvalidJob, match="channel 'train' is required"):
        case.algorithm.check_channels([])


def test_the_same_seed_gives_the_same_bytes(fit: Callable[..., Model], tmp_path: Path) -> None:
    assert saved(fit(), tmp_path / "a") == saved(fit(), tmp_path / "b")


def test_any_number_of_threads_gives_the_same_bytes(
    fit: Callable[..., Model], tmp_path: Path
) -> None:
    assert saved(fit(threads=1), tmp_path / "a") == saved(fit(threads=2), tmp_path / "b")


def test_save_and_load_predict_the_same(
    fit: Callable[..., Model], tmp_path: Path, later_flights: pa.Table
) -> None:
    model = fit()
    model.save(tmp_path)
    loaded = type(model).load(tmp_path)
    assert loaded.inputs == model.inputs
    assert loaded.predict(later_flights).equals(model.predict(later_flights))
    assert saved(loaded, tmp_path / "again") == {
        path.name: path.read_bytes() for path in sorted(tmp_path.iterdir()) if path.is_file()
    }


def test_the_input_is_not_changed(fit: Callable[..., Model], flights: pa.Table) -> None:
    before = pa.Table.from_pydict(flights.to_pydict(), schema=flights.schema)
    model = fit(Dataset.of(flights, label="late"))
    model.predict(flights)
    assert flights.equals(before)


def test_it_beats_a_baseline_without_inputs(
    case: Case, train: Dataset, later_flights: pa.Table
) -> None:
    sink = MemorySink()
    validation = Dataset.of(later_flights, label="late", inputs=train.inputs, channel="validation")
    model = case.algorithm.fit(train, Run(sink=sink, threads=1), validation=validation)
    assert validation.target is not None
    answered = np.array(scores(model, later_flights))
    assert metrics.auc(validation.target, answered) > 0.75
    measured = case.measure(validation.target, answered)
    assert sink.metrics[case.metric] == pytest.approx(measured, abs=1e-6)


def test_progress_metrics_and_log_are_reported(case: Case, train: Dataset) -> None:
    sink = MemorySink()
    case.algorithm.fit(train, Run(sink=sink, threads=1))
    assert sink.done[0] == sink.done[1] > 0
    assert all(":" in name for name in sink.metrics)
    assert any(line.startswith("#quality_metric: host=algo-1, train ") for line in sink.lines)


def test_a_missing_column_is_named(fit: Callable[..., Model], later_flights: pa.Table) -> None:
    model = fit()
    with pytest.raises(InvalidData, match="column 'wind' is missing"):
        model.predict(later_flights.drop_columns(["wind"]))


def test_a_column_of_the_wrong_type_is_named(
    fit: Callable[..., Model], later_flights: pa.Table
) -> None:
    model = fit()
    words = pa.array(["strong"] * len(later_flights))
    place = later_flights.column_names.index("wind")
    with pytest.raises(InvalidData, match="column 'wind' is string"):
        model.predict(later_flights.set_column(place, "wind", words))


def test_rows_are_answered_in_order_one_by_one_and_in_slices(
    fit: Callable[..., Model], later_flights: pa.Table
) -> None:
    model = fit()
    together = scores(model, later_flights)
    assert scores(model, later_flights.slice(0, 1)) == together[:1]
    assert scores(model, later_flights.slice(117, 60)) == together[117:177]
    assert scores(model, later_flights.slice(0, 0)) == []


def test_columns_may_come_in_another_order_with_others_between(
    fit: Callable[..., Model], later_flights: pa.Table
) -> None:
    model = fit()
    turned = later_flights.select(list(reversed(later_flights.column_names)))
    assert scores(model, turned.append_column("x", turned["wind"])) == scores(model, later_flights)


def test_one_row_and_constant_and_missing_columns_can_be_fitted(
    fit: Callable[..., Model], flights: pa.Table
) -> None:
    one = flights.slice(0, 1)
    assert len(scores(fit(Dataset.of(one, label="late")), one)) == 1
    odd = (
        flights.append_column("constant", pa.array([7.0] * len(flights)))
        .append_column("nothing", pa.nulls(len(flights), pa.float64()))
        .append_column("no_word", pa.nulls(len(flights), pa.string()))
    )
    answered = scores(fit(Dataset.of(odd, label="late")), odd)
    assert np.isfinite(answered).all()


def test_a_row_of_missing_values_is_answered(
    fit: Callable[..., Model], later_flights: pa.Table
) -> None:
    schema = later_flights.schema
    nothing = pa.table([pa.nulls(1, field.type) for field in schema], schema=schema)
    assert np.isfinite(scores(fit(), nothing)).all()
