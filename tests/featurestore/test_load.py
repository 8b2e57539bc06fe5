"""A load is done once for each key, wherever it is interrupted, and online equals offline."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from dataclasses import replace

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from featurestore import (
    CollectionType,
    FeatureDefinition,
    FeatureGroupNotFound,
    FeatureNotFound,
    FeatureType,
    InvalidRecord,
    InvalidRequest,
    StoreUnavailable,
    Ttl,
    TtlUnit,
    load,
)
from featurestore.offline import bulk, files

STEPS = ("staged", "noted", "files", "committed", "online", "recorded")


class Killed(BaseException):
    """The process ends here."""


def on_step(store, call):
    """Let a store call something before each step of a load or a backfill."""
    store.__dict__["stores"] = replace(store.stores, on_step=call)


def kill_at(store, point, count=1):
    left = [count]

    def call(step):
        if step == point:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    on_step(store, call)


@pytest.fixture
def table(at):
    """Twenty rows of five stations over three days, the latest of each on the last day."""
    return pa.table(
        {
            "station": [f"s{n % 5}" for n in range(20)],
            "time": [at(n * 10_000 - 170_000) for n in range(20)],
            "temp": [None if n == 3 else n / 2 for n in range(20)],
            "count": list(range(20)),
            "note": [f"n{n}" for n in range(20)],
        }
    )


def counts(rows):
    return sorted(row["count"] for row in rows)


def check(store, rows_of, stored, group="readings"):
    assert store.verify(group).equal, store.verify(group).differences
    assert counts(rows_of(store, group)) == sorted(stored)


class TestOneLoad:
    def test_it_is_in_both_stores_in_one_commit(self, store, table, rows_of):
        told = []
        result = store.load(
            "readings", table, key="first", on_progress=lambda *step: told.append(step)
        )

        assert (result.rows, result.errors, result.already, result.version) == (20, [], False, 0)
        assert [step for step, _ in told] == ["read", *["write"] * 1, "online"]
        assert told[-1] == ("online", 5)
        check(store, rows_of, range(20))
        assert store.get("readings", "s3")["count"] == 18
        assert store.online.outbox.pending() == 0
        assert len(store.versions("readings")) == 1

    def test_the_rows_are_those_that_a_put_would_have_made(self, store, table, rows_of, readings):
        store.create_feature_group(replace(readings, name="put"))
        store.load("readings", table, key="first")
        store.put_table("put", table)
        store.flush("put")

        internal = ("write_time", "api_invocation_time", "_sequence")
        loaded, put = (
            [{k: v for k, v in row.items() if k not in internal} for row in rows_of(store, group)]
            for group in ("readings", "put")
        )
        assert loaded == put
        schemas = [store.history(group).schema for group in ("readings", "put")]
        assert schemas[0] == schemas[1]
        assert store.get("readings", "s3") == store.get("put", "s3")

    def test_the_same_key_again_adds_nothing(self, store, table, rows_of):
        store.load("readings", table, key="first")
        before = store.online.last_sequence(1)
        again = store.load("readings", table, key="first")

        assert (again.rows, again.already, again.version) == (20, True, 0)
        check(store, rows_of, range(20))
        assert store.online.last_sequence(1) == before, "nothing was written"
        assert store.load("readings", table, key="second").already is False
        assert len(rows_of(store)) == 40

    def test_the_form_of_the_rows_does_not_matter_to_the_key(self, store, table):
        store.load("readings", table, key="first")
        batches = table.to_batches(max_chunksize=3)
        coded = pa.Table.from_batches(batches).set_column(
            0, "station", table["station"].dictionary_encode()
        )
        assert store.load("readings", coded, key="first").already
        assert store.load("readings", table.to_reader(max_chunksize=7), key="first").already

    def test_other_rows_under_the_key_are_refused(self, store, table, rows_of):
        store.load("readings", table, key="first")
        with pytest.raises(InvalidRequest, match="'first' was done with other rows"):
            store.load("readings", table.slice(1), key="first")
        check(store, rows_of, range(20))

    def test_refused_rows_are_named_and_the_others_stored(self, store, table, at, rows_of):
        names = table["station"].to_pylist()
        names[4] = None
        times = table["time"].to_pylist()
        times[7], times[19] = "yesterday", "2999-01-01T00:00:00Z"
        bad = table.set_column(0, "station", [names]).set_column(1, "time", [times])
        result = store.load("readings", bad, key="first")

        assert [error.index for error in result.errors] == [4, 7, 19]
        put = store.put_table("readings", bad)
        assert put.errors == result.errors
        assert result.rows == 17

    def test_refused_rows_are_counted_over_many_batches(self, store, at):
        rows = 20_000
        table = pa.table(
            {"station": ["a"] * (rows - 1) + [""], "time": [at(n / 10) for n in range(rows)]}
        )
        result = store.load("readings", table, key="k")
        assert [error.index for error in result.errors] == [rows - 1]
        assert f"(row {rows - 1})" in result.errors[0].message

    def test_where_all_rows_are_refused_the_key_stays_free(self, store, table):
        bad = table.set_column(1, "time", [["no time"] * 20])
        result = store.load("readings", bad, key="first")
        assert (result.rows, len(result.errors), result.version) == (0, 20, None)
        assert store.load("readings", table, key="first").already is False

    def test_it_says_what_is_wrong(self, store, table, readings):
        store.create_feature_group(replace(readings, name="online", offline=False))
        for wrong, error, words in [
            ({"data": table.slice(0, 0)}, InvalidRequest, "got an empty one"),
            ({"data": 7}, InvalidRequest, "expected rows as Arrow"),
            ({"data": "no.parquet"}, InvalidRequest, "no.parquet does not exist"),
            ({"data": "SELECT nothing"}, InvalidRequest, "the query cannot be run"),
            ({"data": {"a": [1], "b": [1, 2]}}, InvalidRequest, "columns of one length"),
            ({"data": table.rename_columns([*"abcde"])}, FeatureNotFound, "no feature 'a'"),
            (
                {"data": table.set_column(2, "temp", [pa.array([0] * 20, pa.timestamp("us"))])},
                InvalidRecord,
                "readings.temp",
            ),
            ({"key": ""}, InvalidRequest, "key: expected"),
            ({"key": "a\nb"}, InvalidRequest, "key: expected"),
            ({"key": "x" * 201}, InvalidRequest, "key: expected"),
            ({"group": "nowhere"}, FeatureGroupNotFound, "nowhere"),
            ({"group": "online"}, InvalidRequest, "no offline store"),
        ]:
            given = {"group": "readings", "data": table, "key": "k"} | wrong
            with pytest.raises(error, match=words):
                store.load(given["group"], given["data"], key=given["key"])
        assert store.offline_table(store.registry.get("readings")).version() is None
        assert not list((store.home / "loads").iterdir()), "nothing is left"

    def test_a_wrong_type_refuses_the_rows_one_by_one(self, store, table):
        wrong = table.set_column(3, "count", [["1", "two"] * 10])
        result = store.load("readings", wrong, key="k")
        assert [error.index for error in result.errors] == list(range(1, 20, 2))
        assert "readings.count: expected Integral, got 'two'" in result.errors[0].message

    def test_a_group_without_an_online_store(self, store, table, readings, rows_of):
        store.create_feature_group(replace(readings, name="history", online=False))
        assert store.load("history", table, key="first").rows == 20
        assert counts(rows_of(store, "history")) == list(range(20))
        assert store.load("history", table, key="first").already

    def test_of_equal_times_the_later_row_counts(self, store, at, rows_of):
        rows = {"station": ["a"] * 3, "time": [at(5), at(5), at(4)], "count": [1, 2, 3]}
        store.load("readings", rows, key="k")
        assert store.get("readings", "a")["count"] == 2
        check(store, rows_of, [1, 2, 3])

    def test_expired_rows_are_not_readable(self, store, table, readings, rows_of, clock):
        store.set_ttl("readings", Ttl(TtlUnit.HOURS, 24))
        store.load("readings", table, key="k")
        assert store.get("readings", "s4") is not None
        clock.advance(200_000)
        assert store.get("readings", "s4") is None
        check(store, rows_of, range(20))
        assert store.load("readings", table, key="other").rows == 20, "all have expired"
        assert list(store.records("readings")) == []
        assert store.verify("readings").equal

    def test_lists_and_vectors(self, store, make_group, at, rows_of):
        group = make_group("lists", [("id", "Integral"), ("at", "String"), ("count", "Integral")])
        more = (
            FeatureDefinition("tags", FeatureType.STRING, CollectionType.LIST),
            FeatureDefinition("place", FeatureType.FRACTIONAL, CollectionType.VECTOR, 2),
        )
        store.create_feature_group(replace(group, features=(*group.features, *more)))
        rows = {
            "id": [1, 2, 2],
            "at": [at(1), at(1), at(2)],
            "count": [1, 2, 3],
            "tags": [["x", "y"], [], None],
            "place": [[0.5, 1.5], None, [2.0, 3.0]],
        }
        assert store.load("lists", rows, key="k").errors == []
        assert store.get("lists", 1)["tags"] == ["x", "y"]
        assert store.get("lists", 2)["place"] == [2.0, 3.0]
        check(store, rows_of, [1, 2, 3], "lists")

    def test_new_features_come_into_an_old_table(self, store, table, rows_of):
        store.load("readings", table, key="old")
        store.add_features("readings", [FeatureDefinition("wind", FeatureType.FRACTIONAL)])
        assert store.load("readings", table, key="again").rows == 20
        newer = table.append_column("wind", [[1.5] * 20])
        store.load("readings", newer, key="new")
        assert store.get("readings", "s1")["wind"] == 1.5
        check(store, rows_of, [*range(20)] * 3)

    def test_what_an_erasure_covers_is_stored_nowhere(self, store, at, rows_of):
        def rows(*stations):
            return {
                "station": list(stations),
                "time": [at(10 + n) for n in range(len(stations))],
                "count": list(range(len(stations))),
            }

        store.load("readings", rows("a", "b"), key="before")
        store.erase("readings", "a")
        result = store.load("readings", rows("a", "b", "a", "c"), key="after")
        assert (result.rows, result.errors) == (4, [])
        assert {row["station"] for row in rows_of(store)} == {"b", "c"}
        assert store.get("readings", "a") is None
        store.load("readings", rows("a"), key="nothing is left of it")
        assert store.load("readings", rows("a"), key="nothing is left of it").already
        assert store.verify("readings").equal

    def test_many_files_of_a_date(self, store, at, rows_of, monkeypatch):
        monkeypatch.setattr(files, "ROW_GROUP_ROWS", 1000)
        monkeypatch.setattr(files, "TARGET_BYTES", 1000)
        monkeypatch.setattr(load, "_WRITE_ROWS", 2048)
        rows = 6_000
        table = pa.table(
            {
                "station": [f"s{n}" for n in range(rows)],
                "time": [at(n / 1000) for n in range(rows)],
                "count": list(range(rows)),
            }
        )
        store.load("readings", table, key="k")
        snapshot = store.offline_table(store.registry.get("readings")).scan()
        assert len(snapshot.files) > 1
        assert sum(known.rows for known in snapshot.statistics) == rows
        check(store, rows_of, range(rows))
        store.maintain("readings")
        check(store, rows_of, range(rows))

    def test_the_log_knows_the_times_of_a_file(self, store, table):
        store.load("readings", table, key="k")
        snapshot = store.offline_table(store.registry.get("readings")).scan()
        times = [
            us
            for batch in store.history("readings")
            for us in batch.column("_event_time").cast(pa.int64()).to_pylist()
        ]
        assert min(known.earliest_us for known in snapshot.statistics) <= min(times)
        assert max(known.latest_us for known in snapshot.statistics) >= max(times)
        for known in snapshot.statistics:
            assert known.latest_us - known.earliest_us < 86_400_000_000

    def test_it_is_one_action_in_lineage_with_its_key(self, store, table):
        store.load("readings", table, key="first", source="s3://bucket/rows.parquet")
        store.load("readings", table, key="first", source="s3://bucket/rows.parquet")
        (action,) = store.graph.find(type="Load")
        assert action.state == "Completed"
        assert action.properties["key"] == "first"
        assert action.properties["rows"] == 20


class TestEveryInput:
    def test_it_is_loaded_alike(self, store, table, tmp_path, rows_of, readings):
        folder = tmp_path / "folder"
        folder.mkdir()
        pq.write_table(table, tmp_path / "rows.parquet")
        for part in range(2):
            day = folder / f"day={part}"
            day.mkdir()
            pq.write_table(table.slice(10 * part, 10), day / "part.parquet")
        (folder / "_SUCCESS").touch()
        pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
        with pa.ipc.new_file(str(tmp_path / "rows.arrow"), table.schema) as writer:
            writer.write_table(table)
        with pa.ipc.new_stream(str(tmp_path / "stream.arrow"), table.schema) as writer:
            writer.write_table(table)
        connection = duckdb.connect()
        inputs = {
            "table": table,
            "batch": table.combine_chunks().to_batches()[0],
            "reader": table.to_reader(),
            "columns": table.to_pydict(),
            "pandas": table.to_pandas(),
            "parquet": tmp_path / "rows.parquet",
            "text": str(tmp_path / "rows.parquet"),
            "folder": folder,
            "files": [folder / "day=0" / "part.parquet", folder / "day=1" / "part.parquet"],
            "csv": tmp_path / "rows.csv",
            "arrow": tmp_path / "rows.arrow",
            "stream": tmp_path / "stream.arrow",
            "query": f"SELECT * FROM '{tmp_path}/rows.parquet'",
            "relation": connection.sql(f"SELECT * FROM '{tmp_path}/rows.parquet'"),
        }
        if importlib.util.find_spec("polars") is not None:
            inputs["polars"] = importlib.import_module("polars").from_arrow(table)
        for name, data in inputs.items():
            store.create_feature_group(replace(readings, name=name))
            assert store.load(name, data, key="k").errors == []
        expected = [r["note"] for r in rows_of(store, "table")], store.get("table", "s3")
        for name in inputs:
            rows = rows_of(store, name)
            assert [row["note"] for row in rows] == expected[0], name
            assert rows[3]["temp"] is None, name
            assert store.get(name, "s3") == expected[1], name
        connection.close()

    def test_timestamps_of_any_unit_are_event_times(self, store, at):
        frame = pd.DataFrame(
            {"station": ["a", "b"], "time": pd.to_datetime([at(1), at(2)]), "count": [1, 2]}
        )
        assert store.load("readings", frame, key="k").errors == []
        assert store.get("readings", "b")["time"] == at(2)

    def test_text_in_a_csv_stays_text_and_numbers_are_checked(self, store, at, tmp_path):
        file = tmp_path / "rows.csv"
        file.write_text(
            "station,time,temp,count,note\n"
            f"007,{at(1)},1.50,3.0,\n"
            f"008,{at(2)},1e1,4,true\n"
            f"009,{at(3)},warm,5,x\n"
            f"010,{at(4)},,0x10,x\n"
        )
        result = store.load("readings", file, key="k")
        assert [error.index for error in result.errors] == [2, 3]
        assert store.get("readings", "007") == {
            "station": "007",
            "time": at(1),
            "temp": 1.5,
            "count": 3,
        }
        assert store.get("readings", "008")["note"] == "true"

    def test_what_cannot_be_read_is_named(self, store, tmp_path):
        tmp_path = tmp_path / "files"
        tmp_path.mkdir()
        for name, content in [("a.parquet", b"PAR1"), ("a.csv", b""), ("a.txt", b"x")]:
            (tmp_path / name).write_bytes(content)
            with pytest.raises(InvalidRequest, match=name):
                store.load("readings", tmp_path / name, key="k")
        with pytest.raises(InvalidRequest, match=r"expected \.parquet, \.csv or \.arrow"):
            store.load("readings", tmp_path, key="k")
        (tmp_path / "a.txt").unlink()
        with pytest.raises(InvalidRequest, match="files of one kind, got CSV, Parquet"):
            store.load("readings", tmp_path, key="k")
        empty = tmp_path / "empty"
        empty.mkdir()
        with pytest.raises(InvalidRequest, match="files of one kind, got none"):
            store.load("readings", empty, key="k")

    def test_a_file_that_is_damaged_further_on_stores_nothing(self, store, table, tmp_path):
        def batches():
            yield from table.to_batches()
            raise pa.ArrowInvalid("the rest is gone")

        reader = pa.RecordBatchReader.from_batches(table.schema, batches())
        with pytest.raises(InvalidRequest, match="the rest is gone"):
            store.load("readings", reader, key="k")
        assert store.offline_table(store.registry.get("readings")).version() is None
        assert list(store.records("readings")) == []


class TestKilled:
    @pytest.mark.parametrize("step", STEPS)
    def test_the_same_key_finishes_it(self, make_store, readings, table, rows_of, at, step):
        store = make_store()
        store.create_feature_group(readings)
        store.put("readings", {"station": "s0", "time": at(15_000), "count": 100})
        kill_at(store, step)
        with pytest.raises(Killed):
            store.load("readings", table, key="k")
        store.close()
        store = make_store()
        # What comes between counts by its own time.
        store.put("readings", {"station": "s1", "time": table["time"][16].as_py(), "count": 101})
        store.put("readings", {"station": "s2", "time": at(30_000), "count": 102})
        store.flush("readings")

        result = store.load("readings", table, key="k")

        assert result.already is (step in ("committed", "online", "recorded"))
        check(store, rows_of, [*range(20), 100, 101, 102])
        assert store.get("readings", "s3")["count"] == 18
        assert store.get("readings", "s2")["count"] == 102
        assert store.get("readings", "s0")["count"] == 100
        assert store.load("readings", table, key="k").already
        check(store, rows_of, [*range(20), 100, 101, 102])
        (action,) = store.graph.find(type="Load")
        assert action.state == "Completed"
        assert [path.suffix for path in (store.home / "loads").iterdir()] == [".json"]

    @pytest.mark.parametrize("lost", ["journal", "online store"])
    def test_without_what_it_noted_the_table_is_asked(
        self, make_store, readings, table, rows_of, at, lost
    ):
        store = make_store()
        store.create_feature_group(readings)
        kill_at(store, "committed")
        with pytest.raises(Killed):
            store.load("readings", table, key="k")
        if lost == "journal":
            for path in (store.home / "loads").glob("*.json"):
                path.unlink()
        store.close()
        if lost == "online store":
            (store.home / "online").rename(store.home / "gone")
        store = make_store()
        tie = table["time"][16].as_py()
        store.put("readings", {"station": "s1", "time": tie, "count": 101})
        store.flush("readings")
        store.put("readings", {"station": "s2", "time": table["time"][17].as_py(), "count": 102})

        assert store.load("readings", table, key="k").already
        assert store.get("readings", "s1")["count"] == 101
        assert store.get("readings", "s2")["count"] == 102
        check(store, rows_of, [*range(20), 101, 102])

    def test_files_of_a_commit_that_failed_are_taken_away(self, store, table, monkeypatch):
        monkeypatch.setattr(
            bulk, "_commit", lambda *arguments: (_ for _ in ()).throw(OSError("away"))
        )
        with pytest.raises(StoreUnavailable, match="away"):
            store.load("readings", table, key="k")
        uri = store.offline_uri("readings")
        assert not [name for _, _, files in os.walk(uri) for name in files]
        monkeypatch.undo()
        assert store.load("readings", table, key="k").already is False

    def test_a_process_that_is_killed_at_each_step(self, make_store, run_python, readings, rows_of):
        """Not an exception but the end: nothing that Python does on the way out happens."""
        store = make_store()
        store.create_feature_group(readings)
        home = store.home
        store.close()
        for step in ("files", "committed", "online"):
            with run_python(["-c", LOADED, str(home), step]) as process:
                process.stdin.close()
                process.wait(timeout=60)
            assert process.returncode == -signal.SIGKILL
        store = make_store(now=lambda: 1_800_000_000_000_000)
        assert store.load("readings", rows_for_processes(), key="k").already
        check(store, rows_of, range(30))


LOADED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from featurestore.embedded import EmbeddedStore

home, point = sys.argv[1:]
store = EmbeddedStore(Path(home))
def call(step):
    if step == point:
        os.kill(os.getpid(), signal.SIGKILL)
store.__dict__["stores"] = replace(store.stores, on_step=call)
times = [f"2024-01-0{1 + n % 3}T00:00:{n:02d}Z" for n in range(30)]
rows = {"station": [f"s{n % 4}" for n in range(30)], "time": times, "count": list(range(30))}
store.load("readings", rows, key="k")
"""


def rows_for_processes():
    return {
        "station": [f"s{n % 4}" for n in range(30)],
        "time": [f"2024-01-0{1 + n % 3}T00:00:{n:02d}Z" for n in range(30)],
        "count": list(range(30)),
    }


TWICE = """
import sys
from pathlib import Path
from featurestore.embedded import EmbeddedStore

which, home = sys.argv[1:]
store = EmbeddedStore(Path(home))
times = [f"2024-01-0{1 + n % 3}T00:00:{n:02d}Z" for n in range(30)]
rows = {"station": [f"s{n % 4}" for n in range(30)], "time": times, "count": list(range(30))}
print("ready", flush=True)
sys.stdin.readline()
print(store.load("readings", rows, key="k").already)
"""


class TestBesideOthers:
    def test_two_processes_with_one_key(self, make_store, readings, run_both, rows_of):
        store = make_store()
        store.create_feature_group(readings)
        store.close()
        answers = run_both(TWICE, str(store.home))
        assert sorted(line for lines in answers for line in lines) == ["False", "True"]
        check(make_store(now=lambda: 1_800_000_000_000_000), rows_of, range(30))

    @pytest.mark.parametrize("flushed", [False, True])
    @pytest.mark.parametrize("point", ["before", *STEPS, "after"])
    def test_a_put_of_the_same_time_counts_by_who_wrote_last(
        self, store, at, rows_of, point, flushed
    ):
        """A put before the load gives way to it; one after its commit stays; verify agrees."""

        def put(step):
            if step == point:
                store.put("readings", {"station": "a", "time": at(1), "count": 1})
                if flushed and step not in ("noted", "files"):  # a flush waits for these
                    store.flush("readings")

        on_step(store, put)
        put("before")
        store.load("readings", {"station": ["a"], "time": [at(1)], "count": [2]}, key="k")
        put("after")

        expected = 2 if point in ("before", "staged") else 1
        assert store.get("readings", "a")["count"] == expected
        check(store, rows_of, [1, 2])

    def test_a_put_between_the_look_and_the_write_counts(self, store, at, rows_of, monkeypatch):
        original = store.online.get
        put = []

        def get(group, identifiers):
            found = original(group, identifiers)
            if not put:
                put.append(True)
                store.put("readings", {"station": "a", "time": at(1), "count": 1})
                store.put("readings", {"station": "b", "time": at(9), "count": 3})
            return found

        monkeypatch.setattr(type(store.online), "get", lambda self, *a: get(*a))
        rows = {"station": ["a", "b", "c"], "time": [at(1)] * 3, "count": [2, 4, 5]}
        store.load("readings", rows, key="k")
        monkeypatch.undo()
        found = [store.get("readings", name)["count"] for name in "abc"]
        assert found == [1, 3, 5]
        check(store, rows_of, range(1, 6))

    def test_deletes_around_a_load(self, store, at, rows_of):
        store.put("readings", {"station": "b", "time": at(5), "count": 1})
        store.delete("readings", "b", event_time=at(7))
        store.delete("readings", "c", event_time=at(6))
        store.delete("readings", "d", event_time=at(5), hard=True)
        rows = {"station": [*"abcd"], "time": [at(6)] * 4, "count": [2, 3, 4, 5]}
        on_step(
            store,
            lambda step: (
                step == "committed" and store.delete("readings", "a", event_time=at(6), hard=True)
            ),
        )
        store.load("readings", rows, key="k")
        assert [store.get("readings", name) is None for name in "abcd"] == [
            False,
            True,
            False,
            False,
        ]
        assert store.verify("readings").equal

    def test_a_second_load_of_the_same_times_counts(self, store, table, rows_of):
        store.put("readings", {"station": "x", "time": table["time"][0].as_py(), "count": 50})
        store.load("readings", table, key="first")
        other = table.set_column(3, "count", [list(range(100, 120))])
        store.load("readings", other, key="second")
        assert store.get("readings", "s3")["count"] == 118
        assert store.load("readings", table, key="first").already
        assert store.get("readings", "s3")["count"] == 118
        check(store, rows_of, [*range(20), *range(100, 120), 50])

    def test_a_load_that_is_finished_after_a_later_one_gives_way(self, store, table, rows_of):
        kill_at(store, "committed")
        with pytest.raises(Killed):
            store.load("readings", table, key="first")
        on_step(store, lambda step: None)
        other = table.set_column(3, "count", [list(range(100, 120))])
        store.load("readings", other, key="second")
        store.load("readings", table, key="first")
        assert store.get("readings", "s3")["count"] == 118
        check(store, rows_of, [*range(20), *range(100, 120)])

    def test_puts_flushes_and_maintenance_go_on(self, store, at, rows_of):
        rows = 30_000
        table = pa.table(
            {
                "station": [f"s{n % 1000}" for n in range(rows)],
                "time": [at(n % 50) for n in range(rows)],
                "count": list(range(rows)),
            }
        )
        stop = threading.Event()
        failed = []
        puts = [0]

        def others():
            try:
                while not stop.is_set():
                    n = puts[0]
                    record = {"station": f"s{n % 1000}", "time": at(n % 50), "count": -n - 1}
                    store.put("readings", record)
                    puts[0] = n + 1
                    if n % 50 == 0:
                        store.flush("readings")
                    if n % 170 == 0:
                        store.maintain("readings")
            except BaseException as error:  # noqa: BLE001  # shown by the test
                failed.append(error)

        thread = threading.Thread(target=others)
        thread.start()
        try:
            store.load("readings", table, key="k")
            store.backfill("readings")
        finally:
            stop.set()
            thread.join()
        assert failed == []
        check(store, rows_of, [*range(rows), *(-n - 1 for n in range(puts[0]))])

    def test_what_a_killed_load_left_is_removed_by_the_next(self, store, table):
        kill_at(store, "staged")
        with pytest.raises(Killed):
            store.load("readings", table, key="a")
        left = store.home / "loads" / "left.rows"
        left.mkdir()
        (left / "rows.parquet").touch()
        on_step(store, lambda step: None)
        store.load("readings", table, key="b")
        assert not left.exists()
