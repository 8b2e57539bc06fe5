"""A table that is kept open: it sees what others do to the table, as one opened anew does."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from featurestore import feature_definitions
from featurestore.convert import offline_schema
from featurestore.offline import DeltaOfflineTable, handle
from featurestore.offline.delta import TABLE_PROPERTIES

TIME = pa.timestamp("us", "UTC")

# Another process that does what it is told, line by line.
OTHER = """
import contextlib, sys
from pathlib import Path
import pyarrow as pa
from deltalake import DeltaTable
from featurestore.offline import DeltaOfflineTable, history, maintenance
import datetime as dt
from tests.featurestore.test_offline_handle import append, table_of

def clean(uri):
    table = DeltaTable(uri)
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    table.create_checkpoint()
    table.cleanup_metadata()

def maintain(uri):
    maintenance.maintain(table_of(uri), "group", identifier="station", retention=dt.timedelta(0),
                         spill=Path(uri).parent, flushes_paused=contextlib.nullcontext)

def restore(uri, version):
    history.restore(table_of(uri), version)

for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


def rows(sequence: int) -> pa.Table:
    time = pa.scalar(sequence, TIME)
    return pa.table(
        {
            "station": [f"s{sequence}"],
            "_event_time": pa.array([time], TIME),
            "write_time": pa.array([time], TIME),
            "_event_date": pa.array([dt.date(1970, 1, 1)], pa.date32()),
        }
    )


def table_of(uri: str) -> DeltaOfflineTable:
    return DeltaOfflineTable(uri)


def append(uri: str, sequence: int, application: str = "a") -> int:
    """Append one row as a flush does, if it is not in; return the table's version."""
    table = table_of(uri)
    if table.last_sequence(application) < sequence:
        return table.append(rows(sequence), application=application, sequence=sequence)
    return table.version()


def stations(uri: str) -> list[str]:
    read = [pq.ParquetFile(file).read(["station"]) for file in table_of(uri).scan().files]
    return sorted(pa.concat_tables(read)["station"].to_pylist()) if read else []


def named(*sequences: int) -> list[str]:
    return sorted(f"s{sequence}" for sequence in sequences)


@pytest.fixture
def uri(tmp_path) -> str:
    return str(tmp_path / "table")


@pytest.fixture
def opened(monkeypatch) -> Callable[[], int]:
    """Count how often this process opens a table."""
    count = 0
    inner = handle.open_table

    def counted(*arguments):
        nonlocal count
        count += 1
        return inner(*arguments)

    monkeypatch.setattr(handle, "open_table", counted)
    return lambda: count


@pytest.fixture(scope="module")
def other(run_python) -> Iterator[Callable[[str], object]]:
    process: subprocess.Popen[str] = run_python(["-c", OTHER])

    def tell(what: str) -> object:
        process.stdin.write(what + "\n")
        process.stdin.flush()
        return eval(process.stdout.readline())

    yield tell
    process.communicate()


def test_appends_open_a_table_once(uri, opened):
    for sequence in range(1, 9):
        assert append(uri, sequence) == sequence - 1
    assert stations(uri) == named(*range(1, 9))
    # Before there was a table, twice; and when its first commit was there.
    assert opened() == 3


def test_two_processes_append_in_turn(uri, other, opened):
    for sequence in range(1, 13, 2):
        assert append(uri, sequence) == sequence - 1
        assert other(f"append({uri!r}, {sequence + 1})") == sequence
        assert other(f"append({uri!r}, {sequence})") == sequence  # it is in
    assert stations(uri) == named(*range(1, 13))
    assert other(f"table_of({uri!r}).last_sequence('a')") == 12
    assert table_of(uri).last_sequence("a") == 12
    assert opened() == 3


def test_a_held_table_reads_the_log_once(uri, other, monkeypatch):
    append(uri, 1)
    looks = []
    inner = handle.OpenTable.catch_up
    monkeypatch.setattr(
        handle.OpenTable, "catch_up", lambda table: looks.append(table) or inner(table)
    )
    table = table_of(uri)
    with table.held():
        assert (table.last_sequence("a"), table.version()) == (1, 0)
        other(f"append({uri!r}, 2)")
        assert table.last_sequence("a") == 1
        assert len(table.scan().files) == 1
        assert len(looks) == 1
        other(
            f"table_of({uri!r}).open().alter.set_table_properties({{'delta.appendOnly': 'false'}})"
        )
        made = table.append(rows(3), application="a", sequence=3)
        assert made == 3, "it is tried again on the table as it is then"
        assert table.last_sequence("a") == 3
    assert table.version() == 3
    assert stations(uri) == named(1, 2, 3)


def test_a_checkpoint_is_made_use_of(uri, opened, monkeypatch):
    """Without that, each append would read one more commit than the last."""
    monkeypatch.setitem(TABLE_PROPERTIES, "delta.checkpointInterval", "4")
    for sequence in range(1, 9):
        append(uri, sequence)
    assert stations(uri) == named(*range(1, 9))
    assert opened() == 3 + 2


@pytest.mark.parametrize("commits", [1, 3, 5])
def test_a_table_that_was_made_anew_at_the_same_place(uri, other, commits):
    for sequence in range(1, 4):
        append(uri, sequence)
    shutil.rmtree(uri)
    made_anew = range(11, 11 + commits)
    for sequence in made_anew:
        other(f"append({uri!r}, {sequence}, 'b')")
    assert table_of(uri).last_sequence("a") == 0
    assert table_of(uri).version() == commits - 1
    assert append(uri, 1) == commits
    assert stations(uri) == named(1, *made_anew)


def test_a_table_that_was_deleted(uri):
    append(uri, 1)
    shutil.rmtree(uri)
    assert table_of(uri).version() is None
    assert table_of(uri).scan() is None
    assert table_of(uri).last_sequence("a") == 0
    assert append(uri, 1) == 0
    assert stations(uri) == named(1)


@pytest.mark.parametrize("here", [True, False])
def test_another_process_cleans_the_log_up(uri, other, here):
    """Up to where this process is, and beyond."""
    for sequence in range(1, 4):
        append(uri, sequence)
    if not here:
        for sequence in range(4, 8):
            other(f"append({uri!r}, {sequence})")
    last = 3 if here else 7
    other(f"clean({uri!r})")
    assert not os.path.exists(f"{uri}/_delta_log/{2:020}.json")
    assert table_of(uri).last_sequence("a") == last
    append(uri, last + 1)
    assert stations(uri) == named(*range(1, last + 2))
    assert other(f"table_of({uri!r}).last_sequence('a')") == last + 1


def test_another_process_maintains_the_table(uri, other):
    for sequence in range(1, 6):
        append(uri, sequence)
    other(f"maintain({uri!r})")
    assert table_of(uri).last_sequence("a") == 5
    assert len(table_of(uri).scan().files) == 1
    append(uri, 6)
    other(f"append({uri!r}, 7)")
    append(uri, 8)
    assert stations(uri) == named(*range(1, 9))


def test_another_process_restores_a_version(uri, other):
    for sequence in range(1, 5):
        append(uri, sequence)
    other(f"restore({uri!r}, 1)")
    assert stations(uri) == named(1, 2)
    # What the restore took out is not written again: the sequence stays.
    assert table_of(uri).last_sequence("a") == 4
    append(uri, 4)
    append(uri, 5)
    assert stations(uri) == named(1, 2, 5)


def test_the_properties_change_between_two_appends(uri, other):
    append(uri, 1)
    other(f"DeltaTable({uri!r}).alter.set_table_properties({{'delta.appendOnly': 'false'}})")
    assert append(uri, 2) == 2
    assert stations(uri) == named(1, 2)


def test_threads_append_to_one_table(uri):
    append(uri, 1, "first")

    def some(application: int) -> None:
        for sequence in range(1, 9):
            append(uri, 100 * application + sequence, f"t{application}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(some, range(4)))
    assert stations(uri) == named(1, *(100 * n + s for n in range(4) for s in range(1, 9)))
    assert table_of(uri).version() == 32


def test_a_forked_process_opens_its_own(uri, opened, monkeypatch):
    append(uri, 1)
    before = opened()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert table_of(uri).last_sequence("a") == 1
    assert opened() == before + 1


def test_only_some_are_kept(tmp_path, opened):
    tables = handle.OpenTables(kept=2)
    uris = [str(tmp_path / name) for name in "abc"]
    for uri in uris:
        append(uri, 1)
    before = opened()
    for uri in [*uris, uris[2], uris[0]]:
        with tables.newest(uri, None) as table:
            assert table.version == 0
    assert opened() == before + 4


def test_what_fails_is_not_kept(uri, opened):
    tables = handle.OpenTables()
    append(uri, 1)
    before = opened()
    with pytest.raises(KeyError), tables.newest(uri, None):
        raise KeyError
    with tables.newest(uri, None):
        pass
    assert opened() == before + 2


def test_the_log_has_statistics_of_what_readers_prune_by(uri, make_group):
    names = [(f"f{number}", "Fractional") for number in range(40)]
    group = make_group("wide", [("id", "String"), ("time", "String"), *names])
    made = pa.table({field.name: pa.nulls(1, field.type) for field in offline_schema(group)})
    for name in ("_event_time", "write_time", "_event_date"):
        place = made.schema.get_field_index(name)
        value = pa.array([20_000], pa.int32() if name == "_event_date" else pa.int64())
        made = made.set_column(place, name, value.cast(made.schema.field(name).type))
    table_of(uri).append(made, application="a", sequence=1)
    facts = table_of(uri).actions(DeltaTable(uri)).schema.names
    assert {name for name in facts if name.startswith("min.")} == {
        "min._event_time",
        "min.write_time",
    }


def test_maintenance_gives_older_tables_these_statistics(store, reading):
    store.put("readings", reading("JFK", 0))
    store.flush()
    table = store.offline_table(store.registry.get("readings"))
    every = {"delta.dataSkippingStatsColumns": "station,temp,_event_time"}
    table.open().alter.set_table_properties(every)
    store.add_features("readings", feature_definitions([("wind", "Fractional")]))
    for second in range(1, 5):
        store.put("readings", reading("JFK", second, wind=1.0))
        store.flush()
    assert "min.station" in table.actions(table.open()).schema.names
    store.maintain("readings")
    for second in range(5, 9):
        store.put("readings", reading("JFK", second, wind=1.0))
        store.flush()
    store.maintain("readings")
    assert "min.station" not in table.actions(table.open()).schema.names
    (known,) = table.scan().statistics
    assert known.rows == 9
    assert known.first_written_us is not None
