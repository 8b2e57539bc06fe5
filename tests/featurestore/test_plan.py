"""Files that no spine row can see are not read, and a plan says so before."""

from __future__ import annotations

import datetime as dt
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import FeatureNotFound, InvalidSpine, feature_definitions
from featurestore.convert import offline_schema
from featurestore.offline import DeltaOfflineTable, FileStatistics, Snapshot
from featurestore.pointintime import as_of_join, connect, seen_files, spine_times

TIME = pa.timestamp("us", "UTC")
HOUR_US = 3_600_000_000
HOUR = dt.timedelta(hours=1)


def spine_at(*seconds, at, station="JFK"):
    return pa.table({"station": [station] * len(seconds), "event_time": [at(s) for s in seconds]})


@pytest.fixture
def days(store, reading, clock):
    """`readings` with one file for each of three hours of two days."""
    clock.advance(10 * 86_400)
    for day in (0, 1):
        for hour in (0, 8, 16):
            for station in ("JFK", "LGA"):
                second = day * 86_400 + hour * 3600
                store.put("readings", reading(station, second, temp=float(hour), note="x"))
            store.flush()
    return store


@pytest.mark.parametrize(
    ("seconds", "lookback", "expected"),
    [
        pytest.param([7 * 86_400], None, (6, 0, 0), id="after everything"),
        pytest.param([86_400 - 1], None, (3, 3, 0), id="the next day is left out by its date"),
        pytest.param([8 * 3600], None, (2, 3, 1), id="at the very time of a file's first row"),
        pytest.param([8 * 3600 - 0.1], None, (1, 3, 2), id="before a file's first row"),
        pytest.param([-1], None, (0, 6, 0), id="before everything"),
        pytest.param([86_400 * 2], HOUR, (0, 3, 3), id="all too old"),
        pytest.param([86_400 + 9 * 3600], HOUR, (1, 3, 2), id="exactly as old as may be"),
        pytest.param([9 * 3600, 86_400 + 9 * 3600], HOUR, (4, 0, 2), id="all between the ends"),
    ],
)
def test_a_plan_says_which_files_are_read(days, at, seconds, lookback, expected):
    selection = replace(days.group("readings")["temp"], lookback=lookback)
    spine = spine_at(*seconds, at=at)

    plan = days.explain_dataset(spine, [selection])

    (group,) = plan.groups
    assert (group.files_read, group.pruned_by_partition, group.pruned_by_statistics) == expected
    assert (group.files, group.rows, group.rows_read) == (6, 12, 2 * expected[0])
    assert group.columns_read == (
        *("station", "_event_time", "is_deleted", "write_time", "_sequence", "temp"),
    )
    assert group.columns == 12
    assert (group.bytes_read == 0) == (expected[0] == 0)
    assert group.bytes_read <= group.size_bytes
    assert f"{group.files_read} of 6 " in str(plan)
    whole = replace(days.resolver.selections([selection])[0].snapshot, statistics=())
    with connect() as connection:
        unpruned = as_of_join(
            pa.table({"key": spine["station"], "time": spine_times(spine, "event_time")}),
            whole,
            days.describe_feature_group("readings"),
            ["temp"],
            lookback_us=selection.lookback_us,
            connection=connection,
        )
    assert days.dataset(spine, [selection]).table["temp"].equals(unpruned["temp"])


def test_a_build_reads_no_more_than_the_plan_says(days, at):
    spine = spine_at(8 * 3600, at=at)
    plan = days.explain_dataset(spine, ["readings[temp]"])
    snapshot = days.offline_table(days.registry.get("readings")).scan()
    read = seen_files(snapshot, spine_times(spine, "event_time"), None)
    for file in set(snapshot.files) - set(read.files):
        Path(file).write_bytes(b"this is no Parquet file")
    assert len(read.files) == plan.groups[0].files_read
    assert days.dataset(spine, ["readings[temp]"]).table["temp"].to_pylist() == [8.0]


def test_a_plan_checks_what_a_build_checks(days, at):
    with pytest.raises(FeatureNotFound):
        days.explain_dataset(spine_at(1, at=at), ["readings[tmp]"])
    with pytest.raises(InvalidSpine, match="no column 'when'"):
        days.explain_dataset(spine_at(1, at=at), ["readings"], time="when")


def test_plans_of_nothing(store, at):
    plan = store.explain_dataset(spine_at(1, at=at), ["readings"])
    assert plan.groups[0].version is None
    assert "nothing was written yet" in str(plan)
    empty = store.explain_dataset(
        spine_at(at=at).cast(pa.schema([("station", pa.string()), ("event_time", pa.string())])),
        ["readings"],
    )
    assert (empty.rows, empty.earliest) == (0, None)
    assert str(empty).startswith("0 rows, 5 columns")


def test_a_feature_that_only_left_out_files_have_is_null(days, at, reading):
    days.add_features("readings", feature_definitions([("wind", "Fractional")]))
    days.put("readings", reading("JFK", 3 * 86_400, wind=4.0))
    spine = spine_at(100, at=at)
    dataset = days.dataset(spine, ["readings[temp,wind]"])
    assert dataset.table["wind"].to_pylist() == [None]
    assert dataset.table["temp"].to_pylist() == [0.0]
    later = days.dataset(spine_at(100, 3 * 86_400, at=at), ["readings[wind]"])
    assert later.table["wind"].to_pylist() == [None, 4.0]


def test_a_wide_group_is_pruned_by_its_partitions(make_store, make_group, at):
    # Delta keeps statistics of the first 32 columns, and `_event_time` is behind them.
    store = make_store()
    names = [f"f{i}" for i in range(40)]
    store.create_feature_group(
        make_group(
            "wide",
            [("station", "String"), ("time", "String"), *((name, "Integral") for name in names)],
        )
    )
    for second in (0, 86_399):
        store.put("wide", {"station": "JFK", "time": at(second), "f39": second})
        store.flush()
    store.put("wide", {"station": "JFK", "time": at(-1), "f39": -1})
    plan = store.explain_dataset(spine_at(-1, at=at), ["wide[f39]"])
    group = plan.groups[0]
    assert (group.files_read, group.pruned_by_partition, group.files) == (1, 2, 3)
    assert store.dataset(spine_at(-1, 5, at=at), ["wide[f39]"]).table["f39"].to_pylist() == [-1, 0]


@pytest.mark.parametrize("day", [0, 1, 20_000], ids=["the first day", "day 1", "2024"])
def test_times_are_rounded_in_the_log_and_no_value_is_lost_by_it(tmp_path, make_group, day):
    group = make_group("g", [("id", "String"), ("t", "String"), ("value", "Integral")])
    table = DeltaOfflineTable(str(tmp_path / "t"))
    start = (day - 1) * 24 * HOUR_US  # before 1970 as well
    moments = [start + 1, start + 999, start + 1001, start + 123_456]
    for sequence, moment in enumerate(moments):
        append(table, group, [("a", moment, sequence)], sequence)
    for moment, value in zip(moments, range(4), strict=True):
        with connect() as connection:
            joined = as_of_join(
                pa.table({"key": ["a"], "time": pa.array([moment]).cast(TIME)}),
                table.scan(),
                group,
                ["value"],
                lookback_us=0,
                connection=connection,
            )
        assert joined["value"].to_pylist() == [value]


def append(table, group, rows, sequence):
    columns = {
        "id": [key for key, _, _ in rows],
        "value": [value for _, _, value in rows],
        "_event_time": [moment for _, moment, _ in rows],
        "write_time": [0] * len(rows),
        "is_deleted": [value is not None and value < 0 for _, _, value in rows],
        "_sequence": [100 * sequence + number for number in range(len(rows))],
        "_event_date": [moment // (24 * HOUR_US) for _, moment, _ in rows],
    }

    def array(field):
        values = columns.get(field.name, [None] * len(rows))
        if field.type == TIME:
            return pa.array(values, pa.int64()).cast(TIME)
        if field.type == pa.date32():
            return pa.array(np.array(values, np.int32)).cast(pa.date32())
        return pa.array(values, field.type)

    schema = offline_schema(group)
    table.append(
        pa.Table.from_arrays([array(field) for field in schema], schema=schema),
        application="test",
        sequence=sequence + 1,
    )


HOURS = st.integers(-50, 50)


@settings(max_examples=25, deadline=None)
@given(
    files=st.lists(
        st.lists(st.tuples(st.sampled_from("ab"), HOURS, st.integers(-3, 9)), min_size=1),
        min_size=1,
        max_size=5,
    ),
    rows=st.lists(st.tuples(st.sampled_from("abc"), HOURS), min_size=1, max_size=6),
    lookback=st.none() | st.integers(0, 30),
)
def test_pruning_changes_no_value(make_group, files, rows, lookback):
    group = make_group("g", [("id", "String"), ("t", "String"), ("value", "Integral")])
    spine = pa.table(
        {
            "key": [key for key, _ in rows],
            "time": pa.array([hour * HOUR_US for _, hour in rows]).cast(TIME),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        table = DeltaOfflineTable(f"{folder}/t")
        for sequence, file in enumerate(files):
            append(table, group, [(k, hour * HOUR_US, v) for k, hour, v in file], sequence)
        snapshot = table.scan()
        results = []
        for chosen in (snapshot, replace(snapshot, statistics=())):
            with connect(threads=1) as connection:
                results.append(
                    as_of_join(
                        spine,
                        chosen,
                        group,
                        ["value"],
                        lookback_us=None if lookback is None else lookback * HOUR_US,
                        connection=connection,
                    )
                )
    assert results[0].equals(results[1])


def test_a_snapshot_without_statistics_is_read_whole():
    snapshot = Snapshot("uri", 0, ("a", "b"), ("x",))
    assert snapshot.between(5, 4) is snapshot
    unknown = replace(snapshot, statistics=(FileStatistics(None, 1), FileStatistics(1, 1, 9, 9)))
    assert unknown.between(0, 8).files == ("a",)
    assert unknown.between(10, None).files == ("a",)
    assert unknown.between(9, 9) is unknown


def test_files_written_after_the_as_of_time_are_left_out(days, at, clock, reading):
    spine = spine_at(7 * 86_400, at=at)
    as_of = dt.datetime.fromtimestamp(clock.us / 1_000_000, dt.UTC) + dt.timedelta(seconds=1)
    clock.advance(60)
    days.put("readings", reading("JFK", 0, temp=7.0))

    plan = days.explain_dataset(spine, ["readings[temp]"], as_of=as_of)
    (group,) = plan.groups
    (whole,) = days.explain_dataset(spine, ["readings[temp]"]).groups

    assert (group.files, group.files_read, group.pruned_by_write_time) == (7, 6, 1)
    assert (whole.files_read, whole.pruned_by_write_time) == (7, 0)
    assert "1 by write time" in str(plan)


@settings(max_examples=60)
@given(
    versions=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 6)), max_size=20
    ),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    as_of=st.integers(-1, 7),
    known=st.booleans(),
)
def test_pruning_by_write_time_changes_no_value(make_group, versions, sizes, as_of, known):
    group = make_group("g", [("id", "String"), ("t", "String"), ("value", "Integral")])
    schema = offline_schema(group)
    spine = pa.table(
        {
            "key": ["0", "1", "2", "3"] * 2,
            "time": pa.array([3] * 4 + [6] * 4, pa.int64()).cast(TIME),
        }
    )
    files, statistics, start = [], [], 0
    with tempfile.TemporaryDirectory() as folder, connect(threads=1) as connection:
        for size in sizes:
            part = versions[start : start + size]
            start += size
            if not part:
                break
            rows = [
                {"id": str(key), "value": start, "_event_time": event, "write_time": write}
                for key, event, write in part
            ]
            columns = {
                field.name: pa.array([row.get(field.name) for row in rows], pa.int64()).cast(TIME)
                if field.type == TIME
                else pa.array([row.get(field.name) for row in rows], field.type)
                for field in schema
            }
            columns["is_deleted"] = pa.array([False] * len(rows))
            columns["_sequence"] = pa.array(range(start, start + len(rows)), pa.int64())
            files.append(str(Path(folder) / f"{len(files)}.parquet"))
            pq.write_table(pa.table(columns), files[-1])
            first = min(write for _, _, write in part) if known else None
            statistics.append(FileStatistics(len(part), 1, first_written_us=first))
        snapshot = Snapshot(folder, 0, tuple(files), tuple(schema.names), tuple(statistics))
        joined = [
            as_of_join(spine, chosen, group, ("value",), as_of_us=as_of, connection=connection)
            for chosen in (snapshot, replace(snapshot, statistics=()))
        ]
    assert joined[0].equals(joined[1])
