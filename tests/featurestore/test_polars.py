"""Polars in and out: rows to put, spines, and datasets."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from featurestore import InvalidSpine

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "station": ["JFK", "LGA", "JFK", None],
            "time": [START + dt.timedelta(seconds=second) for second in (0, 5, 10, 15)],
            "temp": [1.5, None, 2.5, 9.0],
            "count": [1, 2, None, 4],
            "note": ["é", None, "longer than twelve bytes of text", "x"],
        }
    )


@pytest.fixture
def spine() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "station": ["LGA", "JFK", "JFK", "EWR", None],
            "event_time": [START + dt.timedelta(seconds=second) for second in (7, 9, 10, 3, 3)],
            "label": [True, False, True, None, False],
        }
    )


def test_rows_of_a_frame_are_put(store, frame):
    put = store.put_table("readings", frame)
    assert (put.rows, [error.index for error in put.errors]) == (3, [3])
    assert store.get("readings", "LGA") == {
        "station": "LGA",
        "time": "2024-01-01T00:00:05Z",
        "count": 2,
    }
    assert store.get("readings", "JFK")["note"] == "longer than twelve bytes of text"
    assert store.verify("readings").equal


def test_rows_of_a_frame_are_loaded(store, frame):
    loaded = store.load("readings", frame, key="frame")
    assert (loaded.rows, [error.index for error in loaded.errors]) == (3, [3])
    assert store.get("readings", "JFK")["note"] == "longer than twelve bytes of text"
    assert store.verify("readings").equal


def test_a_frame_with_categories_is_put(store, frame):
    categories = frame.head(3).with_columns(pl.col("station").cast(pl.Categorical))
    assert store.put_table("readings", categories).errors == []
    assert store.get("readings", "JFK")["temp"] == 2.5


def test_a_frame_as_spine_and_a_dataset_as_frame(store, frame, spine):
    store.put_table("readings", frame.head(3))
    dataset = store.dataset(spine, ["readings[temp,count,note]"])
    expected = spine.with_columns(
        pl.Series("temp", [None, 1.5, 2.5, None, None], pl.Float64),
        pl.Series("count", [2, 1, None, None, None], pl.Int64),
        pl.Series("note", [None, "é", "longer than twelve bytes of text", None, None], pl.String),
    )
    found = dataset.to_polars()
    assert_frame_equal(
        found, expected.with_columns(pl.col("event_time").cast(found.schema["event_time"]))
    )
    same = store.dataset(spine.to_arrow(), ["readings[temp,count,note]"])
    assert same.table.drop_columns(["station"]).equals(dataset.table.drop_columns(["station"]))


def test_a_spine_without_a_zone_is_refused(store, frame, spine):
    store.put_table("readings", frame.head(3))
    naive = spine.with_columns(pl.col("event_time").dt.replace_time_zone(None))
    with pytest.raises(InvalidSpine, match="expected timestamps with a zone"):
        store.dataset(naive, ["readings"])


def test_it_is_written_within_a_limit_too(store, frame, spine, tmp_path):
    store.put_table("readings", frame.head(3))
    path = tmp_path / "rows.parquet"
    store.write_dataset(spine, ["readings[temp]"], path, memory_limit="64MB")
    assert pl.read_parquet(path)["temp"].to_list() == [None, 1.5, 2.5, None, None]
