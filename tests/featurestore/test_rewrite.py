"""Sorted files in place of others: the same rows, whoever writes or is killed meanwhile."""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import feature_definitions
from featurestore.offline import rewrite
from featurestore.offline.files import ORDER_KEY, order_of
from featurestore.offline.rewrite import active_files, rewrite_sorted
from featurestore.sortedruns import in_order

TIME = pa.timestamp("us", "UTC")


@pytest.fixture
def table(store):
    return store.offline_table(store.registry.get("readings"))


@pytest.fixture
def filled(store, reading):
    """Four flushes: records in no order, some of one time, a delete marker, two event dates."""
    for number in range(4):
        rows = [reading(name, 10 - number, count=number) for name in "bac"]
        rows += [reading("a", 50, count=number), reading("z", number - 86_400, count=number)]
        store.put_table("readings", pa.Table.from_pylist(rows))
        if number == 3:
            store.delete("readings", "c", event_time=reading("c", 11)["time"])
        store.flush("readings")
    return store


@pytest.fixture
def sort(filled, table, tmp_path):
    """Rewrite all files of the table."""
    spill = tmp_path / "rewrite-spill"
    spill.mkdir()

    def run(**options) -> bool:
        done = rewrite_sorted(
            table,
            active_files(table, table.open()),
            identifier="station",
            spill=spill,
            **{"flushes_paused": contextlib.nullcontext} | options,
        )
        assert not list(spill.iterdir())
        return done

    return run


@pytest.fixture
def meanwhile(monkeypatch):
    """Do something when the new files are written, before each try to commit them."""

    def set_up(action) -> list[int]:
        tries: list[int] = []
        inner = rewrite.active_files

        def look(table, opened):
            found = inner(table, opened)
            tries.append(len(tries) + 1)
            action(len(tries))
            return found

        monkeypatch.setattr(rewrite, "active_files", look)
        monkeypatch.setattr(rewrite, "_WAIT_S", 0.0)
        return tries

    return set_up


def parquet_files(store) -> set[str]:
    return {path.name for path in (store.home / "offline").rglob("*.parquet")} - {
        path.name for path in (store.home / "offline").rglob("*.checkpoint.parquet")
    }


def test_rows_are_in_the_order_of_versions(filled, sort, table, rows_of):
    before = rows_of(filled)
    assert len(before) == 21
    assert sort()
    assert rows_of(filled) == before
    assert filled.verify("readings").equal
    snapshot = table.scan()
    assert len(snapshot.files) == 2
    for path, known in zip(snapshot.files, snapshot.statistics, strict=True):
        with pq.ParquetFile(path) as file:
            assert file.metadata.metadata[ORDER_KEY] == order_of("station")
            rows = file.read().to_pylist()
        keys = [
            (r["station"], r["_event_time"], not r["is_deleted"], r["write_time"], r["_sequence"])
            for r in rows
        ]
        assert keys == sorted(keys)
        assert known.rows == len(rows)
        written = [row["write_time"].timestamp() * 1e6 for row in rows]
        assert 0 <= min(written) - known.first_written_us <= 2_000
    assert sum(row["is_deleted"] for row in before) == 1, "a delete stays a marker"


def test_it_is_no_change_of_data(filled, sort, table):
    version = table.version()
    sort()
    assert filled.versions("readings")[0].operation == "OPTIMIZE"
    log = Path(table.uri, "_delta_log", f"{version + 1:020}.json").read_text()
    assert '"dataChange":false' in log
    assert '"dataChange":true' not in log
    assert table.last_sequence(f"featureline:{filled.online.store_id}") == 21


def test_an_erasure_reaches_sorted_files(filled, sort, rows_of):
    sort()
    left = [row for row in rows_of(filled) if row["station"] != "b"]
    assert filled.erase("readings", "b").rows == 4
    assert rows_of(filled) == left


def test_little_memory_gives_the_same_files(filled, sort, table, monkeypatch):
    monkeypatch.setattr("featurestore.sortedruns._FAN_IN", 2)
    monkeypatch.setattr(rewrite, "_BATCH_ROWS", 3)
    assert sort()
    whole = [pq.read_table(path, partitioning=None) for path in table.scan().files]
    assert sort(memory_bytes=8)
    pieces = [pq.read_table(path, partitioning=None) for path in table.scan().files]
    assert sorted(map(str, (t.to_pylist() for t in pieces))) == sorted(
        map(str, (t.to_pylist() for t in whole))
    )


@settings(max_examples=25)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=40),
    batch_rows=st.integers(1, 10),
    piece_bytes=st.sampled_from([1, 200, 1 << 20]),
)
def test_pieces_are_merged_in_order(rows, batch_rows, piece_bytes):
    table = pa.table({"k": [k for k, _ in rows], "n": pa.array([n for _, n in rows], pa.int64())})
    with tempfile.TemporaryDirectory() as folder:
        sorted_tables = in_order(
            table.to_batches(batch_rows),
            arranged=lambda piece: piece.sort_by([("k", "ascending"), ("n", "ascending")]),
            keys=lambda block: [block.column("k"), block.column("n")],
            piece_bytes=piece_bytes,
            spill=Path(folder),
        )
        found = [(r["k"], r["n"]) for part in sorted_tables for r in part.to_pylist()]
        assert not list(Path(folder).iterdir())
    assert found == sorted(rows)


# -- beside others --------------------------------------------------------------------------------


def test_what_is_flushed_meanwhile_stays(filled, sort, table, reading, rows_of, meanwhile):
    def flush(attempt: int) -> None:
        if attempt < 3:
            filled.put("readings", reading("new", attempt, count=attempt))
            filled.flush("readings")

    tries = meanwhile(flush)
    assert sort()
    assert tries == [1, 2, 3], "on the version that was looked at, or not at all"
    assert [r["count"] for r in rows_of(filled) if r["station"] == "new"] == [1, 2]
    assert len(rows_of(filled)) == 23
    assert len(table.scan().files) == 4
    assert filled.verify("readings").equal


def test_flushes_wait_where_they_come_first_each_time(filled, sort, reading, rows_of, meanwhile):
    paused: list[bool] = []

    @contextlib.contextmanager
    def hold():
        paused.append(True)
        yield
        paused.clear()

    def flush(attempt: int) -> None:
        if not paused:
            filled.put("readings", reading("new", attempt))
            filled.flush("readings")

    tries = meanwhile(flush)
    assert sort(flushes_paused=hold)
    assert len(tries) == rewrite._TRIES
    assert len(rows_of(filled)) == 21 + rewrite._TRIES - 1


def test_a_column_that_is_added_meanwhile(filled, sort, reading, rows_of, meanwhile):
    def widen(attempt: int) -> None:
        if attempt == 1:
            filled.add_features("readings", feature_definitions([("wind", "Fractional")]))
            filled.put("readings", reading("new", 1, wind=2.5))
            filled.flush("readings")

    meanwhile(widen)
    assert sort()
    rows = rows_of(filled)
    assert len(rows) == 22
    assert [row["wind"] for row in rows if row["wind"] is not None] == [2.5]
    assert sort(), "old files, which lack the column, and new ones"
    assert rows_of(filled) == rows


@pytest.mark.parametrize("other", ["rewrite", "erasure", "restore"])
def test_files_that_another_has_taken_out_do_not_come_back(
    filled, sort, table, rows_of, meanwhile, tmp_path, other
):
    spill = tmp_path / "other-spill"
    spill.mkdir()
    after: list[object] = []

    def take_out(attempt: int) -> None:
        if after:
            return
        after.append(None)
        if other == "rewrite":
            assert rewrite_sorted(
                table,
                active_files(table, table.open()),
                identifier="station",
                spill=spill,
                flushes_paused=contextlib.nullcontext,
            )
        elif other == "erasure":
            filled.erase("readings", "a")
        else:
            filled.restore("readings", 0)
        after[:] = [rows_of(filled)]

    meanwhile(take_out)
    assert sort() is False
    assert [rows_of(filled)] == after
    names = {Path(path).name for path in table.scan().files}
    sorted_ones = {name for name in parquet_files(filled) if "sorted" in name}
    assert sorted_ones <= names, "the files that came to nothing are gone"


def test_a_commit_whose_answer_is_lost(filled, sort, rows_of, monkeypatch):
    before = rows_of(filled)
    inner = DeltaTable.create_write_transaction

    def lose(*arguments, **options):
        inner(*arguments, **options)
        raise CommitFailedError("the answer was lost")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", lose)
    assert sort()
    assert rows_of(filled) == before


def test_a_commit_that_fails_leaves_nothing(filled, sort, rows_of, monkeypatch):
    before, files = rows_of(filled), parquet_files(filled)
    monkeypatch.setattr(rewrite, "_WAIT_S", 0.0)

    def fail(*arguments, **options):
        raise CommitFailedError("no")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", fail)
    with pytest.raises(CommitFailedError):
        sort()
    assert rows_of(filled) == before
    assert parquet_files(filled) == files


KILLED = """
import os, signal, sys
import featurestore
from featurestore.offline import rewrite

inner = rewrite._commit
def commit(*arguments):
    if sys.argv[2] == "after":
        inner(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
rewrite._commit = commit
with featurestore.open(sys.argv[1]) as store:
    store.maintain("readings")
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_leaves_the_old_files_or_the_new_ones(filled, table, rows_of, run_python, moment):
    before, files = rows_of(filled), set(table.scan().files)
    process = run_python(["-c", KILLED, str(filled.home), moment])
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert rows_of(filled) == before
    assert (set(table.scan().files) == files) == (moment == "before")
    report = filled.maintain("readings", retention=dt.timedelta(0))
    assert (report.files_after, len(parquet_files(filled))) == (2, 2), "orphans are vacuumed"
    assert rows_of(filled) == before
    assert filled.verify("readings").equal


def test_identifiers_of_other_types(store, make_group):
    for kind, values in (("Integral", [3, -(2**63), 2**63 - 1, 0]), ("Fractional", [1.5, -1e300])):
        name = kind.lower()
        store.create_feature_group(make_group(name, [("id", kind), ("t", "Fractional")]))
        for _ in range(4):
            for value in values:
                store.put(name, {"id": value, "t": 1.0})
            store.flush(name)
        store.maintain(name)
        table = store.offline_table(store.registry.get(name))
        (path,) = table.scan().files
        found = pq.ParquetFile(path).read(["id"])["id"].to_pylist()
        assert found == sorted(values * 4)
        spine = pa.table({"id": values, "event_time": pa.array([2_000_000] * len(values), TIME)})
        seen = store.dataset(spine, [store.group(name)["t"]]).table["t"].to_pylist()
        assert seen == [1.0] * len(values)
