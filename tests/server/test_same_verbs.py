"""One store or the other: every verb and every error is the same embedded and over gRPC."""

from __future__ import annotations

import datetime as dt
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from featurestore import (
    Delete,
    FeatureGroup,
    FeatureGroupExists,
    FeatureGroupNotFound,
    FeatureNotFound,
    FeatureSelection,
    Get,
    InvalidFeatureGroup,
    InvalidRecord,
    InvalidRequest,
    InvalidSpine,
    PartitionPosition,
    PositionConflict,
    Put,
    SourcePosition,
    StoreUnavailable,
    Ttl,
    TtlUnit,
    check_batch,
    feature_definitions,
)

NEW_YEAR = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
MOMENT = pa.timestamp("us", "UTC")


@pytest.fixture
def filled(store, weather, reading):
    """Each kind of store with four readings of two airports, at 06:00 and 07:00."""
    store.create_feature_group(weather)
    for origin in ("JFK", "EWR"):
        store.put("weather", reading(origin, 6, temp=39.0))
        store.put("weather", reading(origin, 7, temp=41.5))
    return store


class TestFeatureGroups:
    def test_a_group_is_created_described_and_listed(self, store, weather):
        made = store.create_feature_group(weather)

        assert made.group == weather
        assert made.version == 1
        assert made.offline_uri.endswith("offline/weather")
        assert abs(made.created - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
        assert store.describe("weather") == made
        assert store.describe_feature_group("weather") == weather
        assert store.list_feature_groups() == [made]
        assert store.offline_uri("weather") == made.offline_uri

    def test_every_member_of_a_definition_arrives(self, store, weather):
        definition = replace(
            weather,
            name="everything",
            offline=False,
            ttl=Ttl(TtlUnit.DAYS, 3),
            description="é ✓",
            tags={"a": "1", "b": ""},
        )

        made = store.create_feature_group(definition)

        assert made.group == definition
        assert made.offline_uri == ""
        assert store.describe("everything") == made

    def test_groups_are_listed_by_name_beyond_one_page(self, store, weather):
        names = [f"g{number:03d}" for number in range(130)]
        for name in reversed(names):
            store.create_feature_group(replace(weather, name=name))

        assert [entry.group.name for entry in store.list_feature_groups()] == names
        assert [e.group.name for e in store.list_feature_groups(name_contains="12")] == [
            "g012",
            "g112",
            *(f"g12{number}" for number in range(10)),
        ]
        assert store.list_feature_groups(name_contains="weather") == []

    def test_features_are_added_and_old_records_read_back_without_them(
        self, filled, weather, reading
    ):
        changed = filled.add_features("weather", feature_definitions([("visib", "Fractional")]))

        assert changed.version == 2
        assert changed.group.feature_names == (*weather.feature_names, "visib")
        assert filled.get("weather", "JFK") == reading("JFK", 7, temp=41.5)
        filled.put("weather", reading("JFK", 8, visib=10.0))
        assert filled.get("weather", "JFK")["visib"] == 10.0

    def test_the_ttl_is_set_and_removed(self, filled, reading):
        assert filled.set_ttl("weather", Ttl(TtlUnit.HOURS, 1)).group.ttl == Ttl(TtlUnit.HOURS, 1)

        filled.put("weather", reading("JFK", 8))
        assert filled.get("weather", "JFK") is None, "2013 is more than an hour ago"
        assert filled.set_ttl("weather", None).group.ttl is None
        filled.put("weather", reading("JFK", 9))
        assert filled.get("weather", "JFK") == reading("JFK", 9)

    def test_a_deleted_group_is_gone_and_its_table_stays(self, filled, weather):
        uri = filled.offline_uri("weather")

        filled.delete_feature_group("weather")

        assert filled.list_feature_groups() == []
        with pytest.raises(FeatureGroupNotFound):
            filled.get("weather", "JFK")
        made = filled.create_feature_group(weather)
        assert made.offline_uri != uri
        assert filled.get("weather", "JFK") is None
        assert pa.table(_delta(uri)).num_rows == 4


class TestRecords:
    def test_a_record_is_put_and_read_back_with_its_types(self, record_store, reading):
        record_store.put("weather", reading(temp=40, wind=3.0))

        found = record_store.get("weather", "JFK")

        assert found == reading(temp=40.0, wind=3)
        assert [type(value) for value in found.values()] == [str, str, float, int]

    def test_values_of_numpy_and_decimal_are_taken(self, record_store, reading):
        record_store.put("weather", reading(temp=np.float32(0.5), wind=np.int16(-3)))
        assert record_store.get("weather", "JFK") == reading(temp=0.5, wind=-3)

        record_store.put("weather", reading(temp=Decimal("0.1"), wind=Decimal("4")))
        assert record_store.get("weather", "JFK") == reading(temp=0.1, wind=4)

    def test_nulls_are_absent(self, record_store, reading):
        record_store.put("weather", reading(temp=None, wind=float("nan")))

        assert record_store.get("weather", "JFK") == {
            "origin": "JFK",
            "hour": "2013-01-01T06:00:00Z",
        }

    def test_numbers_as_text_are_taken_as_declared(self, record_store, reading):
        record_store.put("weather", reading(temp="39", wind="7.0"))

        assert record_store.get("weather", "JFK") == reading()

    @pytest.mark.parametrize(
        ("temp", "wind"),
        [
            (5e-324, -(2**63)),
            (1.7976931348623157e308, 2**63 - 1),
            (-0.0, 0),
            (float("inf"), 1),
        ],
    )
    def test_values_at_the_edges_are_kept_exactly(self, record_store, reading, temp, wind):
        record_store.put("weather", reading(temp=temp, wind=wind))

        found = record_store.get("weather", "JFK")

        assert (repr(found["temp"]), found["wind"]) == (repr(temp), wind)

    def test_a_whole_number_beyond_64_bits_is_a_fractional_value(self, record_store, reading):
        record_store.put("weather", reading(temp=2**70))

        assert record_store.get("weather", "JFK")["temp"] == float(2**70)

    @pytest.mark.parametrize("identifier", ["", " ", "é", "a\x00b", "日本", "a/b?c=d", "x" * 2048])
    def test_identifiers_of_any_text_but_the_empty_one(self, record_store, reading, identifier):
        if not identifier:
            with pytest.raises(InvalidRecord):
                record_store.put("weather", reading(identifier))
            return
        record_store.put("weather", reading(identifier))

        assert record_store.get("weather", identifier) == reading(identifier)
        assert list(record_store.records("weather")) == [identifier]

    def test_an_event_time_may_be_a_datetime(self, record_store, reading):
        record_store.put("weather", reading(hour=0) | {"hour": NEW_YEAR})

        assert record_store.get("weather", "JFK")["hour"] == "2013-01-01T00:00:00Z"

    def test_features_are_selected(self, record_store, reading):
        record_store.put("weather", reading())

        assert record_store.get("weather", "JFK", features=("wind", "temp")) == {
            "temp": 39.0,
            "wind": 7,
        }

    def test_a_missing_record_is_none(self, record_store):
        assert record_store.get("weather", "LGA") is None

    def test_an_older_record_does_not_replace_a_newer_one(self, record_store, reading):
        record_store.put("weather", reading(hour=7))
        record_store.put("weather", reading(hour=6, temp=0.0))

        assert record_store.get("weather", "JFK") == reading(hour=7)
        assert record_store.flush("weather")["weather"].records == 2

    def test_a_put_may_go_to_one_store_only(self, record_store, reading):
        record_store.put("weather", reading("JFK"), stores=("OnlineStore",))
        record_store.put("weather", reading("EWR"), stores=("OfflineStore",))

        assert record_store.get("weather", "JFK") is not None
        assert record_store.get("weather", "EWR") is None
        assert record_store.flush("weather")["weather"].records == 1

    def test_a_ttl_of_the_record_counts_from_its_event_time(self, record_store, reading):
        record_store.put("weather", reading("JFK"), ttl=Ttl(TtlUnit.SECONDS, 1))
        record_store.put("weather", reading("EWR"), ttl=Ttl(TtlUnit.WEEKS, 52_000))

        assert record_store.get("weather", "JFK") is None
        assert record_store.get("weather", "EWR") == reading("EWR")

    def test_many_are_read_in_the_order_asked(self, record_store, weather, reading):
        record_store.create_feature_group(replace(weather, name="other"))
        for origin in ("JFK", "EWR", "LGA"):
            record_store.put("weather", reading(origin))
        record_store.put("other", reading("JFK", temp=1.0))

        found = record_store.batch_get(
            [
                Get("weather", ["LGA", "missing", "JFK"], ("temp",)),
                Get("other", ["JFK", "EWR"]),
                Get("weather", ["LGA"]),
            ]
        )

        assert [(entry.group, entry.identifier, entry.record) for entry in found] == [
            ("weather", "LGA", {"temp": 39.0}),
            ("weather", "JFK", {"temp": 39.0}),
            ("other", "JFK", reading("JFK", temp=1.0)),
            ("weather", "LGA", reading("LGA")),
        ]
        assert record_store.batch_get([]) == []

    def test_deletes_hide_or_remove_a_record(self, record_store, reading):
        for origin in ("JFK", "EWR", "LGA"):
            record_store.put("weather", reading(origin))

        record_store.delete("weather", "JFK", event_time="2013-01-01T07:00:00Z")
        record_store.delete("weather", "EWR", event_time=NEW_YEAR.replace(hour=7), hard=True)
        record_store.delete("weather", "LGA", event_time="2013-01-01T05:00:00Z")

        assert record_store.get("weather", "JFK") is None
        assert record_store.get("weather", "EWR") is None
        assert record_store.get("weather", "LGA") is not None, "the delete was not later"
        record_store.put("weather", reading("JFK", 6))
        assert record_store.get("weather", "JFK") is None, "a late put brings nothing back"
        assert list(record_store.records("weather")) == ["LGA"]
        assert list(record_store.records("weather", include_soft_deleted=True)) == ["JFK", "LGA"]
        assert record_store.flush("weather")["weather"].records == 7

    def test_identifiers_are_listed_in_order_beyond_one_page(self, record_store, reading):
        names = [f"{number:05d}" for number in range(2500)]
        errors = record_store.batch_write([Put("weather", reading(name)) for name in names])

        assert errors == []
        assert list(record_store.records("weather")) == names

    @pytest.mark.parametrize(
        ("kind", "identifiers"),
        [
            ("Integral", [17, "17", 17.0, "17.0", np.int64(17), np.float64(17), Decimal(17)]),
            ("Fractional", [2.5, "2.5", np.float64(2.5), np.float32(2.5), Decimal("2.5")]),
        ],
    )
    def test_one_number_is_one_identifier_however_it_is_written(
        self, record_store, kind, identifiers
    ):
        record_store.create_feature_group(_numbered(kind))
        for second, identifier in enumerate(identifiers):
            record_store.put("numbered", {"id": identifier, "at": float(second)})

        assert len(list(record_store.records("numbered"))) == 1
        for identifier in identifiers:
            found = record_store.get("numbered", identifier)
            assert found == {"id": float(identifiers[1]), "at": float(len(identifiers) - 1)}
            assert len(record_store.batch_get([Get("numbered", [identifier])])) == 1
        record_store.delete("numbered", identifiers[-1], event_time=100)
        assert record_store.get("numbered", identifiers[0]) is None

    def test_an_event_time_in_seconds_may_be_given_as_a_datetime(self, record_store):
        record_store.create_feature_group(_numbered("Integral"))
        record_store.put("numbered", {"id": 1, "at": NEW_YEAR})
        assert record_store.get("numbered", 1) == {"id": 1, "at": NEW_YEAR.timestamp()}

        record_store.delete("numbered", 1, event_time=NEW_YEAR + dt.timedelta(seconds=1))
        assert record_store.get("numbered", 1) is None


class TestBatches:
    def test_good_records_are_stored_and_bad_ones_are_named(self, record_store, reading):
        errors = record_store.batch_write(
            [
                Put("weather", reading("JFK")),
                Put("weather", reading("EWR", temp="warm")),
                Put("wether", reading("EWR")),
                Put("weather", reading("LGA", tmp=1.0)),
                Put("weather", reading("LGA", wind=[7])),
                Put("weather", reading("LGA")),
                Put("weather", reading("EWR", temp=None) | {"origin": None}),
                Put("weather", "JFK"),
            ]
        )

        assert [(error.index, error.code) for error in errors] == [
            (1, "InvalidRecord"),
            (2, "FeatureGroupNotFound"),
            (3, "InvalidRecord"),
            (4, "InvalidRecord"),
            (6, "InvalidRecord"),
            (7, "InvalidRecord"),
        ]
        assert "weather.temp: expected Fractional, got 'warm' (record 2 of 8)" in errors[0].message
        assert "did you mean 'weather'? (record 3 of 8)" in errors[1].message
        assert "weather.tmp" in errors[2].message
        assert "did you mean 'temp'?" in errors[2].message
        assert errors[3].message.startswith("weather.wind: expected ")
        assert errors[3].message.endswith("got [7] (record 5 of 8)")
        assert errors[4].message.startswith("weather.origin: the record identifier is missing")
        assert errors[5].message.endswith("got str (record 8 of 8)")
        assert list(record_store.records("weather")) == ["JFK", "LGA"]

    def test_entries_have_their_own_ttl_and_stores(self, record_store, reading):
        errors = record_store.batch_write(
            [
                Put("weather", reading("JFK"), ttl=Ttl(TtlUnit.SECONDS, 1)),
                Put("weather", reading("EWR"), stores=("OfflineStore",)),
                Put("weather", reading("LGA"), stores=("NoStore",)),
                Put("weather", reading("LGA"), stores=("OnlineStore", "OfflineStore")),
            ]
        )

        assert [(error.index, "NoStore" in error.message) for error in errors] == [(2, True)]
        assert [e.identifier for e in record_store.batch_get([_all_three()])] == ["LGA"]
        assert record_store.flush()["weather"].records == 3

    def test_a_batch_deletes_as_well(self, record_store, reading):
        record_store.put("weather", reading("JFK", 5))
        at = reading("JFK", 6)["hour"]

        errors = record_store.batch_write(
            [
                Put("weather", reading("EWR", 6)),
                Delete("weather", "JFK", at),
                Put("weather", reading("LGA", 6)),
                Delete("weather", "LGA", reading("LGA", 7)["hour"]),
                Delete("weather", "EWR", at),
                Put("weather", reading("LGA", 6, temp=1.0)),
                Delete("weather", "LGA", "yesterday"),
                Delete("wether", "LGA", at),
                Delete("weather", "EWR", reading("EWR", 5)["hour"]),
            ]
        )

        assert [(error.index, error.code) for error in errors] == [
            (6, "InvalidRecord"),
            (7, "FeatureGroupNotFound"),
        ]
        assert [e.identifier for e in record_store.batch_get([_all_three()])] == ["EWR"]
        assert sorted(record_store.records("weather", include_soft_deleted=True)) == [
            "EWR",
            "JFK",
            "LGA",
        ]
        assert record_store.flush()["weather"].records == 8

    def test_a_checked_batch_is_stored_like_its_entries(self, record_store, weather, reading):
        group = weather
        at = reading("A3", 7)["hour"]
        entries = [reading(f"A{number}", 6) for number in range(40)]
        entries[3:5] = [{**entries[3], "temp": "1.5"}, {**entries[4], "temp": "warm"}]
        entries[6:6] = [Delete("weather", "A3", at), Delete("weather", "A4", "yesterday")]
        checked = check_batch(group, entries)
        assert [(number, type(error)) for number, error in checked.refused] == [
            (4, InvalidRecord),
            (7, InvalidRecord),
        ]

        assert record_store.put_checked(checked) == []

        found = set(record_store.records("weather"))
        assert found == {f"A{number}" for number in range(40)} - {"A3", "A4"}
        assert record_store.get("weather", "A5") == reading("A5", 6)
        assert record_store.flush()["weather"].records == 40
        with pytest.raises(InvalidRequest, match="got none"):
            record_store.put_checked(check_batch(group, []))

    def test_a_checked_batch_moves_its_position_with_it(self, store, weather, reading):
        store.create_feature_group(weather)
        checked = check_batch(
            weather, [reading("JFK"), Delete("weather", "EWR", reading()["hour"])]
        )
        store.put_checked(checked, position=_position(0, 2))
        assert store.source_position("topic") == {"0": 2}
        with pytest.raises(PositionConflict):
            store.put_checked(checked, position=_position(0, 2))
        assert store.flush()["weather"].records == 2

    def test_a_batch_checked_against_an_older_group_is_checked_again(self, store, weather, reading):
        store.create_feature_group(weather)
        entries = [reading(f"A{number}") for number in range(20)]
        checked = check_batch(weather, entries)
        store.add_features("weather", feature_definitions([("dew", "Fractional")]))
        assert store.put_checked(checked) == []
        store.delete_feature_group("weather")
        store.create_feature_group(
            replace(
                weather, features=feature_definitions([("origin", "String"), ("hour", "String")])
            )
        )
        errors = store.put_checked(checked)
        assert [error.index for error in errors] == list(range(20))
        assert "temp" in errors[0].message
        assert store.get("weather", "A1") is None

    def test_a_position_is_stored_with_the_records(self, record_store, reading):
        assert record_store.source_position("topic") == {}

        record_store.batch_write([Put("weather", reading())], position=_position(0, 5))
        assert record_store.source_position("topic") == {"0": 5}
        record_store.batch_write([], position=_position(5, 9))
        assert record_store.source_position("topic") == {"0": 9}

    def test_a_position_that_stands_elsewhere_refuses_the_whole_batch(self, record_store, reading):
        record_store.batch_write([Put("weather", reading("JFK"))], position=_position(0, 5))

        with pytest.raises(PositionConflict) as caught:
            record_store.batch_write([Put("weather", reading("EWR"))], position=_position(3, 8))

        assert caught.value.stored == {"0": 5}
        assert caught.value.source == "topic"
        assert record_store.get("weather", "EWR") is None
        assert record_store.source_position("topic") == {"0": 5}

    def test_a_source_is_moved_by_compare_and_set_and_lineage_says_so(self, record_store, reading):
        record_store.batch_write([Put("weather", reading())], position=_position(0, 5))

        moved = record_store.move_source("topic", {"0": 2, "1": 7}, expected={"0": 5})

        assert moved == {"0": 2, "1": 7}
        with pytest.raises(PositionConflict) as caught:
            record_store.move_source("topic", {"0": 0}, expected={"0": 5})
        assert caught.value.stored == {"0": 2, "1": 7}
        with pytest.raises(PositionConflict, match="but it has none"):
            record_store.move_source("topic", {"9": 0}, expected={"9": 5})
        with pytest.raises(PositionConflict):  # a batch that was read before the move
            record_store.batch_write([Put("weather", reading("EWR"))], position=_position(5, 6))

        assert record_store.source_position("topic") == {"0": 2, "1": 7}
        assert record_store.get("weather", "EWR") is None
        done = [seek for seek in record_store.graph.find(type="Seek") if seek.state == "Completed"]
        assert [seek.properties["source"] for seek in done] == ["topic"]
        assert done[0].properties["moved"] == {
            "0": {"from": 5, "to": 2},
            "1": {"from": None, "to": 7},
        }

    def test_a_batch_of_bad_records_still_moves_its_position(self, store, weather, reading):
        store.create_feature_group(weather)

        errors = store.batch_write(
            [Put("weather", reading(temp="warm")), Put("weather", reading(wind={}))],
            position=_position(0, 2),
        )

        assert [error.index for error in errors] == [0, 1]
        assert store.source_position("topic") == {"0": 2}


class TestTables:
    def test_rows_are_put_and_refused_ones_are_named_by_their_number(self, store, weather):
        store.create_feature_group(weather)
        rows = 7_000
        temps = [
            None if row == 3 else "warm" if row in (2, 2500, 6999) else row for row in range(rows)
        ]
        seen = []

        result = store.put_table(
            "weather",
            pa.table(
                {
                    "origin": [f"{row:05d}" for row in range(rows)],
                    "hour": pa.array([NEW_YEAR] * rows, MOMENT),
                    "temp": [None if temp is None else str(temp) for temp in temps],
                }
            ),
            on_progress=seen.append,
        )

        assert result.rows == rows - 3
        assert [error.index for error in result.errors] == [2, 2500, 6999]
        assert {error.code for error in result.errors} == {"InvalidRecord"}
        assert result.errors[1].message == (
            "weather.temp: expected Fractional, got 'warm' (row 2500)"
        )
        assert seen == sorted(seen)
        assert seen[-1] == rows
        assert len(list(store.records("weather"))) == rows - 3
        assert store.get("weather", "00003") == {"origin": "00003", "hour": "2013-01-01T00:00:00Z"}

    @pytest.mark.parametrize(
        "column", [[True], [[1.0]], [b"7"], [{"a": 1}], [dt.date(2013, 1, 1)]], ids=repr
    )
    def test_a_row_whose_value_has_no_form_is_refused_and_others_are_stored(
        self, store, weather, reading, column
    ):
        store.create_feature_group(weather)
        hours = pa.array([NEW_YEAR] * 2, MOMENT)
        values = pa.array([None, *column])

        result = store.put_table(
            "weather", pa.table({"origin": ["JFK", "EWR"], "hour": hours, "wind": values})
        )

        assert result.rows == 1
        assert [(e.index, e.code) for e in result.errors] == [(1, "InvalidRecord")]
        assert result.errors[0].message.startswith("weather.wind: expected ")
        assert result.errors[0].message.endswith(" (row 1)")
        assert list(store.records("weather")) == ["JFK"]

    def test_a_reader_with_a_position_is_one_transaction(self, store, weather):
        store.create_feature_group(weather)
        table = pa.table({"origin": ["JFK", "EWR"], "hour": pa.array([NEW_YEAR] * 2, MOMENT)})

        result = store.put_table("weather", table.to_reader(1), position=_position(0, 2))

        assert (result.rows, result.errors) == (2, [])
        assert store.source_position("topic") == {"0": 2}
        with pytest.raises(PositionConflict):
            store.put_table("weather", table, position=_position(0, 2))
        assert store.flush()["weather"].records == 2

    def test_pandas_and_record_batches_are_tables_too(self, store, weather):
        store.create_feature_group(weather)
        table = pa.table(
            {"origin": ["JFK"], "hour": pa.array([NEW_YEAR], pa.timestamp("ns", "UTC"))}
        )

        for form in (table.to_pandas(), table.to_batches()[0]):
            assert store.put_table("weather", form).rows == 1


class TestLargeTables:
    def test_rows_that_are_too_many_for_one_message_go_in_several(self, remote, weather):
        remote.create_feature_group(weather)
        rows = 200  # 340 kB each: together more than one message may have

        result = remote.put_table(
            "weather",
            pa.table(
                {
                    "origin": [str(row) for row in range(rows)],
                    "hour": pa.array([NEW_YEAR] * rows, MOMENT),
                    "note": ["x" * 340_000] * rows,
                }
            ),
        )

        assert (result.rows, result.errors) == (rows, [])

    def test_a_message_that_is_too_large_is_the_callers_error(self, remote, weather, reading):
        remote.create_feature_group(weather)
        large = Put("weather", reading(note="x" * 340_000))

        with pytest.raises(InvalidRequest, match=r"larger than 64 MiB.*fewer records in a call"):
            remote.batch_write([large] * 200)


class TestOffline:
    def test_a_flush_says_what_it_did(self, store, weather, reading):
        store.create_feature_group(weather)
        assert (store.flush()["weather"].records, store.flush()["weather"].version) == (0, None)

        store.put("weather", reading())

        first, second = store.flush("weather")["weather"], store.flush()["weather"]
        assert (first.records, first.version) == (1, 0)
        assert (second.records, second.version) == (0, 0)

    def test_verification_flushes_and_compares(self, filled):
        report = filled.verify("weather")

        assert (report.equal, report.online, report.offline) == (True, 2, 2)
        assert report.differences == ()

    def test_verification_names_each_difference(self, filled, reading):
        filled.put("weather", reading("LGA"), stores=("OnlineStore",))
        filled.put("weather", reading("BOS"), stores=("OfflineStore",))
        filled.put("weather", reading("JFK", 8, temp=1.0), stores=("OnlineStore",))

        report = filled.verify("weather")

        assert (report.equal, report.online, report.offline) == (False, 3, 3)
        assert [(d.identifier, d.reason.split(":")[0]) for d in report.differences] == [
            ("BOS", "only in the offline store"),
            ("JFK", "event time"),
            ("LGA", "only in the online store"),
        ]

    def test_a_dataset_has_what_was_known(self, filled):
        spine = _spine(
            [("JFK", 5, 59), ("JFK", 6, 0), ("LGA", 9, 0), ("EWR", 6, 59), ("EWR", 8, 0)]
        )

        dataset = filled.dataset(spine, [filled.group("weather")["temp"], "weather[wind]"])

        assert dataset.table["temp"].to_pylist() == [None, 39.0, None, 39.0, 41.5]
        assert dataset.table.schema.names == ["origin", "event_time", "temp", "wind"]
        assert len(dataset) == 5
        assert dataset.versions == {"weather": 0}
        assert dataset.manifest["lineage"]["uid"]

    def test_a_dataset_as_of_a_time_sees_what_was_written_then(self, filled, reading):
        filled.flush()
        before = dt.datetime.now(dt.UTC)
        filled.put("weather", reading("JFK", 6, temp=0.0))

        spine = _spine([("JFK", 6, 30)])
        then = filled.dataset(spine, ["weather[temp]"], as_of=before)
        now = filled.dataset(spine, ["weather[temp]"])

        assert then.table["temp"].to_pylist() == [39.0]
        assert now.table["temp"].to_pylist() == [0.0]
        assert then.fingerprint != now.fingerprint

    def test_a_spine_may_be_a_file(self, filled, tmp_path):
        path = tmp_path / "spine.csv"
        path.write_text("origin,event_time\nJFK,2013-01-01T06:30:00Z\n")

        assert filled.dataset(path, "weather[temp]").table["temp"].to_pylist() == [39.0]

    def test_selections_keep_key_prefix_and_lookback(self, filled):
        spine = _spine([("JFK", 6, 30), ("JFK", 8, 30)]).rename_columns(["airport", "at"])
        selection = (
            FeatureSelection("weather", ("temp",))
            .with_key("airport")
            .with_prefix("w_")
            .with_lookback(dt.timedelta(hours=1))
        )

        dataset = filled.dataset(spine, [selection], time="at")

        assert dataset.table["w_temp"].to_pylist() == [39.0, None]

    def test_the_graph_knows_the_dataset(self, filled):
        dataset = filled.dataset(_spine([("JFK", 7, 0)]), ["weather"])

        found = filled.graph.query(dataset.manifest["lineage"]["uid"], "ascendants")

        assert {"FeatureGroup", "FeatureGroupVersion", "Spine"} <= {e.type for e in found.entities}
        assert filled.graph.verify().intact


def test_a_dataset_over_grpc_equals_the_embedded_one(server, remote, weather, reading):
    remote.create_feature_group(weather)
    remote.put("weather", reading("JFK", 6))
    remote.put("weather", reading("JFK", 7, temp=None))
    spine = _spine([("JFK", hour, minute) for hour in range(5, 9) for minute in range(0, 60, 7)])

    over_grpc = remote.dataset(spine, ["weather"])
    here = server.store.dataset(spine, ["weather"])

    assert over_grpc.fingerprint == here.fingerprint
    assert over_grpc.table.equals(here.table, check_metadata=True)
    assert over_grpc.manifest == here.manifest


# -- errors -----------------------------------------------------------------------------------

ERRORS = {
    # Nothing of this name.
    "put: unknown group": (
        lambda s, r: s.put("wether", r()),
        FeatureGroupNotFound,
        "feature group 'wether' does not exist; did you mean 'weather'?",
    ),
    "get: unknown group": (lambda s, r: s.get("wether", "JFK"), FeatureGroupNotFound, "'wether'"),
    "batch_get: unknown group": (
        lambda s, r: s.batch_get([Get("weather", ["JFK"]), Get("wether", ["JFK"])]),
        FeatureGroupNotFound,
        "'wether'",
    ),
    "delete: unknown group": (
        lambda s, r: s.delete("wether", "JFK", event_time="2013-01-01T07:00:00Z"),
        FeatureGroupNotFound,
        "'wether'",
    ),
    "records: unknown group": (
        lambda s, r: list(s.records("wether")),
        FeatureGroupNotFound,
        "'wether'",
    ),
    "describe: unknown group": (lambda s, r: s.describe("wether"), FeatureGroupNotFound, "weather"),
    "flush: unknown group": (lambda s, r: s.flush("wether"), FeatureGroupNotFound, "weather"),
    "put: unknown feature": (
        lambda s, r: s.put("weather", r(tmp=1.0)),
        InvalidRecord,
        "weather.tmp: no such feature in the group; did you mean 'temp'?",
    ),
    "get: unknown feature": (
        lambda s, r: s.get("weather", "JFK", features=("tmp",)),
        FeatureNotFound,
        "feature group 'weather' has no feature 'tmp'; did you mean 'temp'?",
    ),
    # Records that do not fit.
    "put: text for Fractional": (
        lambda s, r: s.put("weather", r(temp="warm")),
        InvalidRecord,
        "weather.temp: expected Fractional, got 'warm'",
    ),
    "put: a fraction for Integral": (
        lambda s, r: s.put("weather", r(wind=7.5)),
        InvalidRecord,
        "weather.wind: expected Integral, got 7.5",
    ),
    "put: a number for String": (
        lambda s, r: s.put("weather", r(17)),
        InvalidRecord,
        "weather.origin: expected String, got 17",
    ),
    "put: 64 bits and more": (
        lambda s, r: s.put("weather", r(wind=1e300)),
        InvalidRecord,
        "weather.wind: expected Integral of 64 bits, got 1e+300",
    ),
    "put: no mapping": (
        lambda s, r: s.put("weather", ["JFK"]),
        InvalidRecord,
        "weather: expected a record as a mapping of feature names to values, got list",
    ),
    "put: no identifier": (
        lambda s, r: s.put("weather", {"hour": "2013-01-01T06:00:00Z"}),
        InvalidRecord,
        "weather.origin: the record identifier is missing",
    ),
    "put: empty identifier": (
        lambda s, r: s.put("weather", r("")),
        InvalidRecord,
        "weather.origin: expected a record identifier, got ''",
    ),
    "put: identifier too long": (
        lambda s, r: s.put("weather", r("é" * 1025)),
        InvalidRecord,
        "at most 2048 bytes, got 2050",
    ),
    "put: no event time": (
        lambda s, r: s.put("weather", {"origin": "JFK"}),
        InvalidRecord,
        "weather.hour: the event time is missing",
    ),
    "put: malformed event time": (
        lambda s, r: s.put("weather", r() | {"hour": "yesterday"}),
        InvalidRecord,
        "weather.hour: expected ISO-8601 text with a zone, such as 2013-01-01T06:00:00Z, "
        "got 'yesterday'",
    ),
    "put: event time without a zone": (
        lambda s, r: s.put("weather", r() | {"hour": "2013-01-01T06:00:00"}),
        InvalidRecord,
        "weather.hour: expected ISO-8601 text with a zone",
    ),
    "put: datetime without a zone": (
        lambda s, r: s.put("weather", r() | {"hour": dt.datetime(2013, 1, 1)}),  # noqa: DTZ001
        InvalidRecord,
        "weather.hour: expected a datetime with a zone",
    ),
    "put: event time in the future": (
        lambda s, r: s.put("weather", r() | {"hour": "2999-01-01T00:00:00Z"}),
        InvalidRecord,
        "weather.hour: expected an event time no more than 300 s ahead of the store's clock",
    ),
    "put: text that is no Unicode": (
        lambda s, r: s.put("weather", r(note="a\ud800")),
        InvalidRecord,
        r"weather.note: expected String of valid Unicode, got 'a\ud800'",
    ),
    "put: record too large": (
        lambda s, r: s.put("weather", r(note="y" * 360_000)),
        InvalidRecord,
        "weather: expected a record of at most 358400 bytes, got 360",
    ),
    "put: a ttl that is none": (
        lambda s, r: s.put("weather", r(), ttl=60),
        InvalidRequest,
        "weather: expected a Ttl, got 60",
    ),
    "put: to no store": (
        lambda s, r: s.put("weather", r(), stores=()),
        InvalidRecord,
        "weather: target stores: expected one or both of OnlineStore, OfflineStore, got ()",
    ),
    "put: store of another name": (
        lambda s, r: s.put("weather", r(), stores=("NoStore",)),
        InvalidRecord,
        "weather: target stores: expected one or both of OnlineStore, OfflineStore, "
        "got ('NoStore',)",
    ),
    "get: empty identifier": (
        lambda s, r: s.get("weather", ""),
        InvalidRecord,
        "weather.origin: expected a record identifier, got ''",
    ),
    "batch_write: nothing": (
        lambda s, r: s.batch_write([]),
        InvalidRequest,
        "entries: expected at least one record in the batch, got none",
    ),
    "delete: malformed event time": (
        lambda s, r: s.delete("weather", "JFK", event_time="noon"),
        InvalidRecord,
        "weather.hour: expected ISO-8601 text with a zone",
    ),
    "delete: hard and not later": (
        lambda s, r: (
            s.put("weather", r(hour=6)),
            s.delete("weather", "JFK", event_time="2013-01-01T06:00:00Z", hard=True),
        ),
        InvalidRecord,
        "a hard delete of 'JFK' must have a later event time than the stored record",
    ),
    "create: the name is taken": (
        lambda s, r: s.create_feature_group(s.describe("weather").group),
        FeatureGroupExists,
        "feature group 'weather' exists already",
    ),
    "move_source: no partition": (
        lambda s, r: s.move_source("topic", {}, expected={}),
        InvalidRequest,
        "move of topic: expected at least one partition, got none",
    ),
    "move_source: before the beginning": (
        lambda s, r: s.move_source("topic", {"0": -1}, expected={}),
        InvalidRequest,
        "move of topic partition 0: expected a position from 0 to",
    ),
}

ERRORS_OF_FULL_STORES = {
    "add_features: unknown group": (
        lambda s, r: s.add_features("wether", feature_definitions([("a", "String")])),
        FeatureGroupNotFound,
        "'wether'",
    ),
    "add_features: a feature that exists": (
        lambda s, r: s.add_features("weather", feature_definitions([("temp", "String")])),
        InvalidFeatureGroup,
        "'temp' is defined twice",
    ),
    "add_features: more than 100": (
        lambda s, r: s.add_features(
            "weather", feature_definitions([(f"f{n}", "String") for n in range(101)])
        ),
        InvalidFeatureGroup,
        "expected 1 to 100 feature additions in a call, got 101",
    ),
    "add_features: none": (
        lambda s, r: s.add_features("weather", []),
        InvalidFeatureGroup,
        "weather: expected 1 to 100 feature additions in a call, got 0",
    ),
    "set_ttl: unknown group": (
        lambda s, r: s.set_ttl("wether", None),
        FeatureGroupNotFound,
        "'wether'",
    ),
    "delete_feature_group: unknown group": (
        lambda s, r: s.delete_feature_group("wether"),
        FeatureGroupNotFound,
        "'wether'",
    ),
    "group: unknown group": (lambda s, r: s.group("wether"), FeatureGroupNotFound, "'wether'"),
    "source_position: no name": (
        lambda s, r: s.source_position(""),
        InvalidRequest,
        "position: expected a source name of 1 to 400 bytes, got '' of 0 bytes",
    ),
    "source_position: a name that is too long": (
        lambda s, r: s.source_position("é" * 201),
        InvalidRequest,
        "of 402 bytes",
    ),
    "verify: unknown group": (lambda s, r: s.verify("wether"), FeatureGroupNotFound, "'wether'"),
    "verify: only one store": (
        lambda s, r: s.verify("online-only"),
        InvalidRequest,
        "online-only: only a group with both stores can be verified",
    ),
    "get: no online store": (
        lambda s, r: s.get("offline-only", "JFK"),
        InvalidRequest,
        "offline-only: the group has no online store to read from",
    ),
    "put: to a store the group lacks": (
        lambda s, r: s.put("offline-only", r(), stores=("OnlineStore",)),
        InvalidRecord,
        "offline-only: target store OnlineStore is not enabled for the group",
    ),
    "put_table: unknown group": (
        lambda s, r: s.put_table("wether", pa.table({"origin": ["JFK"]})),
        FeatureGroupNotFound,
        "'wether'",
    ),
    "put_table: a column that is no feature": (
        lambda s, r: s.put_table("weather", pa.table({"origin": ["JFK"], "tmp": [1.0]})),
        FeatureNotFound,
        "feature group 'weather' has no feature 'tmp'; did you mean 'temp'?",
    ),
    "put_table: timestamps without a zone": (
        lambda s, r: s.put_table(
            "weather", pa.table({"origin": ["JFK"], "hour": pa.array([0], pa.timestamp("us"))})
        ),
        InvalidRecord,
        "weather.hour: expected timestamps with a zone, got timestamp[us]",
    ),
    "put_table: no rows": (
        lambda s, r: s.put_table("weather", pa.table({"origin": pa.array([], pa.string())})),
        InvalidRequest,
        "weather: expected a table with rows, got an empty one",
    ),
    "put_table: no table": (
        lambda s, r: s.put_table("weather", [{"origin": "JFK"}]),
        InvalidRequest,
        "expected an Arrow table or reader, pandas or Polars, got list",
    ),
    "dataset: unknown group": (
        lambda s, r: s.dataset(_spine([("JFK", 6, 0)]), ["wether"]),
        FeatureGroupNotFound,
        "feature group 'wether' does not exist; did you mean 'weather'?",
    ),
    "dataset: unknown feature": (
        lambda s, r: s.dataset(_spine([("JFK", 6, 0)]), ["weather[tmp]"]),
        FeatureNotFound,
        "feature group 'weather' has no feature 'tmp'; did you mean 'temp'?",
    ),
    "dataset: unreadable selection": (
        lambda s, r: s.dataset(_spine([("JFK", 6, 0)]), ["weather[temp"]),
        InvalidRequest,
        "expected GROUP or GROUP[FEATURE,…], got 'weather[temp'",
    ),
    "dataset: no selection": (
        lambda s, r: s.dataset(_spine([("JFK", 6, 0)]), []),
        InvalidRequest,
        "expected at least one selection of features, got none",
    ),
    "dataset: group without an offline store": (
        lambda s, r: s.dataset(_spine([("JFK", 6, 0)]), ["online-only"]),
        InvalidRequest,
        "online-only: the group has no offline store to join with",
    ),
    "dataset: a spine without the key": (
        lambda s, r: s.dataset(
            _spine([("JFK", 6, 0)]).rename_columns(["origins", "event_time"]), ["weather"]
        ),
        InvalidSpine,
        "the spine has no column 'origin' for the record identifier of 'weather'; it has "
        "'origins', 'event_time'; did you mean 'origins'?",
    ),
    "dataset: a key of another type": (
        lambda s, r: s.dataset(
            pa.table({"origin": [1], "event_time": pa.array([0], MOMENT)}), ["weather"]
        ),
        InvalidSpine,
        "spine column 'origin': expected String like the record identifier",
    ),
    "dataset: a spine without its time": (
        lambda s, r: s.dataset(_spine([("JFK", 6, 0)]), ["weather"], time="at"),
        InvalidSpine,
        "the spine has no column 'at' for the time",
    ),
    "dataset: times without a zone": (
        lambda s, r: s.dataset(
            pa.table({"origin": ["JFK"], "event_time": pa.array([0], pa.timestamp("us"))}),
            ["weather"],
        ),
        InvalidSpine,
        "spine column 'event_time': expected timestamps with a zone, got timestamp[us]",
    ),
    "dataset: a null time": (
        lambda s, r: s.dataset(
            pa.table({"origin": ["JFK", "JFK"], "event_time": pa.array([0, None], MOMENT)}),
            ["weather"],
        ),
        InvalidSpine,
        "spine column 'event_time', row 1: expected a time, got null",
    ),
    "dataset: a text that is no time": (
        lambda s, r: s.dataset(
            pa.table({"origin": ["JFK"], "event_time": ["2013-01-01 06:00"]}), ["weather"]
        ),
        InvalidSpine,
        "spine column 'event_time', row 0: expected ISO-8601 text with a zone",
    ),
    "dataset: as of a time without a zone": (
        lambda s, r: s.dataset(
            _spine([("JFK", 6, 0)]),
            ["weather"],
            as_of=dt.datetime(2013, 1, 1),  # noqa: DTZ001
        ),
        InvalidRequest,
        "as_of: expected a datetime with a zone",
    ),
    "dataset: a spine that is none": (
        lambda s, r: s.dataset(7, ["weather"]),
        InvalidSpine,
        "expected a spine as Arrow, pandas, Polars or a file's path, got int",
    ),
    "dataset: a spine file that is missing": (
        lambda s, r: s.dataset("missing.parquet", ["weather"]),
        InvalidSpine,
        "spine file missing.parquet does not exist",
    ),
    "batch_write: a position that stands elsewhere": (
        lambda s, r: (
            s.batch_write([Put("weather", r())], position=_position(0, 5)),
            s.batch_write([Put("weather", r())], position=_position(4, 6)),
        ),
        PositionConflict,
        "position of topic partition 0: expected a batch from 5, got one from 4 to 6",
    ),
}


# What the client cannot send, or the server cannot know, is said in other words.
ERRORS_IN_OTHER_WORDS = {
    "put: 2**63 for Integral": (lambda s, r: s.put("weather", r(wind=2**63)), "weather.wind: "),
    "put: beyond the doubles": (lambda s, r: s.put("weather", r(temp=10**400)), "weather.temp: "),
    "put: a truth value": (lambda s, r: s.put("weather", r(wind=True)), "weather.wind: expected "),
    "put: a list": (lambda s, r: s.put("weather", r(wind=[7])), "weather.wind: expected "),
    "put: bytes": (lambda s, r: s.put("weather", r(note=b"x")), "weather.note: expected "),
    "put: an array": (
        lambda s, r: s.put("weather", r(wind=np.array([7, 8]))),
        "weather.wind: expected ",
    ),
    "put: a name that is no text": (lambda s, r: s.put("weather", r() | {7: 1.0}), "weather.7: "),
    "get: no identifier": (lambda s, r: s.get("weather", None), "weather.origin: "),
    "get: an identifier that is no Unicode": (
        lambda s, r: s.get("weather", "a\ud800"),
        "of valid Unicode, got 'a\\ud800'",
    ),
    "delete: no event time": (lambda s, r: s.delete("weather", "JFK", event_time=None), ""),
    "delete: datetime without a zone": (
        lambda s, r: s.delete("weather", "JFK", event_time=dt.datetime(2013, 1, 1)),  # noqa: DTZ001
        "expected a datetime with a zone",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_record_errors_are_the_same(name, refusing, reading):
    _compare(*ERRORS[name], refusing.values(), reading)


@pytest.mark.parametrize("name", ERRORS_OF_FULL_STORES)
def test_other_errors_are_the_same(name, refusing, reading):
    stores = [refusing["embedded"], refusing["remote"]]
    _compare(*ERRORS_OF_FULL_STORES[name], stores, reading)


@pytest.mark.parametrize("kind", ["embedded", "remote", "awaited"])
@pytest.mark.parametrize("name", ERRORS_IN_OTHER_WORDS)
def test_values_without_a_form_are_refused_by_every_store(name, kind, refusing, reading):
    operation, words = ERRORS_IN_OTHER_WORDS[name]

    with pytest.raises(InvalidRecord) as caught:
        operation(refusing[kind], reading)

    assert words in str(caught.value)


@pytest.mark.parametrize("kind", ["embedded", "remote", "awaited"])
def test_a_batch_get_names_an_unknown_feature(kind, refusing):
    with pytest.raises(FeatureNotFound, match="has no feature 'tmp'; did you mean 'temp'"):
        refusing[kind].batch_get([Get("weather", ["JFK"], ("tmp",))])


def test_a_definition_that_breaks_a_rule_is_refused_by_the_server_too(server, remote, weather):
    # The client's own check is got round: another client might have none.
    broken = replace(weather)
    object.__setattr__(broken, "event_time", "minute")

    with pytest.raises(InvalidFeatureGroup, match="'minute' is not among the feature definitions"):
        remote.create_feature_group(broken)

    assert remote.list_feature_groups() == []


def test_the_error_of_the_server_has_the_call_as_its_cause(remote):
    with pytest.raises(FeatureGroupNotFound) as caught:
        remote.get("weather", "JFK")

    assert caught.value.group == "weather"
    assert caught.value.__cause__.code().name == "NOT_FOUND"


def test_one_record_of_a_batch_may_be_larger_than_allowed(record_store, reading):
    large = Put("weather", reading("EWR", note="é" * 180_000))

    errors = record_store.batch_write([large, Put("weather", reading())])

    assert [(error.index, error.code) for error in errors] == [(0, "InvalidRecord")]
    assert record_store.get("weather", "JFK") is not None


def test_an_unreachable_server_is_unavailable_and_the_error_says_what_to_do(connect_later):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        for store in connect_later(address, timeout_s=5.0):
            with pytest.raises(StoreUnavailable) as caught:
                store.put("weather", {})
            assert f"no feature store answers at {address}" in str(caught.value)
            assert "`featureline serve`, or check the address" in str(caught.value)
            store.close()


def test_every_verb_says_so_when_the_server_is_away(server, remote, reading):
    server.stop()
    spine = _spine([("JFK", 6, 0)])
    calls = (
        lambda: remote.describe("weather"),
        lambda: remote.list_feature_groups(),
        lambda: remote.get("weather", "JFK"),
        lambda: remote.batch_get([Get("weather", ["JFK"])]),
        lambda: remote.batch_write([Put("weather", reading())]),
        lambda: remote.put_table("weather", pa.table({"origin": ["JFK"]})),
        lambda: remote.delete("weather", "JFK", event_time="2013-01-01T07:00:00Z"),
        lambda: list(remote.records("weather")),
        lambda: remote.source_position("topic"),
        lambda: remote.flush(),
        lambda: remote.verify("weather"),
        lambda: remote.dataset(spine, ["weather"]),
    )

    def check(call):
        with pytest.raises(StoreUnavailable, match="no feature store answers at"):
            call()

    with ThreadPoolExecutor(len(calls)) as pool:  # some try again for a second or two
        list(pool.map(check, calls))


def test_a_server_that_does_not_answer_in_time_is_unavailable(connect_later):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for store in connect_later(address, timeout_s=0.5):
            with pytest.raises(StoreUnavailable, match=address):
                store.get("weather", "JFK")
            store.close()


def test_a_store_that_was_closed_says_so(store, weather):
    store.create_feature_group(weather)
    store.close()

    with pytest.raises(StoreUnavailable, match="closed"):
        store.get("weather", "JFK")
    with pytest.raises(StoreUnavailable, match="closed"):
        store.flush()


def test_an_asynchronous_store_that_was_closed_says_so(opened):
    awaited = opened("awaited-grpc")
    awaited.close()

    with pytest.raises(StoreUnavailable, match="closed"):
        awaited.get("weather", "JFK")


# -- helpers ----------------------------------------------------------------------------------


def _compare(operation, expected, words, stores, reading):
    caught = []
    for store in stores:
        with pytest.raises(expected) as info:
            operation(store, reading)
        error = info.value
        assert type(error) is expected
        assert words in error.message
        # The clock of the store is in the message about the future.
        message = re.sub(r"\(\d{4}-.*?Z\)", "(now)", str(error))
        facts = {name: _plain(value) for name, value in error.facts.items() if name != "request_id"}
        caught.append((message, facts, error.code))
    assert all(other == caught[0] for other in caught[1:]), caught


def _plain(fact):
    return list(fact) if isinstance(fact, tuple) else fact


def _numbered(kind):
    return FeatureGroup(
        "numbered",
        record_identifier="id",
        event_time="at",
        features=feature_definitions([("id", kind), ("at", "Fractional")]),
    )


def _position(start, next_):
    return SourcePosition("topic", (PartitionPosition("0", start, next_),))


def _all_three():
    return Get("weather", ["JFK", "EWR", "LGA"])


def _spine(rows):
    return pa.table(
        {
            "origin": [origin for origin, _, _ in rows],
            "event_time": pa.array(
                [NEW_YEAR.replace(hour=hour, minute=minute) for _, hour, minute in rows], MOMENT
            ),
        }
    )


def _delta(uri):
    from deltalake import DeltaTable

    return DeltaTable(uri).to_pyarrow_table()
