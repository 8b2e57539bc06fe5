"""Tables of records go in and come back, embedded and over gRPC."""

from __future__ import annotations

import random
from itertools import product

import pyarrow as pa
import pytest

from featurestore import (
    FeatureGroup,
    FeatureNotFound,
    InvalidRecord,
    InvalidRequest,
    PartitionPosition,
    PositionConflict,
    SourcePosition,
    Ttl,
    TtlUnit,
    feature_definitions,
)
from featurestore.batches import record_batches
from featurestore.record import Put
from featurestore.v1 import record_pb2, runtime_pb2
from featurestore.wire import records_of

NEW_YEAR = "2013-01-01T00:00:00Z"


def visits(identifier: str = "String", **options: object) -> FeatureGroup:
    return FeatureGroup(
        "visits",
        record_identifier="user",
        event_time="at",
        features=feature_definitions(
            [
                ("user", identifier),
                ("at", "String"),
                ("pages", "Integral"),
                ("seconds", "Fractional"),
                ("browser", "String"),
            ]
        ),
        **options,
    )


def table_of(users: list[object], at: str = NEW_YEAR) -> pa.Table:
    draw = random.Random(len(users))
    return pa.table(
        {
            "user": pa.array(users),
            "at": [at] * len(users),
            "pages": pa.array([draw.choice([None, 1, 300]) for _ in users], pa.int64()),
            "seconds": pa.array([draw.choice([None, 1.5]) for _ in users], pa.float64()),
            "browser": pa.array([draw.choice(["é" * 70, "", None]) for _ in users], pa.string()),
        }
    )


def test_what_is_put_is_what_is_got(store):
    store.create_feature_group(visits())
    table = table_of([f"user-{n}" for n in range(5_000)])
    assert store.put_table("visits", table).rows == 5_000
    asked = [f"user-{n}" for n in random.Random(1).sample(range(5_000), 3_500)]
    got = store.get_table("visits", asked)
    assert got.schema == table.schema
    rows = dict(zip(table["user"].to_pylist(), table.to_pylist(), strict=True))
    assert got.to_pylist() == [rows[user] for user in asked]
    assert store.flush()["visits"].records == 5_000
    assert store.verify("visits").equal


def test_rows_are_as_many_as_asked_and_in_order(store):
    store.create_feature_group(visits())
    store.put_table("visits", table_of(["a", "b", "c"]))
    store.delete("visits", "b", event_time="2013-01-02T00:00:00Z")
    got = store.get_table("visits", pa.array(["nobody", "c", "b", "a", "c", "nobody"]))
    assert got["user"].to_pylist() == ["nobody", "c", "b", "a", "c", "nobody"]
    assert got["at"].to_pylist() == [None, NEW_YEAR, None, NEW_YEAR, NEW_YEAR, None]
    assert got["pages"][1] == got["pages"][4]
    assert got["seconds"].type == pa.float64()


def test_columns_are_those_asked_for(store):
    store.create_feature_group(visits())
    store.put_table("visits", table_of(["a"]))
    got = store.get_table("visits", ["a", "b"], features=["browser", "user"])
    assert got.column_names == ["browser", "user"]
    assert got["user"].to_pylist() == ["a", "b"]
    assert store.get_table("visits", [], features=["pages"]).schema == pa.schema(
        [("pages", pa.int64())]
    )
    with pytest.raises(FeatureNotFound, match="did you mean 'pages'"):
        store.get_table("visits", ["a"], features=["page"])


@pytest.mark.parametrize(
    ("kind", "users", "asked", "named"),
    [
        ("Integral", [1, -5, 2**62], ["1", -5.0, 2**62, 7], [1, -5, 2**62, 7]),
        ("Fractional", [0.5, -0.0, 1e300], [0.5, 0, "1e300"], [0.5, 0.0, 1e300]),
    ],
)
def test_identifiers_that_are_numbers(store, kind, users, asked, named):
    store.create_feature_group(visits(kind))
    assert store.put_table("visits", table_of(users)).rows == len(users)
    got = store.get_table("visits", asked)
    assert got["user"].to_pylist() == named
    assert got["at"].null_count == len(asked) - len(users)


def test_an_identifier_without_a_form_is_refused(store):
    store.create_feature_group(visits("Integral"))
    for identifier in (None, "x", 1.5):
        with pytest.raises(InvalidRecord):
            store.get_table("visits", [1, identifier])


def test_a_group_without_an_online_store_has_nothing_to_get(store):
    store.create_feature_group(visits(online=False))
    store.put_table("visits", table_of(["a"]))
    for asked in ([], ["a"]):
        with pytest.raises(InvalidRequest, match="no online store"):
            store.get_table("visits", asked)


def test_expired_records_are_nulls(store):
    store.create_feature_group(visits(ttl=Ttl(TtlUnit.DAYS, 1)))
    store.put_table("visits", table_of(["old"]))
    assert store.get_table("visits", ["old"])["at"].to_pylist() == [None]
    assert store.flush()["visits"].records == 1


def test_a_ttl_without_end_and_one_beyond_all_times(store):
    store.create_feature_group(visits(ttl=Ttl(TtlUnit.WEEKS, 10**9)))
    store.put_table("visits", table_of(["kept"]))
    assert store.get_table("visits", ["kept"])["at"].to_pylist() == [NEW_YEAR]


def test_many_versions_of_one_identifier_leave_the_newest(store):
    store.create_feature_group(visits())
    days = [3, 1, 9, 9, 2]
    table = pa.table(
        {
            "user": ["a"] * 5,
            "at": [f"2013-01-{day:02d}T00:00:00Z" for day in days],
            "pages": [1, 2, 3, 4, 5],
        }
    )
    assert store.put_table("visits", table).rows == 5
    assert store.get_table("visits", ["a"])["pages"].to_pylist() == [4]
    assert store.flush()["visits"].records == 5
    assert store.verify("visits").equal


def test_refused_rows_of_several_calls_keep_their_numbers(store):
    store.create_feature_group(visits())
    users = [f"user-{n}" for n in range(4_500)]
    bad = [0, 1_999, 2_000, 4_499]
    times = [NEW_YEAR] * 4_500
    for row in bad:
        times[row] = "yesterday"
    times[3] = "2999-01-01T00:00:00Z"  # in the future: by the clock of the store
    result = store.put_table("visits", pa.table({"user": users, "at": times}))
    assert [error.index for error in result.errors] == sorted([*bad, 3])
    assert result.rows == 4_500 - 5
    assert all(f"(row {error.index})" in error.message for error in result.errors)


def test_a_large_table_with_a_position_is_one_transaction(store):
    store.create_feature_group(visits())
    table = table_of([f"user-{n}" for n in range(11_000)] + [None])
    position = SourcePosition("file", (PartitionPosition("0", 0, 11_001),))
    result = store.put_table("visits", table, position=position)
    assert (result.rows, [error.index for error in result.errors]) == (11_000, [11_000])
    assert store.source_position("file") == {"0": 11_001}
    with pytest.raises(PositionConflict):
        store.put_table("visits", table, position=position)
    assert store.flush()["visits"].records == 11_000
    assert store.verify("visits").equal


def test_a_batch_of_many_records_is_answered_as_one_of_few(store):
    """A server checks many records at once where they are alike, and each by itself else."""
    store.create_feature_group(visits())
    records = [{"user": f"user-{n}", "at": NEW_YEAR, "pages": n} for n in range(150)]
    records[70]["pages"] = "many"
    records[71]["pages"] = "71"  # a number all the same
    records[72]["at"] = "2999-01-01T00:00:00Z"
    for ttls in ([None], [None, Ttl(TtlUnit.WEEKS, 5000)]):
        entries = [
            Put("visits", record, ttl=ttls[place % len(ttls)])
            for place, record in enumerate(records)
        ]
        errors = store.batch_write(entries)
        assert [error.index for error in errors] == [70, 72]
        assert errors[0].message == (
            "visits.pages: expected Integral, got 'many' (record 71 of 150)"
        )
    got = store.get_table("visits", ["user-71", "user-149", "user-70"], features=["pages"])
    assert got["pages"].to_pylist() == [71, 149, None]


def test_a_batch_is_taken_apart_as_the_parser_does():
    record = record_pb2.Record()
    request = runtime_pb2.BatchWriteRecordRequest()
    for size in (0, 1, 100, 200, 17_000, 300_000):
        entry = request.entries.add(feature_group_name="visits")
        entry.record.values.add(feature_name="browser").value.string_value = "x" * size
    request.entries.add(feature_group_name="visits", record=record)  # an empty one
    request.ttl_duration.value = 5
    request.position.source = "file"
    wanted = [entry.record.SerializeToString() for entry in request.entries]
    assert records_of(request) == ("visits", wanted)

    def changed(**fields: object) -> runtime_pb2.BatchWriteRecordRequest:
        other = runtime_pb2.BatchWriteRecordRequest.FromString(request.SerializeToString())
        other.entries.add(**{"feature_group_name": "visits", "record": record} | fields)
        return other

    assert records_of(changed()) == ("visits", [*wanted, b""])
    assert records_of(changed(feature_group_name="others")) is None
    assert records_of(changed(feature_group_name="visit")) is None
    assert records_of(changed(record=None)) is None
    assert records_of(changed(target_stores=[record_pb2.ONLINE_STORE])) is None
    assert records_of(changed(ttl_duration=record_pb2.TtlDuration(value=1))) is None


def test_columns_without_a_name_for_rows_are_rows_without_an_identifier(store):
    store.create_feature_group(visits())
    result = store.put_table("visits", table_of(["a", "b"]).select([]))
    assert (result.rows, [error.index for error in result.errors]) == (0, [0, 1])
    assert "the record identifier is missing" in result.errors[0].message


def test_batches_are_cut_and_joined():
    table = pa.table({"n": list(range(100)), "text": ["x" * 10] * 100})
    for chunk, rows, size in product((1, 7, 100), (1, 10, 1000), (40, 500, 10**6)):
        batches = list(record_batches(table.to_reader(chunk), rows, size))
        assert pa.Table.from_batches(batches).equals(table)
        assert all(len(batch) <= rows for batch in batches)
        assert all(batch.nbytes <= size + 64 or len(batch) == 1 for batch in batches)
    assert len(list(record_batches(table.to_reader(1), 1000))) == 1
    assert list(record_batches(table.slice(0, 0))) == []
