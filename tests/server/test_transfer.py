"""Loads and backfills do the same embedded and over gRPC, and half a load is none."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.csv
import pytest

from featurestore import (
    FeatureGroupNotFound,
    FeatureNotFound,
    InvalidRequest,
)
from featurestore.v1 import control_pb2_grpc, transfer_pb2
from featurestore.wire import transfer as wire_transfer


@pytest.fixture
def table():
    rows = 6_000
    return pa.table(
        {
            "origin": [f"A{n % 100}" for n in range(rows)],
            "hour": [f"2013-01-{1 + n % 9:02d}T00:00:{n // 100:02d}Z" for n in range(rows)],
            "wind": list(range(rows)),
        }
    )


class TestEveryStore:
    def test_a_load_is_done_once(self, store, weather, table, tmp_path):
        store.create_feature_group(weather)
        steps = []
        result = store.load("weather", table, key="k", on_progress=lambda *step: steps.append(step))
        assert (result.group, result.key, result.rows) == ("weather", "k", 6_000)
        assert (result.errors, result.already, result.version) == ([], False, 0)
        assert store.load("weather", table.to_reader(), key="k").already
        assert store.verify("weather").equal
        assert store.get("weather", "A8")["wind"] == 5_408

        with pytest.raises(InvalidRequest, match="'k' was done with other rows"):
            store.load("weather", table.slice(1), key="k")
        pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
        loaded = store.load("weather", tmp_path / "rows.csv", key="csv")
        assert (loaded.rows, loaded.version) == (6_000, 1)

    def test_refused_rows_are_named(self, store, weather, table):
        store.create_feature_group(weather)
        bad = table.set_column(1, "hour", [["noon"] * 1_200 + table["hour"].to_pylist()[1_200:]])
        result = store.load("weather", bad, key="k")
        assert result.rows == 4_800
        assert [error.index for error in result.errors] == list(range(1_200))
        assert result.errors[-1].message.endswith("(row 1199)")
        none = store.load("weather", bad.slice(0, 1_200), key="none")
        assert (none.rows, none.version, none.already) == (0, None, False)

    def test_errors_are_the_same(self, store, weather, table):
        store.create_feature_group(weather)
        for group, data, error, words in [
            ("weather", table.slice(0, 0), InvalidRequest, "got an empty one"),
            ("weather", "no.csv", InvalidRequest, "no.csv does not exist"),
            ("weather", table.rename_columns(["a", "hour", "wind"]), FeatureNotFound, "'a'"),
            ("none", table, FeatureGroupNotFound, "none"),
        ]:
            with pytest.raises(error, match=words):
                store.load(group, data, key="k")
        with pytest.raises(InvalidRequest, match="key: expected"):
            store.load("weather", table, key="")
        assert store.load("weather", table, key="k").already is False

    def test_rows_that_end_in_an_error_are_not_loaded(self, store, weather, table):
        store.create_feature_group(weather)

        def batches():
            yield from table.to_batches(max_chunksize=1_000)
            raise pa.ArrowInvalid("the line is cut")

        reader = pa.RecordBatchReader.from_batches(table.schema, batches())
        with pytest.raises(InvalidRequest, match="the line is cut"):
            store.load("weather", reader, key="k")
        assert store.load("weather", table, key="k").already is False
        assert store.verify("weather").offline == 100

    def test_backfill_and_rebuild(self, store, weather, table):
        store.create_feature_group(weather)
        assert store.backfill("weather").version is None
        store.load("weather", table, key="k")
        store.delete("weather", "A7", event_time="2013-02-01T00:00:00Z")
        steps = []
        report = store.backfill("weather", on_progress=lambda *step: steps.append(step))
        assert (report.group, report.version) == ("weather", 1)
        assert (report.identifiers, report.written, report.removed) == (100, 0, 0)
        assert {step for step, _ in steps} <= {"online"}
        report = store.rebuild_online("weather")
        assert (report.written, report.resumed, report.was_empty) == (100, False, False)
        assert store.verify("weather").equal
        with pytest.raises(FeatureGroupNotFound):
            store.backfill("none")
        store.create_feature_group(replace(weather, name="history", online=False))
        with pytest.raises(InvalidRequest, match="both stores"):
            store.rebuild_online("history")


class TestOnTheWire:
    @pytest.fixture
    def sent(self, remote, weather, table):
        """The messages of a load, and what sends others in their place."""
        remote.create_feature_group(weather)
        requests = list(
            wire_transfer.LoadRequests(
                "weather", iter(table.to_batches(max_chunksize=500)), key="k", source=""
            )
        )
        stub = control_pb2_grpc.FeatureStoreStub(remote._channel)

        def send(messages):
            return list(stub.LoadRows(iter(messages), timeout=30))

        return requests, send

    def test_without_all_messages_nothing_is_stored(self, remote, sent, server, table):
        requests, send = sent
        spec, *rows, end = requests
        part = transfer_pb2.LoadRowsRequest
        for messages, words in [
            ([spec, *rows], "ended without their last message"),
            ([spec, *rows, part(end=5_999)], "expected 5999 rows, got 6000"),
            ([spec, spec, *rows, end], "one message, the first one"),
            ([*rows, spec, end], "one message, the first one"),
            ([], "one message, the first one"),
            ([end], "one message, the first one"),
            ([spec, part(rows=b"no stream"), end], "expected one Arrow IPC stream"),
            ([spec, part(rows=rows[0].rows[: len(rows[0].rows) // 2]), end], "cannot be read|rows"),
        ]:
            with pytest.raises(Exception, match=words):
                send(messages)
        assert remote.verify("weather").offline == 0
        assert not list((server.home / "loads").iterdir())
        assert send(requests)[-1].result.rows == 6_000

    def test_columns_that_change_are_refused_by_the_client(self, remote, weather, table, tmp_path):
        remote.create_feature_group(weather)
        pyarrow.csv.write_csv(table.slice(0, 10), tmp_path / "a.csv")
        pyarrow.csv.write_csv(table.slice(10, 10).select([1, 0, 2]), tmp_path / "b.csv")
        with pytest.raises(InvalidRequest, match="the same columns throughout"):
            remote.load("weather", [tmp_path / "a.csv", tmp_path / "b.csv"], key="k")
        assert remote.verify("weather").offline == 0

    def test_lineage_has_one_action(self, remote, sent, table):
        remote.load("weather", table, key="k", source="s3://bucket/rows")
        remote.load("weather", table, key="k", source="s3://bucket/rows")
        (action,) = remote.graph.find(type="Load")
        assert action.properties["key"] == "k"
