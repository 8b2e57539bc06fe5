"""Spark joins as DuckDB does: the named cases, random histories, and every type on its way through.

A job takes a second, so that many cases are rows of one join.
"""

from __future__ import annotations

import datetime as dt
import decimal
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import featurestore
from featureline.cli import cli
from featurestore import (
    Dataset,
    FeatureSelection,
    InvalidRequest,
    InvalidSpine,
    StoreUnavailable,
    WindowedFeature,
    WindowedGroup,
    datasetbuild,
    eventtime,
    feature_definitions,
)
from featurestore.convert import offline_schema
from featurestore.dataset import Resolved
from featurestore.digest import table_digest
from featurestore.eventtime import MAX_US, MIN_US
from featurestore.feature import CollectionType, FeatureDefinition, FeatureType
from featurestore.offline import Snapshot
from featurestore.spark import dataset as spark_dataset
from featurestore.spark import join
from featurestore.spark.session import configured
from featurestore.spark.spine import _micros

# Spark's Python leaves the sockets of its results to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

TIME = pa.timestamp("us", "UTC")
NOTHING = None


@dataclass(frozen=True)
class Version:
    """One row of a history."""

    key: object
    event_time: int
    value: int | None = None
    write_time: int = 0
    is_deleted: bool = False


def history_table(group, versions):
    rows = [
        {
            group.record_identifier: version.key,
            "value": version.value,
            "_event_time": version.event_time,
            "write_time": version.write_time,
            "is_deleted": version.is_deleted,
            "_sequence": sequence,
        }
        for sequence, version in enumerate(versions)
    ]
    return pa.table(
        {
            field.name: pa.array([row.get(field.name) for row in rows], pa.int64()).cast(TIME)
            if field.type == TIME
            else pa.array([row.get(field.name) for row in rows], field.type)
            for field in offline_schema(group)
        }
    )


def snapshot_of(folder, *tables):
    files = []
    for table in tables:
        files.append(str(folder / f"{len(list(folder.iterdir()))}.parquet"))
        pq.write_table(table, files[-1])
    names = dict.fromkeys(name for table in tables for name in table.schema.names)
    return Snapshot(str(folder), 0, tuple(files), tuple(names))


def by_lookback(group, snapshot, lookbacks):
    """Select one feature once for each lookback, as columns of its own."""
    return [
        Resolved(
            FeatureSelection(
                group.name,
                ("value",),
                prefix=f"{us}_",
                lookback=None if us is None else dt.timedelta(microseconds=us),
            ),
            group,
            snapshot,
        )
        for us in lookbacks
    ]


def both(spine, resolved, spark, **options):
    """Build by both engines; the datasets must not differ in anything."""
    expected = datasetbuild.build(spine, resolved, time="t", **options)
    got = featurestore.spark.build(spine, resolved, time="t", spark=spark, **options)
    assert got.manifest == expected.manifest
    assert got.table.schema == expected.table.schema
    return got


# -- the named cases --------------------------------------------------------------------------

AB = [Version("a", 10, 1), Version("a", 20, 2), Version("b", 15, 9)]
DELETED = [Version("a", 10, 1), Version("a", 20, is_deleted=True), Version("a", 30, 3)]
# Name → the history, a row of identifier and time, the lookback, and the value it sees.
CASES = {
    "before the first value": (AB, ("a", 9), None, NOTHING),
    "exactly at the first value": (AB, ("a", 10), None, 1),
    "between two values": (AB, ("a", 11), None, 1),
    "1 µs before a value": (AB, ("a", 19), None, 1),
    "exactly at a value": (AB, ("a", 20), None, 2),
    "after the last value": (AB, ("a", 10**15), None, 2),
    "another identifier": (AB, ("b", 20), None, 9),
    "an unknown identifier": (AB, ("c", 20), None, NOTHING),
    "an empty identifier": (AB, ("", 20), None, NOTHING),
    "a null identifier": (AB, (None, 20), None, NOTHING),
    "no history": ([], ("a", 20), None, NOTHING),
    "exactly at the maximum age": (AB, ("a", 15), 5, 1),
    "1 µs beyond the maximum age": (AB, ("a", 16), 5, NOTHING),
    "within the maximum age": (AB, ("a", 14), 5, 1),
    "a maximum age of zero, at the value": (AB, ("a", 10), 0, 1),
    "a maximum age of zero, 1 µs later": (AB, ("a", 11), 0, NOTHING),
    "a delete hides what the maximum age would show": (
        [Version("a", 10, 1), Version("a", 12, is_deleted=True)],
        *(("a", 13), 5, NOTHING),
    ),
    "a tie: the later write time": (
        [Version("a", 10, 1, write_time=7), Version("a", 10, 2, write_time=5)],
        *(("a", 10), None, 1),
    ),
    "a tie in both times: the later sequence": (
        [Version("a", 10, 1), Version("a", 10, 2), Version("a", 9, 3)],
        *(("a", 10), None, 2),
    ),
    "a tie of record and marker, the marker written last": (
        [Version("a", 10, 1), Version("a", 10, write_time=9, is_deleted=True)],
        *(("a", 10), None, 1),
    ),
    "a tie of record and marker, the marker written first": (
        [Version("a", 10, is_deleted=True), Version("a", 10, 1)],
        *(("a", 10), None, 1),
    ),
    "1 µs before a delete": (DELETED, ("a", 19), None, 1),
    "exactly at a delete": (DELETED, ("a", 20), None, NOTHING),
    "until the next record": (DELETED, ("a", 29), None, NOTHING),
    "at the next record": (DELETED, ("a", 30), None, 3),
    "a null value is the newest": ([Version("a", 1, 1), Version("a", 2)], ("a", 3), None, NOTHING),
    "before the epoch": ([Version("a", -5, 2)], ("a", -5), None, 2),
    "1 µs earlier, before the epoch": ([Version("a", -5, 2)], ("a", -6), None, NOTHING),
    "in the year 0000": ([Version("a", MIN_US, 1)], ("a", MIN_US), None, 1),
    "in 1582, when the calendar changed": (
        [Version("a", -12_219_292_800_000_001, 1), Version("a", -12_219_292_800_000_000, 2)],
        *(("a", -12_219_292_800_000_001), None, 1),
    ),
    "in 1899, before the zones": (
        [Version("a", -2_208_988_800_000_001, 1), Version("a", -2_208_988_800_000_000, 2)],
        *(("a", -2_208_988_800_000_001), None, 1),
    ),
    "at the end of time": ([Version("a", 1, 1), Version("a", MAX_US, 3)], ("a", MAX_US), None, 3),
    "1 µs before the end of time": (
        [Version("a", 1, 1), Version("a", MAX_US, 3)],
        *(("a", MAX_US - 1), None, 1),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def cases_seen(spark, make_group, tmp_path_factory):
    """Ask all cases at once, each with identifiers of its own."""
    group = make_group("g", [("id", "String"), ("t", "String"), ("value", "Integral")])

    def own(name, key):
        return None if key is None else f"{key} of {name}"

    versions = [
        replace(version, key=own(name, version.key))
        for name, (history, *_) in CASES.items()
        for version in history
    ]
    rows = [(own(name, key), time) for name, (_, (key, time), *_) in CASES.items()]
    table = history_table(group, versions)
    cut = len(table) // 2
    snapshot = snapshot_of(tmp_path_factory.mktemp("files"), table.slice(cut), table.slice(0, cut))
    spine = pa.table(
        {
            "id": [key for key, _ in rows],
            "t": pa.array([time for _, time in rows], pa.int64()).cast(TIME),
        }
    )
    lookbacks = list(dict.fromkeys(lookback for _, _, lookback, _ in CASES.values()))
    seen = both(spine, by_lookback(group, snapshot, lookbacks), spark).table
    return {
        name: seen[f"{lookback}_value"][number].as_py()
        for number, (name, (_, _, lookback, _)) in enumerate(CASES.items())
    }


@pytest.mark.parametrize("name", CASES)
def test_a_named_case(cases_seen, name):
    assert cases_seen[name] == CASES[name][3]


# -- random histories -------------------------------------------------------------------------


def naive(versions, key, time, lookback, as_of):
    """Look at every version; remember the one that counts."""
    best = None
    for sequence, version in enumerate(versions):
        if key is None or version.key != key or version.event_time > time:
            continue
        if as_of is not None and version.write_time > as_of:
            continue
        rank = (version.event_time, not version.is_deleted, version.write_time, sequence)
        if best is None or rank > best[0]:
            best = (rank, version)
    if best is None or best[1].is_deleted:
        return None
    if lookback is not None and time - best[1].event_time > lookback:
        return None
    return best[1].value


@settings(max_examples=3)
@given(
    seed=st.integers(0, 2**32 - 1),
    as_of=st.none() | st.integers(-1, 3),
    few_rows=st.sampled_from([0, 1 << 20]),
)
def test_random_histories_equal_the_naive_double_loop_and_duckdb(
    spark, make_group, seed, as_of, few_rows
):
    chance = np.random.default_rng(seed)
    group = make_group("g", [("id", "String"), ("t", "String"), ("value", "Integral")])
    versions = []
    rows = []
    for world in range(60):
        for _ in range(chance.integers(0, 12)):
            deleted = bool(chance.random() < 0.25)
            value = None if deleted or chance.random() < 0.1 else int(chance.integers(99))
            key = f"{chance.choice(['a', 'b'])}{world}"
            times = (int(chance.integers(7)), value, int(chance.integers(4)))
            versions.append(Version(key, *times, is_deleted=deleted))
        for _ in range(chance.integers(0, 8)):
            key = chance.choice(["a", "b", "c", None])
            rows.append((None if key is None else f"{key}{world}", int(chance.integers(-1, 9))))
    order = chance.permutation(len(rows))
    rows = [rows[place] for place in order]
    table = history_table(group, versions)
    cut = int(chance.integers(len(versions) + 1))
    spine = pa.table(
        {
            "id": pa.array([key for key, _ in rows], pa.string()),
            "t": pa.array([time for _, time in rows], pa.int64()).cast(TIME),
        }
    )
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(join, "_FEW_ROWS", few_rows)
        snapshot = snapshot_of(Path(folder), table.slice(0, cut), table.slice(cut))
        resolved = by_lookback(group, snapshot, [None, 0, 2])
        seen = both(spine, resolved, spark, as_of_us=as_of).table
    for lookback in (None, 0, 2):
        assert seen[f"{lookback}_value"].to_pylist() == [
            naive(versions, key, time, lookback, as_of) for key, time in rows
        ]


# -- identifiers and features of every kind ---------------------------------------------------

AWKWARD = [
    *("time", "key", "t", "s", "c0", "v0_0", "age0", "f0", "spine", "history", "files", "order"),
    *("select", "a-b", "0", "NULL", "x", "lookback", "named", "begins", "b", "n"),
]


@pytest.fixture
def mixed(tmp_path, make_group):
    """Three groups with identifiers of the three types; the first has values of every kind."""
    collections = (
        FeatureDefinition("many", FeatureType.STRING, CollectionType.LIST),
        FeatureDefinition("set", FeatureType.INTEGRAL, CollectionType.SET),
        FeatureDefinition("vector", FeatureType.FRACTIONAL, CollectionType.VECTOR, 2),
    )
    scalars = feature_definitions(
        [("long", "String"), ("number", "Fractional"), *((n, "String") for n in AWKWARD)]
    )
    text = make_group("text", [("id", "String"), ("at", "String"), ("value", "Integral")])
    wide = replace(text, features=(*text.features, *scalars, *collections))
    old = history_table(text, [Version("ä", 10, 2**63 - 1), Version("b", 10, -(2**63))])
    new = history_table(wide, [Version("ä", 20, 7), Version("B", 20), Version("b", 30)])
    given = {
        "long": pa.array(["x" * 100_000, "", None]),
        "number": pa.array([-0.0, 1e-320, float("inf")]),
        "many": pa.array([["a", None, ""], [], None], pa.list_(pa.string())),
        "set": pa.array([[2**63 - 1], [1, 2], None], pa.list_(pa.int64())),
        "vector": pa.array([[-0.0, 0.1], [1.5, 2.0], None], pa.list_(pa.float64())),
        **{name: pa.array([f"{name} of ä", f"{name} of B", None]) for name in AWKWARD},
    }
    for name, values in given.items():
        new = new.set_column(new.schema.get_field_index(name), name, values)
    whole = make_group("whole", [("id", "Integral"), ("at", "String"), ("value", "Integral")])
    real = make_group("real", [("id", "Fractional"), ("at", "String"), ("value", "Integral")])
    none = make_group("none", [("id", "String"), ("at", "String"), ("value", "Integral")])
    wholes = [Version(key, 10, place) for place, key in enumerate([2**63 - 1, -(2**63), 0])]
    reals = [Version(key, 10, place) for place, key in enumerate([1.5, -1e300, 0.0])]
    folders = [tmp_path / name for name in ("text", "whole", "real")]
    for folder in folders:
        folder.mkdir()
    versions = snapshot_of(folders[0], old, new)
    return [
        Resolved(FeatureSelection("text", prefix="p."), wide, versions),
        # The same group under another key, its identifier and time as features.
        Resolved(
            FeatureSelection("text", ("id", "at", "value"), key="second", prefix="q`"),
            *(wide, versions),
        ),
        Resolved(
            FeatureSelection("whole", key="k"),
            *(whole, snapshot_of(folders[1], history_table(whole, wholes))),
        ),
        Resolved(
            FeatureSelection("real", key="r", prefix="r_"),
            *(real, snapshot_of(folders[2], history_table(real, reals))),
        ),
        Resolved(FeatureSelection("none", key="second", prefix="none_"), none, None),
    ]


@pytest.fixture
def spine():
    """Rows with every type that Spark carries, and names that need quotes."""
    times = pa.array([5, 10, 15, 25, 20, 30, 40], pa.int64()).cast(TIME)
    numbers = pa.array([1, -2, None, 4, 5, 6, 127])
    positive = pc.abs(numbers)
    texts = pa.array(["ä", "ä", "b", "B", None, "b", "?"])
    return pa.table(
        {
            "id": texts,
            "t": times,
            "second": pa.array(["b", None, "ä", "b", "b", "ä", "b"]).dictionary_encode(),
            "k": pa.array([2**63 - 1, 0, -(2**63), None, 1, 0, 0]),
            "r": pa.array([1.5, -0.0, 0.0, None, float("nan"), -1e300, 7.0]),
            **{str(kind): numbers.cast(kind) for kind in (pa.int8(), pa.int16(), pa.int32())},
            **{str(k): positive.cast(k) for k in (pa.uint8(), pa.uint16(), pa.uint32())},
            "uint64": pa.array([0, 2**64 - 1, None, 1, 2, 3, 4], pa.uint64()),
            "float": pa.array([0.1, -0.0, None, float("nan"), 1, 2, 3], pa.float32()),
            "bool": pa.array([True, False, None, True, True, True, True]),
            "binary": pa.array([b"\x00\xff", b"", None, b"a", b"b", b"c", b"d"]),
            "large": texts.cast(pa.large_string()),
            "date": numbers.cast(pa.int32()).cast(pa.date32()),
            "ms": numbers.cast(pa.timestamp("ms", "UTC")),
            "us": pa.array([MIN_US, -1, None, MAX_US, 1, 2, 3]).cast(TIME),
            "ns": pa.array([-1, 1_999, None, 1, 2, 3, 4]).cast(pa.timestamp("ns", "UTC")),
            "tokyo": numbers.cast(pa.timestamp("us", "Asia/Tokyo")),
            "naive": numbers.cast(pa.timestamp("us")),
            "naive ns": numbers.cast(pa.timestamp("ns")),
            "decimal": pa.array([decimal.Decimal("1.50"), *[None] * 6], pa.decimal128(9, 2)),
            "list": pa.array([["a", None], [], None, ["b"], *[None] * 3], pa.list_(pa.string())),
            "large list": pa.array([[1], *[None] * 6], pa.large_list(pa.int64())),
            "a.b": numbers,
            "x`y": numbers,
            "Value": numbers,
            "value": numbers,
            "%20 {x} :y": numbers,
        }
    )


def test_values_of_every_kind_in_memory(spark, mixed, spine):
    got = both(spine, mixed, spark).table
    assert got["p.value"].to_pylist() == [None, 2**63 - 1, -(2**63), None, None, None, None]
    assert got["r_value"].to_pylist() == [None, 2, 2, None, None, 1, None]


def written(spine, resolved, path, spark, *, time="t", **options):
    return featurestore.spark.write(
        spine, resolved, path, time=time, recorded=lambda it: it, spark=spark, **options
    )


def test_values_of_every_kind_in_written_files(spark, mixed, spine, tmp_path, monkeypatch):
    monkeypatch.setattr(spark_dataset, "FILE_ROWS", 3)
    path = tmp_path / "spine.parquet"
    pq.write_table(spine, path, row_group_size=2)
    table = pq.read_table(path)
    expected = datasetbuild.build(table, mixed, time="t")

    made = written(path, mixed, tmp_path / "a set", spark)

    assert made.manifest == expected.manifest
    assert sorted(file.name for file in made.path.iterdir()) == [
        "_common_metadata",
        *(f"part-0000{number}.parquet" for number in range(3)),
    ]
    back = Dataset.read(made.path)
    assert back.manifest == expected.manifest
    assert table_digest(back.table) == expected.manifest["rows_digest"]
    batches = list(made.reader(batch_rows=2))
    assert [len(batch) for batch in batches] == [2, 2, 2, 1]
    again = table_digest(pa.Table.from_batches(batches))
    assert again == expected.manifest["rows_digest"]
    assert not list(tmp_path.glob(".*"))


# -- a spine that the executors read ----------------------------------------------------------


@pytest.fixture
def filled(store, reading):
    """`readings` with two stations; JFK changes at second 10 and 20."""
    store.put("readings", reading("JFK", 10, temp=1.0, count=1, note="first"))
    store.put("readings", reading("LGA", 15, temp=9.0))
    store.flush()
    store.put("readings", reading("JFK", 20, temp=2.0, count=2))
    return store


@pytest.fixture
def asked(at):
    """Rows for `filled`, with times as text."""
    seconds = [15, 20, 20, 20, 9]
    stations = ["JFK", "LGA", "JFK", "EWR", "JFK"]
    return pa.table({"station": stations, "event_time": [at(s) for s in seconds]})


def test_files_folders_and_frames_are_one_spine(spark, filled, asked, tmp_path):
    folder = tmp_path / "spine"
    folder.mkdir()
    for number, start in enumerate((0, 2, 4)):
        pq.write_table(asked.slice(start, 2), folder / f"{number} [a]+%20.parquet")
    (folder / "_SUCCESS").touch()
    chosen = ["readings[temp,note]"]
    expected = filled.dataset(asked, chosen)
    frame = spark.createDataFrame(asked).repartition(1).sortWithinPartitions("event_time")

    first = filled.write_dataset(folder, chosen, tmp_path / "a", engine="spark", spark=spark)
    backwards = [folder / f"{number} [a]+%20.parquet" for number in (2, 1, 0)]
    other = filled.write_dataset(backwards, chosen, tmp_path / "b", engine="spark", spark=spark)
    third = filled.write_dataset(frame, chosen, tmp_path / "c", engine="spark", spark=spark)

    assert first.fingerprint == expected.fingerprint
    turned = asked.take([4, 2, 3, 0, 1])
    assert other.fingerprint == filled.dataset(turned, chosen).fingerprint
    rows = Dataset.read(third.path)
    assert third.fingerprint == filled.dataset(rows.spine, chosen).fingerprint
    assert rows.table["event_time"].to_pylist() == sorted(asked["event_time"].to_pylist())
    assert spark.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
    assert spark.conf.get("spark.sql.parquet.outputTimestampType") == "INT96"


def test_a_spine_without_rows_and_a_table_without_records(spark, store, readings, asked, tmp_path):
    path = tmp_path / "out"
    empty = asked.slice(0, 0)
    for spine in (asked, empty):
        expected = store.dataset(spine, ["readings"])
        made = store.write_dataset(spine, ["readings"], path, engine="spark", spark=spark)
        assert made.fingerprint == expected.fingerprint
        assert table_digest(Dataset.read(path).table) == expected.manifest["rows_digest"]
        again = store.dataset(spine, ["readings"], engine="spark", spark=spark)
        assert again.fingerprint == expected.fingerprint


def test_built_again_by_the_other_engine(spark, filled, asked, reading):
    saved = filled.dataset(asked, ["readings"], engine="spark", spark=spark)
    saved.save()
    filled.put("readings", reading("JFK", 9, temp=7.0))
    by_spark = filled.rebuild_dataset(saved.fingerprint, engine="spark", spark=spark)
    by_duckdb = filled.rebuild_dataset(saved.fingerprint)
    assert by_spark.table.equals(saved.table)
    assert by_duckdb.table.equals(saved.table)


def test_what_was_written_later_is_neither_seen_nor_read(spark, filled, asked, clock, reading):
    filled.flush()
    before = eventtime.to_datetime(clock.us + 1_000_000)
    clock.advance(60)
    filled.put("readings", reading("JFK", 9, temp=7.0))
    options = {"as_of": before, "engine": "spark", "spark": spark}
    early = filled.dataset(asked, ["readings[temp]"], **options)
    assert early.table["temp"].to_pylist() == [1.0, 9.0, 2.0, None, None]
    assert early.fingerprint == filled.dataset(asked, ["readings[temp]"], as_of=before).fingerprint
    (group,) = filled.explain_dataset(asked, ["readings[temp]"], as_of=before).groups
    assert (group.files, group.files_read, group.pruned_by_write_time) == (3, 2, 1)


# -- what is refused --------------------------------------------------------------------------

TEXTS = [
    *("1970-01-01T00:00:01Z", "1970-01-01T01:00:00.0000019+01:00", "0000-01-01T00:00:00Z"),
    *("9999-12-31T23:59:59.999999999Z", "2024-02-29T23:59:59.1-23:59", "1582-10-10T00:00:00Z"),
    *("1900-02-28T12:00:00.123456Z", "0000-02-29T00:00:00Z", "0004-02-29T00:00:00-00:30"),
    # None of these is a time.
    *("", "1970-01-01", "1970-01-01T00:00:01", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z"),
    *("2024-01-01T24:00:00Z", "2024-01-01T00:60:00Z", "2024-01-01T00:00:60Z", " 2024-01-01T00:00Z"),
    *("2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+00:60", "0000-01-01T00:00:00+00:01"),
    *("9999-12-31T23:59:59-00:01", "2024-01-01T00:00:00Z\n", "٢٠٢٤-01-01T00:00:00Z"),
    *("2024-01-01T00:00:00.Z", "2024-01-01T00:00:00.1234567890Z", "2024-01-01t00:00:00z"),
    *("2024-01-00T00:00:00Z", "2024-04-31T00:00:00Z", "2024-01-01T00:00:00 Z"),
]


def test_times_as_text_are_read_as_everywhere(spark):
    def micros(text):
        try:
            return eventtime.parse_iso(text)
        except ValueError:
            return None

    with configured(spark):
        frame = spark.createDataFrame(pa.table({"c0": TEXTS}))
        got = frame.selectExpr("c0", f"{_micros('c0', pa.string())} AS us").toArrow()
    assert dict(zip(got["c0"].to_pylist(), got["us"].to_pylist(), strict=True)) == {
        text: micros(text) for text in TEXTS
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"event_time": ["2024-01-01T00:00:00Z", "noon"]},
            "row 1: expected ISO-8601 text .*'noon'",
        ),
        (
            {"event_time": [None, None]},
            "'event_time': expected a type that Spark carries, got null",
        ),
        (
            {"event_time": pa.array([5, None], TIME)},
            "'event_time', row 1: expected a time, got null",
        ),
        ({"station": [1, 2]}, "'station': expected String like the record identifier"),
        ({"station": None}, "no column 'station'"),
        (
            {"span": pa.array([1, 2], pa.duration("s"))},
            "'span': expected a type that Spark carries",
        ),
    ],
)
def test_a_spine_is_refused_with_its_place(spark, filled, tmp_path, columns, message):
    good = {"station": ["JFK", "LGA"], "event_time": pa.array([5, 6], pa.int64()).cast(TIME)}
    spine = pa.table({name: v for name, v in (good | columns).items() if v is not None})
    with pytest.raises(InvalidSpine, match=message):
        filled.write_dataset(spine, ["readings"], tmp_path / "out", engine="spark", spark=spark)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("kind", "values"),
    [("Integral", pa.array([1, 2**63], pa.uint64())), ("Fractional", pa.array([1, 2**53 + 1]))],
)
def test_keys_that_their_type_cannot_hold_are_refused(spark, make_group, tmp_path, kind, values):
    group = make_group("n", [("id", kind), ("at", "String"), ("value", "Integral")])
    spine = pa.table({"id": values, "t": pa.array([1, 2], pa.int64()).cast(TIME)})
    with pytest.raises(InvalidSpine, match=f"'id', row 1: expected a value that {kind} holds"):
        written(spine, [Resolved(FeatureSelection("n"), group, None)], tmp_path / "out", spark)


def test_spine_files_are_refused_with_their_name(spark, filled, asked, tmp_path):
    def refused(spine, message):
        with pytest.raises(InvalidSpine, match=message):
            filled.write_dataset(spine, ["readings"], tmp_path / "out", engine="spark", spark=spark)

    folder = tmp_path / "spine"
    (folder / "day=1").mkdir(parents=True)
    refused(tmp_path / "none.parquet", "none.parquet does not exist")
    refused(folder, "expected .parquet files, there are none")
    refused([], "expected at least one spine file")
    pq.write_table(asked, folder / "day=1" / "a.parquet")
    refused(folder, "got the partition day=1")
    pq.write_table(asked.select(["station"]), tmp_path / "b.parquet")
    refused([folder / "day=1" / "a.parquet", tmp_path / "b.parquet"], "b.parquet: expected the col")
    (tmp_path / "c.parquet").write_bytes(b"none")
    refused(tmp_path / "c.parquet", "c.parquet cannot be read")


def test_a_folder_that_is_no_dataset_is_left_alone(filled, asked, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    for name, message in (("folder", "there is another one"), ("folder/mine", "there is a file")):
        with pytest.raises(InvalidRequest, match=message):
            filled.write_dataset(
                asked, ["readings"], tmp_path / name, engine="spark", spark=object()
            )
    with pytest.raises(InvalidRequest, match="expected a dataset's folder with a file _common"):
        Dataset.read(tmp_path / "folder")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "dask"}, "engine: expected 'duckdb' or 'spark', got 'dask'"),
        ({"spark": object()}, "a session is for engine='spark'"),
        ({"engine": "spark", "threads": 2}, "threads: this is for engine='duckdb'"),
        ({"engine": "spark", "memory_limit": "1GB"}, "memory_limit: this is for engine='duckdb'"),
        ({}, "memory_limit: expected bytes or a text"),
    ],
)
def test_arguments_of_another_engine_are_refused(filled, asked, tmp_path, options, message):
    with pytest.raises(InvalidRequest, match=message):
        filled.write_dataset(asked, ["readings"], tmp_path / "out", **options)


def test_a_windowed_group_is_refused(filled, asked, tmp_path):
    count = WindowedFeature("count", over=dt.timedelta(hours=1))
    group = WindowedGroup(
        "hourly", source="readings", by="station", features=[count], retention=dt.timedelta(days=1)
    )
    filled.create_windowed_group(group)
    for build in (
        lambda: filled.dataset(asked, ["hourly"], engine="spark"),
        lambda: filled.write_dataset(asked, ["hourly"], tmp_path / "out", engine="spark"),
    ):
        with pytest.raises(InvalidRequest, match="hourly: a windowed group is computed by engine="):
            build()


def test_without_pyspark_the_extra_is_named(filled, asked, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(InvalidRequest, match=r"pip install 'featureline\[spark\]'"):
        filled.dataset(asked, ["readings"], engine="spark")


def test_without_java_what_is_missing_is_named(spark, filled, asked, tmp_path):
    code = (
        "import featurestore, pyarrow as pa\n"
        "from featurestore.spark.session import session\n"
        "try: session()\n"
        "except featurestore.InvalidRequest as error: print(error)\n"
    )
    (tmp_path / "bin").mkdir()
    for name in ("bash", "dirname", "ps"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "/bin/true")
    environment = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"}
    environment |= {
        "PATH": str(tmp_path / "bin"),
        "PYTHONPATH": str(Path(featurestore.__file__).parents[1]),
    }
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "it needs Java 17 or later, by JAVA_HOME or on the PATH" in ended.stdout


def test_a_join_that_fails_leaves_nothing(spark, filled, asked, tmp_path):
    filled.flush()
    for file in Path(filled.offline_uri("readings")).rglob("*.parquet"):
        file.unlink()
    with pytest.raises(StoreUnavailable, match="the join did not finish"):
        filled.write_dataset(asked, ["readings"], tmp_path / "out", engine="spark", spark=spark)
    assert not list(tmp_path.glob("*out*"))


# -- the command line -------------------------------------------------------------------------


def test_the_command_builds_a_folder_that_the_check_passes(spark, filled, asked, tmp_path):
    filled.flush()
    filled.close()
    spine = tmp_path / "spine.parquet"
    pq.write_table(asked, spine)
    home = ["--home", str(tmp_path / "home"), "--json"]
    out = tmp_path / "out"
    build = ["dataset", "build", "--spine", str(spine), "--features", "readings", "--out", str(out)]

    assert spark is not None  # the active session is the command's
    made = CliRunner().invoke(cli, [*build, "--engine", "spark", *home])
    assert made.exit_code == 0, made.output
    checked = CliRunner().invoke(cli, ["dataset", "check", str(out), *home])
    assert checked.exit_code == 0, checked.output
    refused = CliRunner().invoke(cli, [*build, *home])
    assert (refused.exit_code, "is a folder" in refused.output) == (2, True)
    again = CliRunner().invoke(cli, [*build[:-1], str(tmp_path / "out.parquet"), *home])
    assert Dataset.read(tmp_path / "out.parquet").fingerprint == Dataset.read(out).fingerprint
    assert again.exit_code == 0
