"""What may go wrong around a store: stopped processes, a server that stands still, damage."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lineage
from lineage import (
    ColumnEdge,
    ColumnLineage,
    Graph,
    InvalidEntity,
    InvalidLog,
    LineageError,
    LogReport,
    Run,
    Spool,
    SQLiteStore,
    StoreUnavailable,
    action,
    artifact,
    as_draft,
    context,
)
from lineage.filelock import lock
from lineage.store.postgres_link import ConnectionLost
from lineage.wire.convert import error_from_metadata, error_to_metadata
from tests.lineage.postgres import PostgresServer
from tests.lineage.test_postgres import WRITER

ROOT = Path(lineage.__file__).parents[1]
ODD = ("a\0b", "a\ud800b")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """As another process that stopped while it had the lock."""
    with path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class TestALockThatIsNeverLetGo:
    def test_of_the_file_ends_the_wait(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lineage.store.sqlite_file._QUEUE_TIMEOUT_S", 0.1)
        with lineage.open(path) as graph:
            graph.record([action("Step", "before")], kind="T")
            with locked(path.with_name("lineage.db.lock")):
                with pytest.raises(StoreUnavailable, match=r"lineage\.db.*locked for 0\.1 s"):
                    graph.record([action("Step", "while")], kind="T")
                assert [one.name for one in graph.find()] == ["before"]
            assert graph.record([action("Step", "after")], kind="T").sequence == 2

    def test_of_the_file_sends_a_job_to_the_spool(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lineage.store.sqlite_file._QUEUE_TIMEOUT_S", 0.1)
        monkeypatch.setattr("lineage.graph.recording._LOOK_AGAIN_S", 0.0)
        spool = Spool(path.with_name("spool.ndjson"))
        with Graph(SQLiteStore.open(path), spool=spool) as graph:
            with locked(path.with_name("lineage.db.lock")):
                assert graph.record([action("Step", "while")], kind="T").sequence == 0
                assert spool.waiting() == 1
            assert graph.record([action("Step", "after")], kind="T").sequence == 2
            assert (spool.waiting(), bool(spool)) == (0, False)

    def test_of_the_spool_ends_the_wait(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lineage.spool._LOCK_TIMEOUT_S", 0.1)
        spool = Spool(tmp_path / "spool.ndjson")
        event = as_draft([action("Step", "a")], kind="T")
        spool.put(event)
        with locked(spool.path), pytest.raises(StoreUnavailable, match="locked for"):
            spool.put(event)
        spool.put(event)
        assert spool.waiting() == 2

    def test_one_that_comes_too_late_is_let_go_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "lock"
        path.touch()
        first, second, third = (os.open(path, os.O_RDWR) for _ in range(3))
        try:
            lock(first, 1)
            with pytest.raises(TimeoutError, match=r"locked for 0\.05 s"):
                lock(second, 0.05)
            os.close(second)
            fcntl.flock(first, fcntl.LOCK_UN)
            lock(third, 60)
        finally:
            os.close(first)
            os.close(third)


def pids(server: PostgresServer) -> list[int]:
    """The processes of the server that work for lineage."""
    import psycopg

    with psycopg.connect(server.url) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'featureline lineage'"
        ).fetchall()
    return [row[0] for row in rows]


class TestAServerThatStandsStill:
    def test_a_commit_without_an_answer_is_settled_by_its_uid(
        self, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lineage.store.postgres.COMMIT_TIMEOUT_S", 0.2)
        others = set(pids(postgres))
        with lineage.open(postgres.new_url()) as graph:
            graph.record([action("Step", "before")], kind="T")
            [stopped] = set(pids(postgres)) - others
            os.kill(stopped, signal.SIGSTOP)
            try:
                answer = graph.record([action("Step", "while")], kind="T", event_uid="w")
            finally:
                os.kill(stopped, signal.SIGCONT)
            assert answer.sequence == 2
            assert graph.record([action("Step", "while")], kind="T", event_uid="w") == answer
            assert graph.verify(projections=True) == LogReport(True, 2)

    def test_a_stopped_writer_holds_up_nobody_for_ever(
        self, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(
            lineage.store.postgres_link._WRITER_SETTINGS,
            "idle_in_transaction_session_timeout",
            "200ms",
        )
        url = postgres.new_url()
        with lineage.open(url) as stopped, lineage.open(url) as graph:
            store: Any = stopped.store

            def hold() -> None:
                with store._link.writing() as connection:
                    connection.one("SELECT seq FROM head FOR UPDATE")
                    assert graph.record([action("Step", "a")], kind="T").sequence == 1
                    connection.one("SELECT seq FROM head FOR UPDATE")

            with pytest.raises(StoreUnavailable, match="connection to PostgreSQL was lost"):
                hold()
            assert stopped.record([action("Step", "b")], kind="T").sequence == 2

    def test_a_head_that_is_held_is_named(
        self, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import psycopg

        monkeypatch.setitem(lineage.store.postgres_link._WRITER_SETTINGS, "lock_timeout", "100ms")
        url = postgres.new_url()
        with lineage.open(url) as graph, psycopg.connect(postgres.url) as other:
            other.execute(f"SELECT * FROM {url.rpartition('=')[2]}.head FOR UPDATE")
            with pytest.raises(StoreUnavailable, match="held the head of the log for 100ms"):
                graph.record([action("Step", "a")], kind="T")
            assert graph.stats()["events"] == 0
            other.rollback()
            assert graph.record([action("Step", "a")], kind="T").sequence == 1

    def test_writers_go_on_through_a_restart(self, postgres: PostgresServer) -> None:
        """The server dies like in a crash while two processes write, and comes back."""
        url = postgres.new_url()
        lineage.open(url).close()
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, url, f"p{n}", "4", "40"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for n in range(2)
        ]
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        postgres.stop(signal.SIGQUIT)
        postgres.start()
        for writer in writers:
            _, err = writer.communicate(timeout=120)
            assert writer.returncode == 0, err
        with lineage.open(url) as graph:
            assert graph.verify(projections=True) == LogReport(True, 320)
            with graph.store.log() as (events, _):
                assert {event.event_uid for event in events} == {
                    f"p{n}-{thread}-{number}"
                    for n in range(2)
                    for thread in range(4)
                    for number in range(40)
                }


class TestPostgresAsItIsFound:
    def test_a_database_that_acknowledges_early_is_told_not_to(
        self, postgres: PostgresServer
    ) -> None:
        with lineage.open(postgres.new_url()) as graph:
            store: Any = graph.store
            with store._link.writing() as connection:
                assert connection.one("SHOW synchronous_commit") == ("on",)

    def test_a_role_that_was_given_a_schema_needs_no_more(self, postgres: PostgresServer) -> None:
        import psycopg

        url = postgres.new_url()
        schema = url.rpartition("=")[2]
        plain = url.replace("postgres@", "plain@")
        with psycopg.connect(postgres.url) as connection:
            connection.execute("CREATE ROLE plain LOGIN")
            connection.execute("CREATE ROLE reader LOGIN")
        with pytest.raises(StoreUnavailable, match="permission denied for database"):
            lineage.open(plain)
        with psycopg.connect(postgres.url) as connection:
            connection.execute(f"CREATE SCHEMA {schema} AUTHORIZATION plain")
        with lineage.open(plain) as graph:
            assert graph.record([action("Step", "a")], kind="T").sequence == 1
        reader = url.replace("postgres@", "reader@")
        with pytest.raises(StoreUnavailable, match="permission denied for schema"):
            lineage.open(reader)
        with psycopg.connect(postgres.url) as connection:
            connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader")
            connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
        with lineage.open(reader) as graph:
            assert [one.name for one in graph.find()] == ["a"]
            with pytest.raises(StoreUnavailable, match="permission denied for table head"):
                graph.record([action("Step", "b")], kind="T")

    @pytest.mark.parametrize("password", ["se/cret", "se#cret", "se?cret", "se@cret", "[secret"])
    def test_a_password_that_is_not_quoted_is_not_shown(self, password: str) -> None:
        with pytest.raises(StoreUnavailable, match="%2F %3F") as refused:
            lineage.open(f"postgresql://u:{password}@127.0.0.1:1/db")
        assert "cret" not in str(refused.value)
        assert "se" not in str(refused.value).split("USER")[0]

    def test_what_the_database_cannot_take_takes_no_other_along(
        self, postgres: PostgresServer
    ) -> None:
        letters = random.Random(4)
        by = "".join(chr(letters.randrange(0x4E00, 0x9FFF)) for _ in range(2048))
        bad = action("Step", "bad")
        with lineage.open(postgres.new_url()) as graph:
            answers = graph.record_all(
                [
                    as_draft([action("Step", "a")], kind="T"),
                    as_draft([bad], columns=[ColumnLineage(bad, by, ())], kind="T"),
                    as_draft([action("Step", "b")], kind="T"),
                ]
            )
            assert isinstance(answers[1], InvalidEntity)
            assert [one.name for one in graph.find()] == ["a", "b"]
            assert graph.verify(projections=True) == LogReport(True, 2)


def test_a_remote_caller_gets_an_error_that_the_package_names() -> None:
    told = dict(error_to_metadata(ConnectionLost("gone")))
    again = error_from_metadata(list(told.items()), "gone")
    assert type(again) is StoreUnavailable


class TestValues:
    """The same in every store."""

    @pytest.mark.parametrize("text", ODD)
    def test_text_that_no_database_keeps_is_refused_before_it_is_recorded(
        self, graph: Graph, text: str
    ) -> None:
        step = action("Step", "s")
        data = artifact("D", "s3://b/d")
        for refused in (
            lambda: graph.record([], [(text, step, "Produced")], kind="T"),
            lambda: graph.record([step], tags=[(step, text, "v")], kind="T"),
            lambda: graph.record([step], tags=[(step, "k", text)], kind="T"),
            lambda: graph.record([step], aliases=[(text, step)], kind="T"),
            lambda: graph.record([step], retract=[(step, text, "Produced")], kind="T"),
            lambda: ColumnLineage(step, text, ()),
            lambda: ColumnEdge(data, text, "b"),
            lambda: ColumnEdge(data, "a", text),
            lambda: ColumnEdge(data, "a", "b", description=text),
            lambda: Run(text, step),
            lambda: Run("r", step, text),
        ):
            with pytest.raises(InvalidEntity, match=r"without U\+0000"):
                refused()
        assert graph.stats()["events"] == 0

    def test_a_time_that_no_database_keeps_is_refused(self) -> None:
        with pytest.raises(InvalidEntity, match="of 71 bits"):
            Run("r", action("Step", "s"), started_us=2**70)

    def test_odd_large_and_deep_values_come_back_as_they_were(self, graph: Graph) -> None:
        deep: Any = "end"
        for _ in range(23):
            deep = {"a": deep}
        properties = {
            "large": "é" * 5_000_000,
            "odd": ["\0", "\u2028", "\ufffe", "\U0010ffff", "e\u0301", "\u202e", "'; --", "%s ?"],
            "%s ? \0": 2**63,
            "small": 5e-324,
            "deep": deep,
        }
        graph.record([action("Step", "木 😀 %s ? \\", properties=properties)], kind="T")
        [found] = graph.find(name="木 😀 %s ? \\")
        assert found.properties == properties
        assert graph.verify(projections=True) == LogReport(True, 1)

    def test_a_clock_that_goes_back_leaves_times_in_order(
        self, graph: Graph, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for clock in (5_000_000, 1_000_000, 6_000_000):
            for module in ("memory", "ledger"):
                monkeypatch.setattr(f"lineage.store.{module}.now_us", lambda at=clock: at)
            graph.record([action("Step", str(clock))], kind="T")
        with graph.store.log() as (events, _):
            assert [event.time_us for event in events] == [5_000_000, 5_000_000, 6_000_000]
        assert graph.verify(projections=True).intact


class TestADamagedFile:
    @pytest.fixture
    def whole(self, path: Path) -> bytes:
        with lineage.open(path) as graph:
            for n in range(60):
                data, hub = artifact("D", f"s3://b/{n}", properties={"x": "y" * 300}), "hub"
                graph.record([data], [(data, context("Hub", hub), "ContributedTo")], kind="T")
            assert graph.verify().intact
        return path.read_bytes()

    @staticmethod
    def use(path: Path, raw: bytes) -> list[str]:
        """Open and write; the names of the errors, and what is acknowledged must be there."""
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        path.write_bytes(raw)
        met = []
        acknowledged = []

        def attempt(work: Callable[[], object]) -> None:
            try:
                work()
            except LineageError as error:
                met.append(type(error).__name__)

        def write(graph: Graph, name: str) -> None:
            data = artifact("D", "s3://b/7")
            link = (data, action("Step", name), "ContributedTo")
            graph.record([action("Step", name)], [link], kind="T", event_uid=name)
            acknowledged.append(name)

        def read(graph: Graph) -> None:
            with graph.store.log() as (events, _):
                known.extend(event.event_uid for event in events)

        def all_of(graph: Graph) -> None:
            attempt(lambda: write(graph, "one"))
            attempt(lambda: write(graph, "two"))
            attempt(lambda: read(graph))
            if met.count("StoreCorrupt") == 0:
                assert set(acknowledged) <= set(known)
            attempt(graph.rebuild)

        known: list[str] = []
        attempt(lambda: _with(path, all_of))
        return met

    def test_overwritten_pages_are_named_and_never_acknowledged_over(
        self, path: Path, whole: bytes
    ) -> None:
        noise = random.Random(3)
        for page in range(0, len(whole) // 4096, 3):
            raw = bytearray(whole)
            raw[page * 4096 : (page + 1) * 4096] = noise.randbytes(4096)
            assert set(self.use(path, bytes(raw))) <= {"StoreCorrupt", "NotALineageFile"}, page

    def test_a_file_cut_anywhere_is_named(self, path: Path, whole: bytes) -> None:
        noise = random.Random(3)
        for _ in range(8):
            cut = noise.randrange(4096, len(whole) - 4096)
            assert self.use(path, whole[:cut]) == ["StoreCorrupt"], cut

    def test_single_altered_bits_meet_no_other_errors(self, path: Path, whole: bytes) -> None:
        noise = random.Random(3)
        for _ in range(12):
            raw = bytearray(whole)
            for _ in range(30):
                raw[noise.randrange(4096, len(raw))] ^= 1 << noise.randrange(8)
            assert set(self.use(path, bytes(raw))) <= {"StoreCorrupt", "InvalidLog"}

    def test_a_rebuild_names_the_event_that_cannot_be_read(self, path: Path) -> None:
        import sqlite3

        with lineage.open(path) as graph:
            for n in range(3):
                graph.record([action("Step", str(n))], kind="T")
        connection = sqlite3.connect(path)
        connection.execute("DROP TRIGGER log_is_never_updated")
        connection.execute("UPDATE log SET body = 'x' WHERE seq = 2")
        connection.commit()
        connection.close()
        with lineage.open(path) as graph:
            with pytest.raises(InvalidLog, match="event 2 was altered"):
                graph.rebuild()
            assert len(graph.find()) == 3


def _with(path: Path, work: Callable[[Graph], None]) -> None:
    with lineage.open(path) as graph:
        work(graph)


def test_a_thread_waits_its_turn_beside_a_process_that_waits(path: Path) -> None:
    """Two stores of one file, many threads: nobody is left behind by the bounded wait."""
    errors: list[LineageError] = []

    def work(graph: Graph, name: str) -> None:
        try:
            for n in range(15):
                graph.record([action("Step", f"{name}-{n}")], kind="T")
        except LineageError as error:
            errors.append(error)

    with lineage.open(path) as one, lineage.open(path) as other:
        threads = [
            threading.Thread(target=work, args=(graph, f"{n}"))
            for n, graph in enumerate([one, other] * 2)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == [], time.monotonic() - began
        assert one.verify(projections=True) == LogReport(True, 60)
