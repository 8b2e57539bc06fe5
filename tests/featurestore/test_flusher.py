"""The flush moves each entry into the Delta table exactly once, wherever it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from featurestore import FeatureGroup, feature_definitions
from featurestore.codec import DELETED, NEVER, OutboxEntry
from featurestore.convert import encode_record
from featurestore.errors import StoreUnavailable
from featurestore.offline import DeltaOfflineTable, Flushed, Flusher, OfflineTable, Snapshot
from featurestore.online import Batch, MemoryStore, Write
from featurestore.outbox import Outbox
from featurestore.registry import Registered

NUMBER = 7


class Killed(BaseException):
    """The process ends here."""


class Kill:
    """Ends the process the n-th time a point is passed."""

    def __init__(self, point: str = "", count: int = 1) -> None:
        self._point = point
        self._left = count

    def __call__(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                raise Killed


class KilledTable(OfflineTable):
    """A table around another that may end the process."""

    def __init__(self, table: OfflineTable, kill: Kill) -> None:
        self._table = table
        self._kill = kill

    def append(self, rows: pa.Table, *, application: str, sequence: int) -> int:
        self._kill("before append")
        version = self._table.append(rows, application=application, sequence=sequence)
        self._kill("after append")
        return version

    def last_sequence(self, application: str) -> int:
        return self._table.last_sequence(application)

    def version(self) -> int | None:
        return self._table.version()

    def scan(self, *, version: int | None = None) -> Snapshot | None:
        return self._table.scan(version=version)


class KilledOutbox(Outbox):
    """An outbox around another that may end the process."""

    def __init__(self, outbox: Outbox, kill: Kill) -> None:
        self._outbox = outbox
        self._kill = kill

    def read(self, group: int, *, after: int, limit: int) -> Sequence[OutboxEntry]:
        return self._outbox.read(group, after=after, limit=limit)

    def remove(self, group: int, *, through: int) -> int:
        self._kill("before remove")
        removed = self._outbox.remove(group, through=through)
        self._kill("after remove")
        return removed

    def pending(self, group: int | None = None) -> int:
        return self._outbox.pending(group)


class Home:
    """An outbox, a Delta table and the flushers of processes that come and go."""

    def __init__(self, folder, group: FeatureGroup, clock: Callable[[], int]) -> None:
        self.folder = folder
        self.group = group
        self.clock = clock
        self.online = MemoryStore()
        self.table = DeltaOfflineTable(str(folder / "table"))
        self.count = 0

    def put(self, count: int = 1, *, number: int = NUMBER, **features: object) -> None:
        writes = []
        for _ in range(count):
            self.count += 1
            record = {"station": f"s{self.count % 3}", "count": self.count, **features}
            writes.append(
                Write(number, b"id", self.count, encode_record(record), 0, NEVER, 1, self.clock())
            )
        self.online.put([Batch(writes)])

    def registered(self) -> Registered:
        return Registered(NUMBER, self.group, 1, 0, 0, "table")

    def flush(self, kill: Kill | None = None, **options: int) -> Flushed:
        kill = kill or Kill()
        flusher = Flusher(
            KilledOutbox(self.online.outbox, kill),
            application=f"test:{self.online.store_id}",
            locks=self.folder / "locks",
            now=self.clock,
        )
        return flusher.flush(self.registered, KilledTable(self.table, kill), **options)

    def rows(self) -> list[dict[str, object]]:
        table = pa.table(DeltaTable(str(self.folder / "table")).to_pyarrow_table())
        return table.sort_by("_sequence").to_pylist()

    def counts(self) -> list[object]:
        return [row["count"] for row in self.rows()]


@pytest.fixture
def home(tmp_path, readings, clock):
    return Home(tmp_path, readings, clock)


def test_a_flush_moves_what_waits(home):
    home.put(3, temp=1.5)
    assert home.flush() == Flushed(3, 0)
    assert home.counts() == [1, 2, 3]
    assert home.online.outbox.pending() == 0
    assert home.flush() == Flushed(0, 0)
    home.put(2)
    assert home.flush() == Flushed(2, 1)
    assert home.counts() == [1, 2, 3, 4, 5]


def test_a_flush_of_nothing_makes_no_table(home):
    assert home.flush() == Flushed(0, None)
    assert not (home.folder / "table").exists()


def test_other_groups_wait_on(home):
    home.put(2)
    home.put(1, number=8)
    home.flush()
    assert home.counts() == [1, 2]
    assert home.online.outbox.pending(8) == 1


def test_a_flush_goes_in_slices(home):
    home.put(5)
    assert home.flush(slice_records=2) == Flushed(5, 2)
    assert home.counts() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize(
    "point", ["before append", "after append", "before remove", "after remove"]
)
def test_a_kill_at_any_point_loses_and_doubles_nothing(home, point, slices):
    home.put(5)
    with pytest.raises(Killed):
        home.flush(Kill(point, slices), slice_records=2)
    home.put(2)  # life goes on before the next flush
    flushed = home.flush(slice_records=2)
    assert home.counts() == [1, 2, 3, 4, 5, 6, 7]
    assert home.online.outbox.pending() == 0
    committed = 2 * slices if point != "before append" else 2 * (slices - 1)
    assert flushed.records == 7 - min(committed, 5)
    assert home.flush() == Flushed(0, flushed.version)


@pytest.mark.parametrize("point", ["before append", "after append", "before remove"])
def test_a_kill_after_a_kill(home, point):
    home.put(4)
    for _ in range(3):
        with pytest.raises(Killed):
            home.flush(Kill(point), slice_records=1)
    home.flush()
    assert home.counts() == [1, 2, 3, 4]
    assert home.online.outbox.pending() == 0


def test_a_kill_between_commit_and_removal_is_cleaned_up_even_if_nothing_new_waits(home):
    home.put(2)
    with pytest.raises(Killed):
        home.flush(Kill("before remove"))
    assert home.online.outbox.pending() == 2
    assert home.flush() == Flushed(0, 0)
    assert home.online.outbox.pending() == 0


def test_an_error_of_the_table_leaves_the_entries_waiting(home):
    class Gone(KilledTable):
        def append(self, rows: pa.Table, *, application: str, sequence: int) -> int:
            raise StoreUnavailable("the table cannot be reached")

    home.put(2)
    flusher = Flusher(home.online.outbox, application="a", locks=home.folder / "locks")
    with pytest.raises(StoreUnavailable):
        flusher.flush(home.registered, Gone(home.table, Kill()))
    assert home.online.outbox.pending() == 2
    home.flush()
    assert home.counts() == [1, 2]


def test_a_new_online_store_begins_again_in_the_old_table(home):
    home.put(3)
    home.flush()
    home.online = MemoryStore()  # rebuilt: its sequence starts from 1
    home.put(2)
    assert home.flush() == Flushed(2, 1)
    assert sorted(home.counts()) == [1, 2, 3, 4, 5]


# -- columns ----------------------------------------------------------------------------------


def test_the_row_of_a_record_and_of_a_marker(home, clock):
    values = {"station": "JFK", "time": "t", "temp": 1.5}
    home.online.put(
        [
            Batch(
                [
                    Write(NUMBER, b"JFK", 5, encode_record(values), 0, 9, 1, clock() - 1),
                    Write(
                        NUMBER, b"JFK", 6, encode_record({"station": "JFK"}), DELETED, NEVER, 1, 2
                    ),
                ]
            )
        ]
    )
    clock.advance(1)
    home.flush()
    record, marker = home.rows()
    assert (record["station"], record["temp"], record["note"]) == ("JFK", 1.5, None)
    assert (record["is_deleted"], marker["is_deleted"]) == (False, True)
    assert (marker["station"], marker["temp"]) == ("JFK", None)
    assert [record["_sequence"], marker["_sequence"]] == [1, 2]
    assert record["_expires_at"].timestamp() * 1e6 == 9
    assert marker["_expires_at"] is None
    assert record["write_time"].timestamp() * 1e6 == clock()
    assert record["api_invocation_time"] < record["write_time"]


def test_a_feature_added_later_is_a_new_column(home, readings):
    home.put(2)
    home.flush()
    home.group = readings.with_features(feature_definitions([("wind", "Fractional")]))
    home.put(1, wind=2.5)
    home.flush()
    assert [row["wind"] for row in home.rows()] == [None, None, 2.5]
    home.put(1)
    home.flush()
    assert [row["wind"] for row in home.rows()] == [None, None, 2.5, None]


def test_entries_of_two_versions_in_one_slice(home, readings):
    home.put(1)
    home.group = readings.with_features(feature_definitions([("wind", "Integral")]))
    home.put(1, wind=3)
    assert home.flush() == Flushed(2, 0)
    assert [row["wind"] for row in home.rows()] == [None, 3]


def test_the_definition_is_asked_for_after_the_entries_were_read(home, readings):
    wide = readings.with_features(feature_definitions([("wind", "Integral")]))
    definitions = iter([readings, wide, wide])

    def current() -> Registered:
        return Registered(NUMBER, next(definitions), 1, 0, 0, "table")

    # Another process adds the feature and puts between our first look and the read.
    home.put(1, wind=3)
    flusher = Flusher(home.online.outbox, application="a", locks=home.folder / "locks")
    assert flusher.flush(current, home.table) == Flushed(1, 0)
    assert [row["wind"] for row in home.rows()] == [3]


# -- write times ------------------------------------------------------------------------------


def test_later_flushes_have_later_write_times(home, clock):
    for step in range(6):
        # The clock stands still, goes on, and is set back; each flush is another process.
        clock.advance([0, 0, 1, -3600, 0, 7200][step])
        home.put(1)
        home.flush()
    times = [row["write_time"] for row in home.rows()]
    assert times == sorted(set(times))


def test_write_times_rise_through_kills_and_slices(home, clock):
    home.put(4)
    with pytest.raises(Killed):
        home.flush(Kill("after append", 2), slice_records=1)
    clock.advance(-60)
    home.flush(slice_records=1)
    times = [row["write_time"] for row in home.rows()]
    assert len(times) == 4
    assert times == sorted(set(times))


@pytest.mark.parametrize("content", [b"", b"\0" * 20, b"text that is no number", b"12"])
def test_a_lock_file_of_any_content_is_good_enough(home, clock, content):
    locks = home.folder / "locks"
    locks.mkdir()
    (locks / f"flush-{NUMBER}.lock").write_bytes(content)
    home.put(1)
    home.flush()
    assert home.rows()[0]["write_time"].timestamp() * 1e6 == clock()


# -- two at once ------------------------------------------------------------------------------

FLUSH = """
import sys
from pathlib import Path
import featurestore
from featurestore.offline import Flusher
home = Path(sys.argv[2])
store = featurestore.open(home)
entry = store.registry.get("readings")
flusher = Flusher(store.online.outbox, application=sys.argv[3], locks=home / "locks")
print("ready", flush=True)
sys.stdin.readline()
for round in range(4):
    for step in range(10):
        store.put("readings", {"station": sys.argv[1], "time": f"2024-01-01T00:00:{step:02d}Z"})
    flushed = flusher.flush(lambda: store.registry.get("readings"), store.offline_table(entry),
                            slice_records=7)
    print(flushed.records)
"""


def test_two_processes_that_flush_at_once(run_both, store, reading, rows_of):
    for step in range(50):
        store.put("readings", reading("JFK", step))
    application = f"featureline:{store.online.store_id}"
    answers = run_both(FLUSH, str(store.home), application)
    store.flush()
    rows = rows_of(store)
    assert [row["_sequence"] for row in rows] == list(range(1, 131))
    assert sum(int(line) for answer in answers for line in answer) == 130
    assert store.verify("readings").equal


def test_a_flush_ends_although_others_put_meanwhile(home):
    home.put(3)

    def put_one(point: str) -> None:
        if point == "after append":
            home.put()

    assert home.flush(put_one).records == 3
    assert home.online.outbox.pending(NUMBER) == 1
    assert home.flush().records == 1
