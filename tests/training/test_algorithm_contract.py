"""What every algorithm promises: one suite, run for each on a problem that suits it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.training.case import Case, case_of
from training.algorithm import Model
from training.algorithms import find_algorithm, list_algorithms
from training.device import Device, cuda_device_count
from training.errors import InvalidData, InvalidHyperparameter, InvalidJob, TrainingStopped
from training.hyperparameter import as_text
from training.run import MemorySink, Run


@pytest.fixture(params=list_algorithms())
def case(request: pytest.FixtureRequest) -> Case:
    for library in find_algorithm(request.param).libraries:
        pytest.importorskip(library)
    return case_of(request.param)


@pytest.fixture
def model(case: Case) -> Model:
    return fitted(case.name)


@pytest.fixture
def later(case: Case) -> pa.Table:
    return case.later()


@cache
def fitted(name: str) -> Model:
    """One model for all tests that only ask it."""
    return case_of(name).fit()


def saved(model: Model, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    model.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def assert_close(case: Case, given: list[Any], expected: list[Any], *, by: float = 1.0) -> None:
    assert len(given) == len(expected)
    np.testing.assert_allclose(
        np.array(given, np.float64),
        np.array(expected, np.float64),
        rtol=case.tolerance * by,
        atol=case.tolerance * by,
    )


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


def test_its_values_are_read_from_text(case: Case) -> None:
    values = {name: as_text(value) for name, value in case.values.items()}
    assert type(case.algorithm).of(values) == case.algorithm


def test_an_unknown_hyperparameter_is_refused_with_what_is_allowed(case: Case) -> None:
    values = case.algorithm.values()
    name = next(iter(values))
    with pytest.raises(InvalidHyperparameter, match=f"did you mean '{name}'") as caught:
        type(case.algorithm).of({name + "z": values[name]})
    assert "allowed are" in str(caught.value)


def test_every_hyperparameter_refuses_what_it_cannot_be(case: Case) -> None:
    for item in type(case.algorithm).hyperparameters():
        with pytest.raises(InvalidHyperparameter, match=f"{item.name}: expected"):
            type(case.algorithm).of({**case.values, item.name: object()})


def test_an_unknown_and_a_missing_channel_are_refused(case: Case) -> None:
    with pytest.raises(InvalidJob, match="no channel 'trian'; did you mean 'train'"):
        case.algorithm.check_channels(["trian"])
    with pytest.raises(InvalidJob, match="channel 'train' is required"):
        case.algorithm.check_channels([])


def test_the_same_seed_gives_the_same_bytes(case: Case, model: Model, tmp_path: Path) -> None:
    assert saved(model, tmp_path / "a") == saved(case.fit(), tmp_path / "b")


def test_any_number_of_threads_gives_the_same_model(
    case: Case, model: Model, later: pa.Table, tmp_path: Path
) -> None:
    two = case.fit(run=Run(threads=2))
    if case.exact:
        assert saved(model, tmp_path / "a") == saved(two, tmp_path / "b")
    else:
        assert_close(case, case.answers(model, later), case.answers(two, later), by=1000)


def test_save_and_load_predict_the_same(
    case: Case, model: Model, tmp_path: Path, later: pa.Table
) -> None:
    before = saved(model, tmp_path / "first")
    assert set(case.algorithm.files) <= set(before)
    loaded = type(model).load(tmp_path / "first")
    assert loaded.inputs == model.inputs
    assert loaded.predict(later).equals(model.predict(later))
    assert saved(loaded, tmp_path / "again") == before


def test_the_input_is_not_changed(case: Case) -> None:
    table = case.train()
    before = pa.Table.from_pydict(table.to_pydict(), schema=table.schema)
    case.fit(table).predict(table)
    assert table.equals(before)


def test_it_beats_a_trivial_baseline(case: Case, model: Model, later: pa.Table) -> None:
    assert case.quality(model, later) > case.baseline


def test_metrics_progress_and_log_are_reported(case: Case, later: pa.Table) -> None:
    sink = MemorySink()
    train = case.dataset(case.train())
    held_out = case.dataset(later, like=train)
    validation = held_out if case.validates else None
    model = case.algorithm.fit(train, Run(sink=sink, threads=1), validation=validation)
    assert sink.done[0] == sink.done[1] > 0
    assert all(":" in name for name in sink.metrics)
    assert all(np.isfinite(value) for value in sink.metrics.values())
    assert any(line.startswith("#quality_metric: host=algo-1, ") for line in sink.lines)
    channel, _, name = case.metric.partition(":")
    if channel == "test":
        assert np.isfinite(case.algorithm.evaluate(model, held_out)[name])
    else:
        assert case.metric in sink.metrics


def test_a_missing_column_is_named(case: Case, model: Model, later: pa.Table) -> None:
    if case.partial:
        answered = model.predict(later.drop_columns([case.column]))
        assert case.reply not in answered.column_names
        later = later.drop_columns([name for name in model.inputs.names if name != case.column])
    with pytest.raises(InvalidData, match=f"column '{case.column}' is missing"):
        model.predict(later.drop_columns([case.column]))


def test_a_column_of_the_wrong_type_is_named(case: Case, model: Model, later: pa.Table) -> None:
    times = pa.array([0] * len(later), pa.timestamp("us"))
    place = later.column_names.index(case.column)
    with pytest.raises(InvalidData, match=f"column '{case.column}' is timestamp"):
        model.predict(later.set_column(place, case.column, times))


def test_rows_are_answered_in_order_one_by_one_and_in_slices(
    case: Case, model: Model, later: pa.Table
) -> None:
    together = case.answers(model, later)
    assert_close(case, case.answers(model, later.slice(0, 1)), together[:1])
    assert_close(case, case.answers(model, later.slice(117, 60)), together[117:177])
    assert case.answers(model, later.slice(0, 0)) == []


def test_verbose_answers_begin_with_the_plain_ones(
    case: Case, model: Model, later: pa.Table
) -> None:
    plain = model.predict(later)
    assert model.predict_verbose(later).select(plain.column_names).equals(plain)


def test_columns_may_come_in_another_order_with_others_between(
    case: Case, model: Model, later: pa.Table
) -> None:
    turned = later.select(list(reversed(later.column_names)))
    more = turned.append_column("x", turned[case.column])
    assert_close(case, case.answers(model, more), case.answers(model, later))


def widened(case: Case, table: pa.Table, **columns: pa.Array) -> Iterator[Any]:
    """Give a table with more columns, and the hyperparameters that go with it."""
    for name, column in columns.items():
        table = table.append_column(name, column)
    width = case.dataset(table).width
    yield table
    yield case.resizes(case.values, width)


def test_a_constant_column_can_be_fitted(case: Case) -> None:
    if case.algorithm.text == "text" or not is_numeric(case):
        pytest.skip("its columns are not a matrix of numbers")
    table = case.train()
    table, values = widened(case, table, constant=pa.array([7.0] * len(table)))
    answered = case.answers(case.fit(table, values=values), table)
    assert np.isfinite(np.array(answered, np.float64)).all()


def test_float32_and_float64_give_nearly_the_same(case: Case, later: pa.Table) -> None:
    if not is_numeric(case):
        pytest.skip("its columns are not a matrix of numbers")
    doubled = case.fit(retyped(case.train(), pa.float64(), through=pa.float32()))
    single = case.fit(retyped(case.train(), pa.float32()))
    asked = retyped(later, pa.float32())
    assert_close(case, case.answers(single, asked), case.answers(doubled, asked), by=1000)


def test_missing_values_are_answered_or_refused_by_column(case: Case, later: pa.Table) -> None:
    if not is_numeric(case):
        pytest.skip("its columns are not a matrix of numbers")
    place = later.column_names.index(case.column)
    kind = later[case.column].type
    holes = later.set_column(place, case.column, pa.nulls(len(later), kind))
    if case.missing:
        assert np.isfinite(np.array(case.answers(fitted(case.name), holes), np.float64)).all()
        return
    with pytest.raises(InvalidData, match=f"column '{case.column}' .* row 1"):
        fitted(case.name).predict(holes)
    with pytest.raises(InvalidData, match=f"train: column '{case.column}' .* row 1"):
        case.fit(holes)


def test_no_rows_and_no_inputs_are_refused(case: Case) -> None:
    table = case.train()
    with pytest.raises(InvalidData, match="there are no rows"):
        case.fit(table.slice(0, 0))


def test_it_stops_soon_after_it_is_asked(case: Case) -> None:
    began = time.monotonic()
    # One that has a model to keep returns it.
    with suppress(TrainingStopped):
        case.fit(run=Run(threads=1, should_stop=lambda: True))
    assert time.monotonic() - began < 5


def test_a_fit_that_stops_goes_on_from_its_checkpoint(
    case: Case, model: Model, tmp_path: Path
) -> None:
    if not case.resumes:
        pytest.skip("it keeps no checkpoints")
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    asked = iter(range(1_000_000))
    run = Run(threads=1, checkpoints=checkpoints, should_stop=lambda: next(asked) >= 3)
    with pytest.raises(TrainingStopped):
        case.fit(run=run)
    assert list(checkpoints.iterdir())
    resumed = case.fit(run=Run(threads=1, checkpoints=checkpoints))
    assert saved(resumed, tmp_path / "resumed") == saved(model, tmp_path / "undisturbed")


@pytest.mark.skipif(not cuda_device_count(), reason="there is no CUDA device")
def test_cpu_and_gpu_agree(case: Case, model: Model, later: pa.Table) -> None:
    on_gpu = case.fit(run=Run(threads=1, device=Device("cuda", 0)))
    assert_close(case, case.answers(on_gpu, later), case.answers(model, later), by=10_000)


def is_numeric(case: Case) -> bool:
    """Whether its inputs are columns of numbers and words, not vectors or texts."""
    columns = case.dataset(case.train()).inputs.columns
    return all(column.kind in ("number", "category") for column in columns)


def retyped(table: pa.Table, kind: pa.DataType, *, through: pa.DataType | None = None) -> pa.Table:
    """Return a table whose floating columns are of another width."""
    for place, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            column = pc.cast(table[field.name], through or kind)
            table = table.set_column(place, field.name, pc.cast(column, kind))
    return table
