"""Which files and how many rows differ between two versions of a table."""

from __future__ import annotations

import datetime as dt
import json
import shutil

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import lineage
from featurestore import InvalidRequest
from featurestore.offline.changes_between import changes_between
from featurestore.provenance import table_change


def rows(first, count, day=1, **more):
    at = dt.datetime(2026, 1, day, tzinfo=dt.UTC)
    columns = {
        "id": pa.array(range(first, first + count), pa.int64()),
        "_event_time": pa.array([at] * count, pa.timestamp("us", "UTC")),
        "write_time": pa.array([at] * count, pa.timestamp("us", "UTC")),
        "_event_date": pa.array([at.date()] * count, pa.date32()),
    }
    return pa.table(columns | {name: [value] * count for name, value in more.items()})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Version 0: 10 rows of the first; 1: 5 of the second; 2: compacted; 3: a column more."""
    uri = str(tmp_path_factory.mktemp("changes") / "table")
    write_deltalake(uri, rows(0, 6), partition_by=["_event_date"])
    write_deltalake(uri, rows(6, 4), mode="append")
    write_deltalake(uri, rows(10, 5, day=2), mode="append")
    DeltaTable(uri).optimize.compact()
    write_deltalake(uri, rows(15, 1, day=3, wind=1.5), mode="append", schema_mode="merge")
    return uri


def test_rows_that_were_added(table):
    change = changes_between(table, 0, 2)
    assert (len(change.files_added), change.files_removed) == (2, ())
    assert (change.rows_added, change.rows_removed) == (9, 0)
    assert (change.old_rows, change.new_rows) == (6, 15)
    assert [(each.version, each.operation) for each in change.commits] == [
        (1, "WRITE"),
        (2, "WRITE"),
    ]
    assert change.share == 9 / 15
    assert change.earliest is not None
    assert change.latest is not None
    assert (change.earliest.day, change.latest.day) == (1, 2)
    assert change.summary() == (
        "version 0 → 2: 2 files added (9 rows), 6 → 15 rows, event times 2026-01-01 to 2026-01-02"
    )
    json.dumps(change.to_json())


def test_rewritten_files_have_the_same_rows(table):
    change = changes_between(table, 2, 3)
    assert change.has_same_rows
    assert change.share == 0.0
    assert (change.rows_added, change.rows_removed) == (10, 10)
    assert "only rewritten: the same rows" in change.summary()
    same = changes_between(table, 1, 1)
    assert (same.has_same_rows, same.files_added) == (True, ())
    assert "the same files" in same.summary()


def test_backwards_and_a_new_column(table):
    change = changes_between(table, 4, 3)
    assert (change.rows_added, change.rows_removed) == (0, 1)
    assert (change.columns_added, change.columns_removed) == ((), ("wind",))
    assert "gone: wind" in change.summary()
    assert changes_between(table, 3, 4).columns_added == ("wind",)


def test_what_is_not_there_is_named(table, tmp_path):
    with pytest.raises(InvalidRequest, match="expected a version from 0 to 4, got 9"):
        changes_between(table, 0, 9)
    with pytest.raises(InvalidRequest, match="expected an offline table, found none"):
        changes_between(str(tmp_path / "none"), 0, 1)


def version(uri, number, **properties):
    return lineage.artifact(
        "FeatureGroupVersion",
        uri,
        content_hash=str(number),
        name=f"weather@{number}",
        properties={"table_version": number} | properties,
    )


def test_lineage_asks_it(table, tmp_path):
    graph = lineage.Graph(lineage.MemoryStore(), changes=table_change)
    models = [lineage.artifact("Model", f"m{n}", content_hash=f"m{n}") for n in (0, 2)]
    for number, model in zip((0, 2), models, strict=True):
        graph.record([], [(version(table, number), model, "ContributedTo")], kind="T")
    (cause,) = graph.diff(*models).causes
    assert cause.details[0].startswith("version 0 → 2: 2 files added (9 rows)")
    assert cause.details[1].startswith("version 1: WRITE, 20")
    assert cause.facts["rows_added"] == 9
    assert cause.weight == 7.6

    copy = tmp_path / "copy"
    shutil.copytree(table, copy)
    shutil.rmtree(copy / "_delta_log")
    gone = table_change(version(str(copy), 0), version(str(copy), 2))
    assert gone is not None
    assert "expected an offline table, found none" in gone.summary
    other = lineage.artifact("DataSet", "x")
    assert table_change(other, other) is None
    assert table_change(version(table, 0), version("elsewhere", 0)) is None
    assert table_change(version(table, 0), version(table, 1, table_version="?")) is None
