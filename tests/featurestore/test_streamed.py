"""Datasets that go through in pieces are those that are built in memory."""

from __future__ import annotations

import datetime as dt
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore import Dataset, InvalidRequest, InvalidSpine, sql_spine, streamed
from featurestore.pointintime import connect
from featurestore.spine import read_spine, spine_batches

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
LIMIT = "256MB"


@pytest.fixture
def filled(store, reading):
    for second in range(0, 60, 5):
        store.put("readings", reading("JFK", second, temp=second / 3, note="é" * second))
        store.put("readings", reading("LGA", second + 1, count=second))
    return store


def spine_of(rows, stations=("JFK", "LGA", None, "EWR")):
    rng = np.random.default_rng(rows)
    return pa.table(
        {
            "station": pa.array([stations[i] for i in rng.integers(0, len(stations), rows)]),
            "event_time": pa.array(
                [START + dt.timedelta(seconds=int(s)) for s in rng.integers(-5, 70, rows)],
                pa.timestamp("us", "UTC"),
            ),
            "word": pa.array([f"w{i % 3}" for i in range(rows)]).dictionary_encode(),
            "list": pa.array([[i] * (i % 3) if i % 5 else None for i in range(rows)]),
            "flag": pa.array([i % 2 == 0 for i in range(rows)]),
        }
    )


@pytest.fixture
def small_pieces(monkeypatch):
    """Cut the spine into pieces of 16 rows, and what waits on the disk into batches of 8."""
    monkeypatch.setattr(streamed, "_LARGEST_PIECE", 16)
    monkeypatch.setattr(streamed, "_ROW_GROUP", 8)


@pytest.mark.parametrize("rows", [0, 1, 15, 16, 17, 100])
@pytest.mark.parametrize("form", ["table", "file", "reader"])
def test_the_same_dataset_as_in_memory(filled, tmp_path, small_pieces, rows, form):
    table = spine_of(rows)
    spine, again = table, table
    if form == "file":
        spine = again = tmp_path / "spine.parquet"
        pq.write_table(table, spine, row_group_size=7)
    elif form == "reader":
        spine = table.to_reader(max_chunksize=5)
    selections = [
        filled.group("readings")["temp", "note"],
        filled.group("readings")["count"].with_lookback(dt.timedelta(seconds=3)),
    ]
    told = []
    written = filled.write_dataset(
        spine,
        selections,
        tmp_path / "out" / "rows.parquet",
        memory_limit=LIMIT,
        on_progress=told.append,
    )
    whole = filled.dataset(again, selections)

    assert written.fingerprint == whole.fingerprint
    assert written.manifest == whole.manifest
    assert (len(written), written.versions) == (rows, whole.versions)
    assert told == [*range(16, rows, 16), rows]
    read = Dataset.read(written.path)
    assert read.manifest == whole.manifest
    assert read.table.to_pylist() == whole.table.to_pylist()
    batches = list(written.reader(batch_rows=6))
    assert pa.Table.from_batches(batches, written.reader().schema).equals(read.table)
    assert all(len(batch) <= 6 for batch in batches)
    assert [path.name for path in written.path.parent.iterdir()] == ["rows.parquet"]
    filled.save_dataset(read)
    assert filled.rebuild_dataset(written.fingerprint).fingerprint == whole.fingerprint


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=st.lists(st.integers(0, 9), max_size=8), piece=st.sampled_from([8, 16, 24]))
def test_pieces_hold_every_row_in_order(monkeypatch, cuts, piece):
    monkeypatch.setattr(streamed, "_LARGEST_PIECE", piece)
    table = pa.table({"x": list(range(sum(cuts)))})
    batches, start = [], 0
    for length in cuts:
        batches.extend(
            table.slice(start, length).to_batches() or table.schema.empty_table().to_batches()
        )
        start += length
    reader = pa.RecordBatchReader.from_batches(table.schema, batches)
    pieces = list(streamed._pieces(reader, 1 << 30, 3))
    assert pa.concat_tables(pieces).equals(table)
    assert all(len(one) == piece for one in pieces[:-1])
    assert 0 < len(pieces[-1]) <= piece or not sum(cuts)


def test_an_error_names_the_row_and_leaves_nothing(filled, tmp_path, small_pieces, at):
    spine = pa.table({"station": ["JFK"] * 40, "event_time": [*[at(1)] * 37, "noon", at(1), at(1)]})
    path = tmp_path / "out.parquet"
    with pytest.raises(InvalidSpine, match=r"row 5: .*noon.* \(rows counted from row 32\)"):
        filled.write_dataset(spine, ["readings"], path, memory_limit=LIMIT)
    assert list(tmp_path.glob("*out*")) == []
    path.write_bytes(b"kept")
    with pytest.raises(InvalidSpine):
        filled.write_dataset(spine, ["readings"], path, memory_limit=LIMIT)
    assert path.read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("limit", "size"),
    [("64MB", 1 << 26), ("1.5 GB", 3 << 29), (1 << 30, 1 << 30), ("100000k", 102_400_000)],
)
def test_memory_limits(limit, size):
    assert streamed.memory_bytes(limit) == size


@pytest.mark.parametrize("limit", ["", "much", "1MB", 0, -1, "64 apples"])
def test_limits_that_are_none(filled, tmp_path, limit):
    with pytest.raises(InvalidRequest, match="memory_limit: expected"):
        filled.write_dataset(spine_of(1), ["readings"], tmp_path / "x", memory_limit=limit)


# -- spines from SQL --------------------------------------------------------------------------


def test_a_spine_may_be_a_query_of_files(filled, tmp_path):
    pq.write_table(spine_of(50), tmp_path / "flights.parquet")
    query = f"SELECT station, event_time FROM '{tmp_path}/flights.parquet' WHERE flag ORDER BY ALL"
    dataset = filled.dataset(query, ["readings[temp]"])
    written = filled.write_dataset(
        query, ["readings[temp]"], tmp_path / "out.parquet", memory_limit=LIMIT
    )
    assert len(dataset) == 25
    assert dataset.table["event_time"].type == pa.timestamp("us", "UTC")
    assert written.fingerprint == dataset.fingerprint
    assert json.dumps(dataset.manifest["lineage"]).count("spine") == 0


def test_a_query_over_named_tables(tmp_path):
    planes = tmp_path / "planes.csv"
    planes.write_text("plane,seats\nN1,100\nN2,200\n")
    found = sql_spine(
        "SELECT plane, seats, minute FROM flights JOIN planes USING (plane) ORDER BY minute",
        flights=pa.table({"plane": ["N1", "N2", "N1"], "minute": [3, 2, 1]}),
        planes=planes,
    )
    assert found.to_pydict() == {
        "plane": ["N1", "N2", "N1"],
        "seats": [100, 200, 100],
        "minute": [1, 2, 3],
    }
    with pytest.raises(InvalidSpine, match="the spine's query cannot be run"):
        sql_spine("SELECT * FROM nowhere")
    with pytest.raises(InvalidSpine, match="does not exist"):
        read_spine("selected.parquet")
    with pytest.raises(InvalidSpine, match="distinct column names"):
        spine_batches(
            pa.RecordBatchReader.from_batches(pa.schema([("a", pa.int64()), ("a", pa.int64())]), [])
        )


# -- other forms of the result ------------------------------------------------------------------


def test_forms_of_a_dataset(filled):
    dataset = filled.dataset(spine_of(20), ["readings[temp]"])
    assert pa.table(dataset.reader(batch_rows=7)).equals(dataset.table)
    assert [len(batch) for batch in dataset.reader(batch_rows=7)] == [7, 7, 6]
    frame = dataset.to_pandas()
    assert list(frame.columns) == dataset.table.schema.names
    assert frame["temp"].notna().sum() == 20 - dataset.table["temp"].null_count
    with pytest.raises(InvalidRequest, match="batch_rows: expected 1 or more"):
        dataset.reader(batch_rows=0)


def test_polars_is_optional(filled, monkeypatch):
    dataset = filled.dataset(spine_of(3), ["readings[temp]"])
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(InvalidRequest, match="pip install polars"):
        dataset.to_polars()


def test_a_join_that_does_not_fit_says_what_to_do():
    with (
        connect(threads=1, memory_limit="8MB") as connection,
        pytest.raises(InvalidRequest, match=r"does not fit into 64 MB after 7 rows; allow more"),
        streamed._told_where(7, 64 << 20),
    ):
        connection.execute("SELECT list(n) FROM range(5_000_000) r(n)").fetchall()
