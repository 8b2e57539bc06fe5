"""The builder's options on small histories, and against the plainest loop on random ones."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import (
    DatasetBuilder,
    FeatureGroupNotFound,
    FeatureSelection,
    InvalidRequest,
    JoinComparatorEnum,
    JoinTypeEnum,
)
from featurestore.builderquery import build
from featurestore.convert import offline_schema
from featurestore.dataset import Resolved
from featurestore.offline import Snapshot

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
TIME = pa.timestamp("us", "UTC")


def second(number):
    return START + dt.timedelta(seconds=number)


@pytest.fixture
def history(store, reading, clock, at):
    """JFK at 10, 20 (twice) and 30, of which the one at 10 is deleted at 15; LGA at 12, deleted."""

    def put(station, moment, temp):
        clock.advance(1)
        store.put("readings", reading(station, moment, temp=temp))

    put("JFK", 10, 1.0)
    put("JFK", 20, 2.0)
    put("LGA", 12, 9.0)
    clock.advance(1)
    store.delete("readings", "JFK", event_time=at(15))
    put("JFK", 20, 2.5)
    store.flush()
    clock.advance(10)
    put("JFK", 30, 3.0)
    store.delete("readings", "LGA", event_time=at(12), hard=False)
    return store


def seen(builder):
    table = builder.to_arrow().select(["station", "time", "temp"])
    return [
        (s, int(t[17:19]), temp) for s, t, temp in zip(*table.to_pydict().values(), strict=True)
    ]


READINGS = [("JFK", 20, 2.5), ("JFK", 30, 3.0)]


def test_by_default_one_row_for_each_time_after_the_last_marker(history):
    assert seen(history.create_dataset("readings")) == READINGS


def test_duplicated_records_may_stay_but_deleted_ones_do_not(history):
    builder = history.create_dataset("readings").include_duplicated_records()
    assert seen(builder) == [("JFK", 20, 2.0), *READINGS]


def test_deleted_history_may_stay_but_markers_never_do(history):
    builder = history.create_dataset("readings").include_deleted_records()
    assert seen(builder) == [("JFK", 10, 1.0), *READINGS, ("LGA", 12, 9.0)]
    assert len(seen(builder.include_duplicated_records())) == 5


def test_a_record_put_after_a_marker_of_its_time_is_back(history, reading, clock):
    clock.advance(1)
    history.put("readings", reading("LGA", 12, temp=8.0))
    assert seen(history.create_dataset("readings"))[-1] == ("LGA", 12, 8.0)


def test_as_of_is_in_whole_seconds(history, clock):
    first_flush = second(86_400 + 5)
    builder = history.create_dataset("readings").as_of(first_flush + dt.timedelta(milliseconds=999))
    assert seen(builder) == [("JFK", 20, 2.5), ("LGA", 12, 9.0)]
    assert seen(builder.as_of(first_flush - dt.timedelta(seconds=1))) == []


def test_an_event_time_range_has_both_ends(history):
    builder = history.create_dataset("readings")
    assert seen(builder.with_event_time_range(second(20), second(30))) == READINGS
    assert seen(builder.with_event_time_range(second(21))) == READINGS[1:]
    # One end alone: markers outside count; both: only those inside.
    assert seen(builder.with_event_time_range(None, second(14))) == []
    assert seen(builder.with_event_time_range(second(0), second(14))) == [("JFK", 10, 1.0)]


def test_recent_records_and_a_limit(history):
    builder = history.create_dataset("readings").include_deleted_records()
    builder.with_number_of_recent_records_by_record_identifier(1)
    assert seen(builder) == [("JFK", 30, 3.0), ("LGA", 12, 9.0)]
    assert seen(builder.with_number_of_records_from_query_results(1)) == [("JFK", 30, 3.0)]
    assert seen(builder.with_number_of_records_from_query_results(0)) == []


@pytest.fixture
def flights(at):
    return pa.table(
        {"origin": ["JFK", "JFK", "EWR"], "at": [at(25), at(35), at(35)], "late": [1, 2, 3]}
    )


def base(store, flights, **options):
    return store.create_dataset(
        flights,
        record_identifier_feature_name="origin",
        event_time_identifier_feature_name="at",
        **options,
    )


def joined(builder, *names):
    return [tuple(row.values()) for row in builder.to_arrow().select(["late", *names]).to_pylist()]


def test_a_point_in_time_join_keeps_every_earlier_version(history, flights):
    builder = base(history, flights).with_feature_group("readings")
    assert joined(builder, "temp.1") == [(1, 2.5), (1, 3.0), (2, 2.5), (2, 3.0)]
    builder.point_in_time_accurate_join()
    assert joined(builder, "temp.1") == [(1, 2.5), (2, 2.5), (2, 3.0)]
    assert builder.to_arrow().schema.names == [
        *("origin", "at", "late", "station.1", "time.1", "temp.1", "count.1", "note.1")
    ]


def test_recent_records_are_counted_by_identifier_and_not_by_row(history, flights):
    builder = base(history, flights).with_feature_group("readings")
    builder.point_in_time_accurate_join()
    builder.with_number_of_recent_records_by_record_identifier(1)
    assert joined(builder, "temp.1") == [(2, 3.0)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (JoinTypeEnum.INNER_JOIN, [(1, "JFK"), (2, "JFK")]),
        (JoinTypeEnum.LEFT_JOIN, [(1, "JFK"), (2, "JFK"), (3, None)]),
        (JoinTypeEnum.RIGHT_JOIN, [(1, "JFK"), (2, "JFK"), (None, "LGA")]),
        (JoinTypeEnum.FULL_JOIN, [(1, "JFK"), (2, "JFK"), (3, None), (None, "LGA")]),
        (JoinTypeEnum.CROSS_JOIN, [(n, s) for n in (1, 2, 3) for s in ("JFK", "LGA")]),
    ],
)
def test_join_types(store, reading, flights, kind, expected):
    store.put("readings", reading("JFK", 1, temp=1.0))
    store.put("readings", reading("LGA", 1, temp=2.0))
    builder = base(store, flights).with_feature_group("readings", join_type=kind)
    assert joined(builder, "station.1") == expected


@pytest.mark.parametrize(
    ("comparator", "expected"),
    [
        (JoinComparatorEnum.EQUALS, [2]),
        (JoinComparatorEnum.NOT_EQUAL_TO, [1, 3]),
        (JoinComparatorEnum.GREATER_THAN, [3]),
        (JoinComparatorEnum.GREATER_THAN_OR_EQUAL_TO, [2, 3]),
        (JoinComparatorEnum.LESS_THAN, [1]),
        (JoinComparatorEnum.LESS_THAN_OR_EQUAL_TO, [1, 2]),
    ],
)
def test_comparators_and_columns_of_choice(store, reading, flights, comparator, expected):
    store.put("readings", reading("ZZZ", 1, count=2))
    builder = base(store, flights, included_feature_names=["late"]).with_feature_group(
        "readings",
        target_feature_name_in_base="late",
        included_feature_names=["count"],
        feature_name_in_target="count",
        join_comparator=comparator,
    )
    assert builder.to_arrow().schema.names == ["late", "count.1"]
    assert joined(builder) == [(late,) for late in expected]


def test_several_groups(history, flights, make_group, at):
    history.create_feature_group(
        make_group("planes", [("tail", "Integral"), ("time", "String"), ("seats", "Integral")])
    )
    history.put("planes", {"tail": 2, "time": at(1), "seats": 150})
    builder = (
        base(history, flights)
        .with_feature_group("readings", join_type=JoinTypeEnum.LEFT_JOIN)
        .with_feature_group(
            history.describe_feature_group("planes"), "late", join_type=JoinTypeEnum.LEFT_JOIN
        )
        .with_number_of_recent_records_by_record_identifier(1)
    )
    assert joined(builder, "temp.1", "seats.2") == [(2, 3.0, 150), (3, None, None)]


def test_a_group_as_base_and_a_group_that_was_never_written(history, make_group):
    history.create_feature_group(
        make_group("empty", [("station", "String"), ("time", "Fractional"), ("x", "Integral")])
    )
    builder = history.create_dataset(history.describe_feature_group("readings"))
    builder.with_feature_group("empty", join_type=JoinTypeEnum.LEFT_JOIN)
    assert builder.to_arrow()["x.1"].to_pylist() == [None, None]
    assert builder.to_arrow()["x.1"].type == pa.int64()


def test_outputs(history, flights, tmp_path):
    builder = base(history, flights.to_pandas(), output_path=tmp_path / "out")
    builder.with_feature_group("readings")
    frame, query = builder.to_dataframe()
    path, same = builder.to_csv_file()
    assert isinstance(frame, pd.DataFrame)
    assert query == same
    assert query.startswith("WITH fg_base AS")
    assert list(pd.read_csv(path)["temp.1"]) == list(frame["temp.1"]) == [2.5, 3.0, 2.5, 3.0]


def test_event_times_of_a_base_may_be_unix_seconds(history):
    seconds = START.timestamp()
    table = pa.table({"origin": ["JFK"] * 2, "at": [seconds + 29.5, seconds + 30], "late": [1, 2]})
    builder = base(history, table).with_feature_group("readings").point_in_time_accurate_join()
    assert joined(builder, "temp.1") == [(1, 2.5), (2, 2.5), (2, 3.0)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            lambda s, f: base(s, f).point_in_time_accurate_join().to_arrow(),
            "a group to join",
        ),
        (lambda s, f: base(s, f).as_of(START).to_arrow(), "as_of: a table alone"),
        (lambda s, f: base(s, f).include_deleted_records().to_arrow(), "a table alone has none"),
        (lambda s, f: base(s, f).to_csv_file(), "expected an output_path"),
        (lambda s, f: base(s, f).as_of(dt.datetime(2024, 1, 1)), "as_of"),  # noqa: DTZ001
        (lambda s, f: s.create_dataset(f), "needs record_identifier_feature_name"),
        (lambda s, f: base(s, f, included_feature_names=["lat"]), "did you mean 'late'"),
        (lambda s, f: base(s, f).with_feature_group("readings", "origen"), "did you mean 'origin'"),
        (
            lambda s, f: base(s, f).with_feature_group("readings", "late").to_arrow(),
            "the query cannot be run",
        ),
        (
            lambda s, f: base(s, f).with_number_of_recent_records_by_record_identifier(-1),
            "expected 0 or more",
        ),
    ],
)
def test_what_makes_no_sense(history, flights, wrong, words):
    with pytest.raises(InvalidRequest, match=words):
        wrong(history, flights)
    with pytest.raises(FeatureGroupNotFound):
        history.create_dataset("nothing")


# -- random histories -------------------------------------------------------------------------

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from("ab"),
            "_event_time": st.integers(0, 4),
            "api_invocation_time": st.integers(0, 4),
            "write_time": st.integers(0, 4),
            "is_deleted": st.booleans(),
        }
    ),
    max_size=14,
)


def naive(rows, *, duplicated, deleted, start, end, as_of):
    rows = [row for row in rows if as_of is None or row["write_time"] <= as_of]

    def inside(row):
        return (start is None or row["_event_time"] >= start) and (
            end is None or row["_event_time"] <= end
        )

    def version(row):
        return row["_event_time"], row["api_invocation_time"], row["write_time"]

    both = start is not None and end is not None
    kept = []
    for row in rows:
        if row["is_deleted"] or not inside(row):
            continue
        markers = [m for m in rows if m["is_deleted"] and m["id"] == row["id"]]
        if both:
            markers = [m for m in markers if inside(m)]
        if not deleted and any(version(m) >= version(row) for m in markers):
            continue
        kept.append(row)
    if not duplicated:
        newest = {}
        for row in kept:
            place = (row["id"], row["_event_time"])
            if place not in newest or (*version(row), row["value"]) > (
                *version(newest[place]),
                newest[place]["value"],
            ):
                newest[place] = row
        kept = list(newest.values())
    return sorted(row["value"] for row in kept)


@settings(max_examples=40, deadline=None)
@given(
    rows=ROWS,
    duplicated=st.booleans(),
    deleted=st.booleans(),
    start=st.none() | st.integers(0, 4),
    end=st.none() | st.integers(0, 4),
    as_of=st.none() | st.integers(0, 4),
)
def test_the_rows_of_a_group_are_those_of_the_naive_loop(
    make_group, rows, duplicated, deleted, start, end, as_of
):
    group = make_group("g", [("id", "String"), ("t", "Fractional"), ("value", "Integral")])
    rows = [{**row, "value": n, "_sequence": n, "t": None} for n, row in enumerate(rows)]
    schema = offline_schema(group)

    def array(field):
        values = [row.get(field.name) for row in rows]
        if field.type == TIME:
            values = [None if v is None else second(v) for v in values]
        return pa.array(values, field.type)

    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "rows.parquet"))
        pq.write_table(pa.Table.from_arrays([*map(array, schema)], schema=schema), file)
        resolved = Resolved(
            FeatureSelection("g"), group, Snapshot(folder, 0, (file,), tuple(schema.names))
        )
        builder = DatasetBuilder(
            "g",
            describe=lambda name: group,
            run=lambda options, rows: build(options, rows, lambda name: resolved)[0],
        )
        builder.with_event_time_range(
            *(None if moment is None else second(moment) for moment in (start, end))
        )
        if duplicated:
            builder.include_duplicated_records()
        if deleted:
            builder.include_deleted_records()
        if as_of is not None:
            builder.as_of(second(as_of))
        found = sorted(builder.to_arrow()["value"].to_pylist())
    assert found == naive(
        rows, duplicated=duplicated, deleted=deleted, start=start, end=end, as_of=as_of
    )
