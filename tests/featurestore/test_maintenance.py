"""Maintenance rewrites files and changes no row, whoever writes, reads or is killed meanwhile."""

from __future__ import annotations

import datetime as dt
import os
import signal
import time

import pyarrow as pa
import pytest
from deltalake import DeltaTable

import lineage
from featurestore import InvalidRequest, feature_definitions
from featurestore.errors import StoreUnavailable
from featurestore.offline.maintenance import Rewrite, _batches, _plan, plan
from featurestore.offline.rewrite import ActiveFile

NOTHING_KEPT = dt.timedelta(0)
DAY_S = 86_400


def fill(store, reading, commits: int, *, first: int = 0, days: int = 1) -> None:
    """Put and flush, one record per day and commit."""
    for number in range(first, first + commits):
        for day in range(days):
            second = number - day * DAY_S
            store.put("readings", reading(f"s{number % 7}", second, count=number))
        store.flush("readings")


def data_files(store) -> set[str]:
    root = store.home / "offline" / "readings"
    return {str(path.relative_to(root)) for path in root.glob("_event_date=*/*.parquet")}


@pytest.fixture
def table(store):
    return store.offline_table(store.registry.get("readings"))


def test_small_files_become_one_per_date(store, reading, rows_of, table):
    fill(store, reading, 6, days=2)
    before = rows_of(store)
    assert [(len(r.files), r.is_whole) for r in plan(table)] == [(6, True), (6, True)]
    report = store.maintain("readings")
    assert (report.group, report.dates) == ("readings", 2)
    assert (report.files_before, report.files_after) == (12, 2)
    assert 0 < report.bytes_after < report.bytes_before
    assert report.files_removed == 0  # they are younger than the retention
    assert rows_of(store) == before
    assert store.verify("readings").equal


def test_a_second_maintenance_finds_nothing_to_do(store, reading, table):
    fill(store, reading, 5)
    first = store.maintain("readings", retention=NOTHING_KEPT)
    assert first.files_removed == 5
    second = store.maintain("readings", retention=NOTHING_KEPT)
    assert (second.version, second.dates, second.files_removed) == (first.version, 0, 0)
    assert plan(table) == []
    assert len(data_files(store)) == 1


def test_few_small_files_are_left_alone(store, reading):
    fill(store, reading, 3)
    assert store.maintain("readings").dates == 0


def test_the_last_sequence_is_kept_through_rewrite_checkpoint_and_vacuum(store, reading, table):
    fill(store, reading, 5)
    application = f"featureline:{store.online.store_id}"
    assert table.last_sequence(application) == 5
    store.maintain("readings", retention=NOTHING_KEPT)
    log = store.home / "offline" / "readings" / "_delta_log"
    assert list(log.glob("*.checkpoint.parquet"))
    assert table.last_sequence(application) == 5
    fill(store, reading, 1, first=5)
    assert table.last_sequence(application) == 6


def test_the_rows_of_a_date_are_sorted_by_identifier(store, reading, table):
    fill(store, reading, 8)
    store.maintain("readings")
    (file,) = table.scan().files
    stations = pa.parquet.ParquetFile(file).read(columns=["station"])["station"].to_pylist()
    assert stations == sorted(stations)


def test_without_zorder_files_are_only_put_together(store, reading, rows_of, table):
    fill(store, reading, 8)
    before = rows_of(store)
    report = store.maintain("readings", zorder=False)
    assert (report.files_after, rows_of(store)) == (1, before)
    assert plan(table, zorder=False) == []


def test_columns_that_came_later_are_null_in_rewritten_files(store, reading, rows_of):
    fill(store, reading, 3)
    store.add_features("readings", feature_definitions([("wind", "Fractional")]))
    for second in (10, 11):
        store.put("readings", reading("JFK", second, wind=2.5))
        store.flush()
    before = rows_of(store)
    store.maintain("readings", retention=NOTHING_KEPT)
    assert rows_of(store) == before
    assert [row["wind"] for row in before] == [None, None, None, 2.5, 2.5]
    assert store.verify("readings").equal


def test_a_group_without_rows(store):
    report = store.maintain("readings")
    assert (report.version, report.files_after) == (None, 0)


def test_what_cannot_be_maintained_is_refused(store, make_group):
    with pytest.raises(InvalidRequest, match="expected 0 or more"):
        store.maintain("readings", retention=-dt.timedelta(hours=1))
    store.create_feature_group(
        make_group("hot", [("id", "String"), ("time", "String")], offline=False)
    )
    with pytest.raises(InvalidRequest, match="no offline store"):
        store.maintain("hot")


def test_large_files_are_not_rewritten_for_small_ones():
    big, small = 120 << 20, 1 << 20
    large = [ActiveFile(f"large-{n}", "2024-01-01", big, None) for n in range(10)]
    few = [ActiveFile(f"small-{n}", "2024-01-01", small, None) for n in range(5)]
    assert _plan([*large, *few], zorder=True) == [Rewrite("2024-01-01", tuple(few), False)]
    assert _plan(large, zorder=True) == []


def test_a_commit_rewrites_a_bounded_amount():
    files = [
        ActiveFile(f"{day}-{n}", f"d{day:03d}", 40 << 20, None)
        for day in range(10)
        for n in range(5)
    ]
    batches = list(_batches(_plan(files, zorder=True)))
    assert [len(batch) for batch in batches] == [2, 2, 2, 2, 2]
    assert len({rewrite.date for batch in batches for rewrite in batch}) == 10


# -- retention --------------------------------------------------------------------------------


def test_a_dataset_of_a_pinned_version_is_readable_within_the_retention(store, reading, at):
    fill(store, reading, 6)
    spine = pa.table({"station": ["s1", "s2"], "event_time": [at(100), at(100)]})
    made = store.dataset(spine, ["readings"])
    fill(store, reading, 6, first=6)
    store.maintain("readings")
    (resolved,) = store.resolve_manifest(made.manifest)
    again = store.dataset(spine, [resolved.selection])
    assert again.fingerprint == made.fingerprint
    store.maintain("readings", retention=NOTHING_KEPT)
    with pytest.raises(InvalidRequest, match="a vacuum took its files away"):
        store.resolve_manifest(made.manifest)


def test_where_nothing_may_go_the_lineage_is_not_asked(store, reading):
    fill(store, reading, 2)
    store.maintain("readings")
    lineage_file = store.home / "lineage.db"
    store.__dict__.pop("graph").close()
    lineage_file.unlink()
    lineage_file.mkdir()  # so that it cannot be opened
    report = store.maintain("readings")
    assert (report.dates, report.files_removed) == (0, 0)
    with pytest.raises(lineage.NotALineageFile):
        store.maintain("readings", retention=NOTHING_KEPT)


def test_what_something_in_use_has_read_stays_readable(store, reading, at):
    fill(store, reading, 4)
    spine = pa.table({"station": ["s1", "s2"], "event_time": [at(100), at(100)]})
    made = store.dataset(spine, ["readings"])
    (version,) = made.manifest["versions"].values()
    (data,) = store.graph.find(type="DataSet")
    store.graph.record(tags=[(data, "keep", "")], kind="Kept")
    fill(store, reading, 4, first=4)
    unused = store.versions("readings")[0].version
    fill(store, reading, 1, first=8)
    assert store.maintain("readings", retention=NOTHING_KEPT).files_removed == 5
    # The log forgets what is so old, and needs its commits back to the first.
    long_ago = time.time() - 40 * DAY_S
    for file in (store.home / "offline" / "readings" / "_delta_log").iterdir():
        os.utime(file, (long_ago, long_ago))
    fill(store, reading, 6, first=9)
    assert store.maintain("readings", retention=NOTHING_KEPT).dates == 1
    with pytest.raises(InvalidRequest, match="a vacuum took its files away"):
        store.history("readings", version=unused)
    (resolved,) = store.resolve_manifest(made.manifest)
    assert store.dataset(spine, [resolved.selection]).fingerprint == made.fingerprint
    assert store.history("readings", version=version).read_all().num_rows == 4
    properties = DeltaTable(store.offline_uri("readings")).metadata().configuration
    assert properties["delta.logRetentionDuration"] == f"interval {64 * DAY_S} seconds"
    newest = store.versions("readings")[0].version
    assert store.maintain("readings", retention=NOTHING_KEPT).version == newest

    store.graph.record(tags=[(data, "keep", None)], kind="Released")
    assert store.maintain("readings", retention=NOTHING_KEPT).files_removed == 4
    with pytest.raises(InvalidRequest, match="a vacuum took its files away"):
        store.resolve_manifest(made.manifest)


def test_files_of_a_killed_writer_go_when_they_are_old(store, reading):
    fill(store, reading, 1)
    (kept,) = data_files(store)
    folder = (store.home / "offline" / "readings" / kept).parent
    young, old = folder / "part-young.parquet", folder / "part-old.parquet"
    for orphan in (young, old):
        orphan.write_bytes(b"left by a kill")
    eight_days_ago = time.time() - 8 * DAY_S
    os.utime(old, (eight_days_ago, eight_days_ago))
    assert store.maintain("readings").files_removed == 1
    assert young.exists()
    assert not old.exists()


def test_the_log_forgets_no_version_before_the_vacuum_does(store, reading):
    fill(store, reading, 4)
    store.maintain("readings", retention=dt.timedelta(days=90))
    kept = DeltaTable(store.offline_uri("readings")).metadata().configuration
    assert kept["delta.logRetentionDuration"] == f"interval {90 * DAY_S} seconds"
    assert kept["delta.deletedFileRetentionDuration"] == f"interval {90 * DAY_S} seconds"


# -- beside others, and killed ----------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", ["rewrite", "checkpoint", "vacuum"])
def test_a_kill_before_any_step_changes_no_row(store, reading, rows_of, step):
    fill(store, reading, 5)
    before = rows_of(store)

    def kill(name: str) -> bool:
        if name == step:
            raise Killed
        return True

    with pytest.raises(Killed):
        store.maintain("readings", retention=NOTHING_KEPT, pause=kill)
    assert rows_of(store) == before
    report = store.maintain("readings", retention=NOTHING_KEPT)
    assert (rows_of(store), report.files_after, report.files_removed) == (before, 1, 5)


def test_flushes_between_the_steps_are_kept(store, reading, rows_of):
    fill(store, reading, 5)
    number = iter(range(5, 50))

    def flush(step: str) -> bool:
        fill(store, reading, 1, first=next(number))
        return True

    store.maintain("readings", retention=NOTHING_KEPT, pause=flush)
    assert [row["count"] for row in rows_of(store)] == list(range(8))
    assert store.verify("readings").equal


def test_a_pause_that_says_so_ends_it(store, reading):
    fill(store, reading, 5)
    report = store.maintain("readings", retention=NOTHING_KEPT, pause=lambda step: False)
    assert (report.dates, report.files_after, report.files_removed) == (0, 5, 0)


def test_a_table_that_cannot_be_read_says_so(store, reading):
    fill(store, reading, 4)
    for entry in (store.home / "offline" / "readings" / "_delta_log").glob("*.json"):
        entry.write_text("no json")
    with pytest.raises(StoreUnavailable, match="offline table"):
        store.maintain("readings")


MAINTAIN = """
import datetime as dt, sys
import featurestore
with featurestore.open(sys.argv[1]) as store:
    print("ready", flush=True)
    while True:
        store.maintain("readings", retention=dt.timedelta(0))
"""
FLUSH = """
import sys
import featurestore
with featurestore.open(sys.argv[1]) as store:
    print("ready", flush=True)
    for number in range(int(sys.argv[2]), int(sys.argv[2]) + 100_000):
        minutes, second = divmod(number, 60)
        time = f"2024-01-01T{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}Z"
        store.put("readings", {"station": f"s{number % 5}", "time": time, "count": number})
        print(number, flush=True)
        store.flush("readings")
"""


def test_kills_of_maintenance_and_flusher_beside_each_other(
    run_python, make_store, readings, rows_of, tmp_path
):
    home = tmp_path / "home"
    with make_store(home) as store:
        store.create_feature_group(readings)
    told: list[int] = []
    for life in range(4):
        maintainer = run_python(["-c", MAINTAIN, str(home)])
        flusher = run_python(["-c", FLUSH, str(home), str(max(told, default=-1) + 2)])
        assert maintainer.stdout is not None
        assert flusher.stdout is not None
        assert [maintainer.stdout.readline(), flusher.stdout.readline()] == ["ready\n"] * 2
        told += [int(flusher.stdout.readline()) for _ in range(2)]
        time.sleep(0.07 * life)
        for process in (maintainer, flusher) if life % 2 else (flusher, maintainer):
            os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in flusher.stdout.read().split()]
        flusher.communicate()
        maintainer.communicate()
    with make_store(home) as store:
        store.flush()
        store.maintain("readings", retention=NOTHING_KEPT)
        counts = [row["count"] for row in rows_of(store)]
        assert len(counts) == len(set(counts)), "each is offline once"
        assert set(counts) >= set(told)
        assert len(counts) <= len(told) + 4
        assert store.verify("readings").equal
