"""kill -9 at each point of a flush and of maintenance: the points are set in the child process."""

from __future__ import annotations

import signal
import threading

import duckdb
import pyarrow as pa
import pytest

from featurestore import StoreUnavailable

# Arguments: the home, the point, and at which passing of it the process ends itself.
POINTS = """
import datetime as dt, os, signal, sys
from pathlib import Path
import featurestore
from featurestore.offline import DeltaOfflineTable, Flusher, delta, maintenance
home, point, left = sys.argv[1], sys.argv[2], int(sys.argv[3])

def passed(name):
    global left
    if name == point:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name, label):
    inner = getattr(owner, name)
    def called(*arguments, **options):
        passed("before " + label)
        answer = inner(*arguments, **options)
        passed("after " + label)
        return answer
    setattr(owner, name, called)

store = featurestore.open(home)
around(delta, "write_deltalake", "write")
around(type(store.online.outbox), "remove", "removal")
around(maintenance, "rewrite_sorted", "rewrite")
around(maintenance, "_keep_log", "properties")
around(maintenance, "_vacuum", "vacuum")
around(maintenance, "_remove_empty_folders", "folders")
"""
FLUSH = (
    POINTS
    + """
entry = store.registry.get("readings")
flusher = Flusher(store.online.outbox, application=f"featureline:{store.online.store_id}",
                  locks=Path(home) / "locks")
flusher.flush(lambda: entry, store.offline_table(entry), slice_records=3)
print("done")
"""
)
MAINTAIN = (
    POINTS
    + """
store.maintain("readings", retention=dt.timedelta(0), pause=lambda step: passed(step) or True)
print("done")
"""
)
ENDLESS_FLUSH = """
import sys
import featurestore
with featurestore.open(sys.argv[1]) as store:
    for number in range(100_000):
        minutes, second = divmod(number, 60)
        time = f"2024-01-{1 + number % 2:02d}T{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}Z"
        store.put("readings", {"station": f"s{number % 5}", "time": time, "count": number})
        store.flush("readings")
        print(number, flush=True)
        if sys.stdin.readline() != "on\\n":
            break
"""


def killed(run_python, *arguments: str) -> bool:
    process = run_python(["-c", *arguments])
    output, _ = process.communicate(timeout=60)
    assert (process.returncode == -signal.SIGKILL) != (output == "done\n")
    return bool(process.returncode == -signal.SIGKILL)


@pytest.mark.parametrize("point", ["before write", "after write", "before removal"])
def test_a_flush_killed_at_a_point_loses_and_doubles_nothing(
    run_python, store, reading, rows_of, point
):
    count = 0
    for time in (1, 3, 2):
        for _ in range(9):
            store.put("readings", reading(f"s{count % 3}", count, count=count))
            count += 1
        assert killed(run_python, FLUSH, str(store.home), point, str(time))
    store.flush()
    assert [row["count"] for row in rows_of(store)] == list(range(count))
    assert store.online.outbox.pending() == 0
    assert store.verify("readings").equal


def test_maintenance_killed_at_every_step_beside_a_flusher_and_a_reader(
    run_python, store, reading, rows_of
):
    flusher = run_python(["-c", ENDLESS_FLUSH, str(store.home)])
    assert flusher.stdin is not None
    assert flusher.stdout is not None
    stop = threading.Event()
    failures: list[object] = []

    def read() -> None:
        while not stop.is_set():
            try:
                counts = store.history("readings").read_all()["count"].to_pylist()
            except (StoreUnavailable, duckdb.Error, pa.ArrowException, OSError):
                continue  # the vacuum with no retention took a file of an older version away
            if counts != list(range(len(counts))):
                failures.append(counts)

    def flush(times: int) -> int:
        for _ in range(times):
            number = int(flusher.stdout.readline())
            flusher.stdin.write("on\n")
            flusher.stdin.flush()
        return number

    flush(1)
    reader = threading.Thread(target=read)
    reader.start()
    points = (
        "rewrite",
        "after rewrite",
        "checkpoint",
        "after properties",
        "vacuum",
        "after vacuum",
    )
    try:
        for point in points:
            flush(6)
            assert killed(run_python, MAINTAIN, str(store.home), point, "1"), point
    finally:
        stop.set()
        reader.join()
    last = int(flusher.stdout.readline())
    flusher.communicate()
    assert not failures
    assert last >= 6 * len(points)
    assert [row["count"] for row in rows_of(store)] == list(range(last + 1))
    store.maintain("readings")
    assert [row["count"] for row in rows_of(store)] == list(range(last + 1))
    assert store.verify("readings").equal
