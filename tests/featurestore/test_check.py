from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import FeatureSelection
from featurestore.check import check_dataset
from featurestore.dataset import Dataset
from featurestore.embedded import EmbeddedStore
from featurestore.online import MemoryStore

LABELS = ["JFK", "LGA", "EWR"]


@pytest.fixture
def filled(store, reading, at):
    for second, temp in ((10, 1.0), (20, 2.0), (30, 3.0)):
        store.put("readings", reading("JFK", second, temp=temp, note=f"at {second}"))
    store.put("readings", reading("LGA", 15, temp=9.0))
    store.delete("readings", "LGA", event_time=at(25))
    return store


@pytest.fixture
def made(filled, at):
    rows = [("JFK", 25), ("LGA", 20), ("LGA", 25), ("EWR", 20), ("JFK", 9), (None, 20)]
    spine = {"station": [key for key, _ in rows], "event_time": [at(second) for _, second in rows]}
    return filled.dataset(spine, ["readings[temp,note]"])


def check(store, dataset, **options):
    return check_dataset(dataset, store.resolve_manifest(dataset.manifest), **options)


def planted(dataset: Dataset, row: int, value: object, column: str = "temp") -> Dataset:
    values = dataset.table[column].to_pylist()
    values[row] = value
    at = dataset.table.schema.get_field_index(column)
    kind = dataset.table.schema.field(column).type
    return replace(dataset, table=dataset.table.set_column(at, column, pa.array(values, kind)))


def test_a_right_dataset_passes(filled, made):
    assert made.table["temp"].to_pylist() == [2.0, 9.0, None, None, None, None]
    report = check(filled, made)
    assert report.passed
    assert (report.rows, report.checked, report.values) == (6, 6, 12)
    assert (report.wrong, report.future, report.examples) == (0, 0, ())


def test_a_wrong_value_is_found(filled, made):
    report = check(filled, planted(made, 0, 7.5))
    assert not report.passed
    assert (report.wrong, report.future) == (1, 0)
    assert report.examples == ("row 0, temp: expected 2.0, got 7.5",)


def test_a_value_from_the_future_is_found_and_called_that(filled, made):
    report = check(filled, planted(made, 0, 3.0))  # what JFK says at 30, in the row of 25
    assert not report.passed
    assert (report.wrong, report.future) == (1, 1)
    assert report.examples == ("row 0, temp: expected 2.0, got 3.0 from the future",)
    text = check(filled, planted(made, 4, "at 10", "note"))
    assert (text.wrong, text.future) == (1, 1)


def test_an_older_value_is_wrong_but_not_from_the_future(filled, made):
    report = check(filled, planted(made, 0, 1.0))
    assert (report.wrong, report.future) == (1, 0)


def test_a_value_that_is_missing_is_found(filled, made):
    report = check(filled, planted(made, 1, None))
    assert (report.wrong, report.future) == (1, 0)
    assert report.examples == ("row 1, temp: expected 9.0, got None",)


@pytest.mark.parametrize(
    ("row", "reason"),
    [(2, "deleted"), (3, "unknown identifier"), (4, "before the first"), (5, "null identifier")],
)
def test_a_value_that_should_not_be_there_is_found(filled, made, row, reason):
    report = check(filled, planted(made, row, 9.5))
    assert report.wrong == 1, reason


def test_the_age_is_checked_too(filled, at):
    spine = {"station": ["JFK", "JFK"], "event_time": [at(15), at(16)]}
    selection = FeatureSelection("readings", ("temp",)).with_lookback(dt.timedelta(seconds=5))
    made = filled.dataset(spine, [selection])
    assert made.table["temp"].to_pylist() == [1.0, None]
    assert check(filled, made).passed
    assert check(filled, planted(made, 1, 1.0)).wrong == 1


def test_only_some_rows(filled, made):
    wrong = planted(made, 0, 7.5)
    reports = [check(filled, wrong, rows=3, seed=seed) for seed in range(20)]
    assert {report.checked for report in reports} == {3}
    assert {report.passed for report in reports} == {True, False}
    assert check(filled, wrong, rows=3, seed=1) == check(filled, wrong, rows=3, seed=1)
    assert check(filled, wrong, rows=99).checked == 6


def test_many_wrong_values_show_the_first(filled, at):
    spine = {"station": ["JFK"] * 50, "event_time": [at(40)] * 50}
    made = filled.dataset(spine, ["readings[temp]"])
    wrong = replace(
        made, table=made.table.set_column(2, "temp", pa.array([1.0] * 50, pa.float64()))
    )
    report = check(filled, wrong)
    assert report.wrong == 50
    assert len(report.examples) == 20


def test_the_report_as_json(filled, made):
    assert check(filled, planted(made, 0, 3.0)).to_json() == {
        "passed": False,
        "rows": 6,
        "checked": 6,
        "values": 12,
        "future": 1,
        "wrong": 1,
        "examples": ["row 0, temp: expected 2.0, got 3.0 from the future"],
    }


def test_a_group_that_was_never_written(store, at):
    made = store.dataset({"station": ["JFK"], "event_time": [at(1)]}, ["readings[temp]"])
    assert check(store, made).passed
    assert check(store, planted(made, 0, 1.0)).wrong == 1


operations = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "flush"]),
        st.sampled_from(LABELS),
        st.integers(0, 9),
        st.integers(0, 99),
    ),
    max_size=20,
)


@settings(max_examples=20)
@given(
    operations,
    st.lists(st.tuples(st.sampled_from([*LABELS, None]), st.integers(-1, 11)), min_size=1),
    st.none() | st.integers(0, 5),
    st.data(),
)
def test_the_check_agrees_with_the_join_and_finds_every_change(
    tmp_path_factory, readings, reading, at, steps, rows, age, data
):
    store = EmbeddedStore(tmp_path_factory.mktemp("home"), online=MemoryStore())
    with store:
        store.create_feature_group(readings)
        for verb, station, second, count in steps:
            if verb == "put":
                store.put("readings", reading(station, second, count=count))
            elif verb == "delete":
                store.delete("readings", station, event_time=at(second))
            else:
                store.flush()
        selection = FeatureSelection("readings", ("count",))
        if age is not None:
            selection = selection.with_lookback(dt.timedelta(seconds=age))
        spine = pa.table(
            {
                "station": pa.array([key for key, _ in rows], pa.string()),
                "event_time": [at(second) for _, second in rows],
            }
        )
        made = store.dataset(spine, [selection])
        assert check(store, made).passed
        row = data.draw(st.integers(0, len(rows) - 1))
        old = made.table["count"].to_pylist()[row]
        new = data.draw((st.none() | st.integers(0, 99)).filter(lambda value: value != old))
        report = check(store, planted(made, row, new, "count"))
        assert report.wrong == 1
        assert report.examples[0].startswith(f"row {row}, count: expected {old!r}, got {new!r}")
