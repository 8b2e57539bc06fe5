"""The SQLite store: what it opens and refuses, and many threads and processes at once."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import lineage
from lineage import (
    NotALineageFile,
    SQLiteStore,
    StoreCorrupt,
    StoreUnavailable,
    action,
    artifact,
)

ROOT = Path(lineage.__file__).parents[1]


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


class TestOpening:
    def test_the_file_and_its_folders_are_made(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "folder" / "lineage.db"
        with lineage.open(str(path)) as graph:
            graph.record([action("Put", "p")], kind="T")
        with lineage.open(path) as graph:
            assert graph.stats()["events"] == 1

    def test_an_empty_file_is_a_new_graph(self, path: Path) -> None:
        path.touch()
        with lineage.open(path) as graph:
            assert graph.stats()["events"] == 0

    def test_a_file_of_another_kind_is_refused_and_left_alone(self, path: Path) -> None:
        path.write_bytes(b"PAR1 something else")
        with pytest.raises(NotALineageFile, match=r"lineage\.db: .*PAR1.*choose another path"):
            lineage.open(path)
        assert path.read_bytes() == b"PAR1 something else"

    def test_a_database_of_another_program_is_refused_and_left_alone(self, path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE log (seq INTEGER)")
        connection.commit()
        connection.close()
        before = path.read_bytes()
        with pytest.raises(NotALineageFile, match="another program"):
            lineage.open(path)
        assert path.read_bytes() == before
        assert not path.with_name("lineage.db-wal").exists()

    def test_a_file_of_a_newer_form_is_refused(self, path: Path) -> None:
        lineage.open(path).close()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(NotALineageFile, match=r"form 99 .*version of featureline"):
            lineage.open(path)

    def test_a_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(NotALineageFile, match="folder"):
            lineage.open(tmp_path)

    def test_a_path_that_cannot_be_is_unavailable(self, path: Path) -> None:
        path.write_text("")
        with pytest.raises(StoreUnavailable, match=r"lineage\.db"):
            lineage.open(path / "below" / "a.db")

    def test_a_maker_killed_half_way_is_no_harm(self, path: Path) -> None:
        """What a kill between the first write and the schema leaves."""
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA user_version = 0")
        connection.close()
        with lineage.open(path) as graph:
            assert graph.record([action("Put", "p")], kind="T").sequence == 1

    def test_a_damaged_file_is_told_apart(self, path: Path) -> None:
        with lineage.open(path) as graph:
            for n in range(200):
                graph.record([artifact("D", f"uri/{n}", properties={"x": "y" * 500})], kind="T")
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        with pytest.raises(StoreCorrupt, match=r"lineage\.db.*backup"), lineage.open(path) as graph:
            graph.verify()

    def test_a_cut_off_file_is_told_apart(self, path: Path) -> None:
        with lineage.open(path) as graph:
            for n in range(200):
                graph.record([artifact("D", f"uri/{n}", properties={"x": "y" * 500})], kind="T")
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(StoreCorrupt), lineage.open(path) as graph:
            graph.verify(projections=True)

    def test_commits_are_synced(self, path: Path) -> None:
        with lineage.open(path) as graph:
            graph.record([action("Put", "p")], kind="T")
            writer = graph._store._file._writer  # type: ignore[attr-defined]
            assert writer.execute("PRAGMA synchronous").fetchone()[0] == 2
            assert writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"

    def test_a_walk_reads_nothing_but_a_covering_index(self, path: Path) -> None:
        lineage.open(path).close()
        connection = sqlite3.connect(path)
        for at, index in (("dst", "PRIMARY KEY"), ("src", "COVERING INDEX edge_downstream")):
            plan = connection.execute(
                f"EXPLAIN QUERY PLAN SELECT src, dst, edge.type FROM json_each('[1]') AS frontier "
                f"CROSS JOIN edge ON edge.{at} = frontier.value WHERE valid_to_seq IS NULL"
            ).fetchall()
            assert index in plan[-1][3], plan
        connection.close()


class TestTrouble:
    def test_a_file_removed_under_our_feet_takes_no_more_events(self, path: Path) -> None:
        with lineage.open(path) as graph:
            graph.record([action("Put", "p")], kind="T")
            path.unlink()
            with pytest.raises(StoreUnavailable, match="removed or replaced"):
                graph.record([action("Put", "q")], kind="T")

    def test_a_reader_is_not_kept_by_a_writer(self, path: Path) -> None:
        with lineage.open(path) as graph:
            graph.record([action("Put", "p")], kind="T")
            writer = sqlite3.connect(path, isolation_level=None)
            writer.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            assert graph.stats()["entities"] == 1
            assert graph.verify().intact
            assert time.monotonic() - began < 5
            writer.execute("ROLLBACK")
            writer.close()

    def test_a_view_is_one_state(self, path: Path) -> None:
        store = SQLiteStore.open(path)
        graph = lineage.Graph(store)
        with store.view() as view:
            before = view.counts()
            graph.record([action("Put", "p")], kind="T")
            assert view.counts() == before
        assert graph.stats()["events"] == 1
        graph.close()

    def test_a_full_disk_refuses_and_goes_on_when_there_is_room(self, path: Path) -> None:
        out = finish(start(FULL_DISK, path))
        assert out.split() == ["refused", "went", "on", "intact"]


FULL_DISK = """
import resource, signal, sys
import lineage

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
graph = lineage.open(sys.argv[1])
graph.record([lineage.action("Put", "before")], kind="T")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
events = 1
try:
    for n in range(1000):
        graph.record([lineage.action("Put", str(n), properties={"x": "y" * 3000})], kind="T")
        events += 1
except lineage.StoreUnavailable as error:
    assert sys.argv[1] in str(error), error
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert graph.record([lineage.action("Put", "after")], kind="T").sequence == events + 1
print("went on")
assert graph.verify(projections=True) == lineage.LogReport(True, events + 1)
print("intact")
graph.close()
"""


WRITER = """
import sys, threading
import lineage

path, name, threads, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
graph = lineage.open(path)
printing = threading.Lock()

def work(thread):
    for n in range(count):
        uid = f"{name}-{thread}-{n}"
        data = lineage.artifact("DataSet", f"s3://b/{uid}")
        shared = lineage.context("Group", "shared", properties={name: n})
        graph.record(
            [data, shared], [(data, shared, "ContributedTo")], kind="T", event_uid=uid
        )
        with printing:  # only what has returned is acknowledged
            print(uid, flush=True)

workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
graph.close()
"""


def event_uids(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    uids = [row[0] for row in connection.execute("SELECT event_uid FROM log ORDER BY seq")]
    connection.close()
    return uids


class TestManyAtOnce:
    def test_eight_threads_lose_nothing(self, path: Path) -> None:
        acknowledged: list[tuple[int, str]] = []
        with lineage.open(path) as graph:

            def work(thread: int) -> None:
                for n in range(40):
                    data = artifact("DataSet", f"s3://b/{thread}/{n}")
                    same = artifact("DataSet", "s3://b/same", content_hash=f"{thread}/{n}")
                    recorded = graph.record([data, same], [(data, same, "DerivedFrom")], kind="T")
                    acknowledged.append((recorded.sequence, recorded.entities[0].uid))
                    graph.query(data, "both", depth=2)

            threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(sequence for sequence, _ in acknowledged) == list(range(1, 321))
            assert graph.stats() == {"events": 320, "entities": 640, "associations": 639}
            versions = [entity.version for entity in graph.find(source_uri="s3://b/same")]
            assert versions == list(range(1, 321))
            assert graph.verify(projections=True) == lineage.LogReport(True, 320)

    def test_four_processes_with_threads_lose_nothing(self, path: Path) -> None:
        processes = [start(WRITER, path, f"p{n}", 2, 40) for n in range(4)]
        acknowledged = [uid for process in processes for uid in finish(process).split()]
        assert len(acknowledged) == 320
        assert sorted(event_uids(path)) == sorted(acknowledged)
        with lineage.open(path) as graph:
            assert graph.stats() == {"events": 320, "entities": 321, "associations": 320}
            assert graph.verify(projections=True).intact

    def test_the_same_event_from_many_threads_is_recorded_once(self, path: Path) -> None:
        results = []
        with lineage.open(path) as graph:

            def work() -> None:
                results.append(graph.record([action("Put", "p")], kind="T", event_uid="once"))

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert graph.stats()["events"] == 1
            assert len({result.sequence for result in results}) == 1

    def test_killed_writers_lose_nothing_and_double_nothing(self, path: Path) -> None:
        """Two processes are killed at a random moment, and begin again from the start."""
        acknowledged: set[str] = set()
        moments = random.Random(7)
        rounds = 5
        for _ in range(rounds):
            processes = [start(WRITER, path, f"p{n}", 2, 100_000) for n in range(2)]
            for process in processes:
                assert process.stdout is not None
                acknowledged.add(process.stdout.readline().strip())
            time.sleep(moments.uniform(0.01, 0.25))
            for process in processes:
                process.send_signal(signal.SIGKILL)
            for process in processes:
                out, err = process.communicate(timeout=60)
                assert process.returncode == -signal.SIGKILL, err
                # The kill may cut a line short; that event is not acknowledged. And the first line
                # may lack its beginning, which the readline above has taken from the pipe.
                lines = out.splitlines(True)[1:]
                acknowledged.update(line.strip() for line in lines if "\n" in line)
            uids = event_uids(path)
            assert len(uids) == len(set(uids))
            acknowledged.discard("")  # two threads print: the end of a line may come alone
            assert acknowledged <= set(uids)
            with lineage.open(path) as graph:
                assert graph.verify(projections=True) == lineage.LogReport(True, len(uids))
                assert graph.stats()["entities"] == len(uids) + 1
        assert len(acknowledged) > 2 * rounds

    def test_a_forked_child_records_beside_its_parent(self, path: Path) -> None:
        assert finish(start(FORKS, path)).split() == ["children", "done", "intact"]


FORKS = """
import os, sys, threading, time, warnings
import lineage

warnings.simplefilter("ignore")  # forking beside threads is what is tried here
path = sys.argv[1]
graph = lineage.open(path)
graph.record([lineage.action("Put", "first")], kind="T")
graph.query("urn:fs:action:Put:first")
stop = threading.Event()
counts = [0, 0]

def work(thread):
    while not stop.is_set():
        graph.record([lineage.action("Put", f"{thread}/{counts[thread]}")], kind="T")
        counts[thread] += 1
        graph.query("urn:fs:action:Put:first")

workers = [threading.Thread(target=work, args=(n,)) for n in range(2)]
for worker in workers:
    worker.start()

ready, go = os.pipe()
children = []
for child in range(4):
    time.sleep(0.05)
    pid = os.fork()
    if not pid:
        os.close(go)
        for n in range(20):
            graph.record([lineage.action("Put", f"child{child}/{n}")], kind="T")
        os.read(ready, 1)  # until the parent has closed its graph
        for n in range(20, 40):
            graph.record([lineage.action("Put", f"child{child}/{n}")], kind="T")
        assert graph.stats()["events"] > 40
        os._exit(0)
    children.append(pid)
time.sleep(0.2)
stop.set()
for worker in workers:
    worker.join()
graph.close()
os.close(go)
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
print("children done")
with lineage.open(path) as graph:
    expected = 1 + sum(counts) + 4 * 40
    assert graph.verify(projections=True) == lineage.LogReport(True, expected), (
        graph.verify(), expected)
print("intact")
"""


def test_opening_a_second_graph_keeps_the_first_ones_locks(tmp_path: Path) -> None:
    """Closing any descriptor of a file drops a process's POSIX locks on it, SQLite's too."""
    path = tmp_path / "lineage.db"
    other = "import lineage, sys; lineage.open(sys.argv[1]).close()"
    with lineage.open(path) as first:
        first.record([lineage.context("FeatureGroup", "a")], kind="Test")
        lineage.open(path).close()
        # Were the locks gone, this process would take itself for the last and remove the WAL.
        with start(other, path) as process:
            assert process.wait() == 0
        assert path.with_name("lineage.db-wal").exists()
        first.record([lineage.context("FeatureGroup", "b")], kind="Test")
        assert first.verify().events == 2
