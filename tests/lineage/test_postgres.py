"""The PostgreSQL store: what it opens and refuses, a server that dies, and many at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lineage
from lineage import (
    InvalidEntity,
    NotALineageFile,
    PostgresStore,
    StoreClosed,
    StoreUnavailable,
    action,
    artifact,
)
from lineage.store.postgres_bell import Bell, CannotListen
from tests.lineage.postgres import PostgresServer

ROOT = Path(lineage.__file__).parents[1]

# Says each event that is acknowledged; the first argument is a URL.
WRITER = """
import sys, threading
import lineage
url, name, threads, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
graph = lineage.open(url)
def work(thread):
    for n in range(count):
        uid = f"{name}-{thread}-{n}"
        graph.record(
            [lineage.action("Step", uid)],
            [(lineage.action("Step", uid), lineage.context("Hub", "hub"), "Produced")],
            kind="T", event_uid=uid,
        )
        sys.stdout.write(uid + "\\n")
        sys.stdout.flush()
workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
[worker.start() for worker in workers]
[worker.join() for worker in workers]
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    server = PostgresServer()
    yield server
    server.close()


def start(url: str, name: str, threads: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, name, str(threads), str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def uids(url: str) -> list[str]:
    with lineage.open(url) as graph, graph.store.log() as (events, _):
        return [event.event_uid for event in events]


class TestOpening:
    def test_a_schema_is_made_once_and_kept(self, postgres: PostgresServer) -> None:
        url = postgres.new_url()
        with lineage.open(url) as graph:
            graph.record([action("Put", "p")], kind="T")
        with lineage.open(url) as graph:
            assert graph.stats()["events"] == 1
        with lineage.open(postgres.new_url()) as other:
            assert other.stats()["events"] == 0

    def test_many_open_an_empty_schema_at_once(self, postgres: PostgresServer) -> None:
        url, errors = postgres.new_url(), []

        def work() -> None:
            try:
                with lineage.open(url) as graph:
                    graph.record([action("Put", threading.current_thread().name)], kind="T")
            except lineage.LineageError as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(uids(url)) == 6

    def test_a_schema_of_another_program_is_refused_and_left_alone(
        self, postgres: PostgresServer
    ) -> None:
        import psycopg

        url = postgres.new_url()
        schema = url.rpartition("=")[2]
        with psycopg.connect(postgres.url) as connection:
            connection.execute(f"CREATE SCHEMA {schema}")
            connection.execute(f"CREATE TABLE {schema}.log (seq int)")
        with pytest.raises(NotALineageFile, match=r"another program \(log\).*schema=NAME"):
            lineage.open(url)
        with psycopg.connect(postgres.url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM information_schema.tables WHERE table_schema = %s", (schema,)
            ).fetchone()
        assert row == (1,)

    def test_another_form_is_refused(self, postgres: PostgresServer) -> None:
        import psycopg

        url = postgres.new_url()
        lineage.open(url).close()
        with psycopg.connect(postgres.url) as connection:
            connection.execute(
                f"UPDATE {url.rpartition('=')[2]}.featureline_lineage_form SET form = 99"
            )
        with pytest.raises(NotALineageFile, match="form 99 where this version writes form 2"):
            lineage.open(url)

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("postgresql://u:secret@127.0.0.1:1/db", "cannot be reached"),
            ("postgresql://u:secret@/db?host=/nowhere", "cannot be reached"),
            ("postgresql://u:secret@h/db?schema=No;Good", "schema: expected lower-case letters"),
            ("postgresql://u:secret@h/db?nonsense=1", "not a URL of PostgreSQL"),
        ],
    )
    def test_what_cannot_be_opened_says_why_without_the_password(self, url: str, said: str) -> None:
        with pytest.raises(StoreUnavailable, match=said) as refused:
            lineage.open(url)
        assert "secret" not in str(refused.value)

    def test_a_closed_store_says_so(self, postgres: PostgresServer) -> None:
        graph = lineage.open(postgres.new_url())
        graph.close()
        graph.close()
        with pytest.raises(StoreClosed):
            graph.stats()
        with pytest.raises(StoreClosed):
            graph.record([action("Put", "p")], kind="T")


class TestKeeping:
    def test_the_log_is_never_changed(self, postgres: PostgresServer) -> None:
        import psycopg

        url = postgres.new_url()
        with lineage.open(url) as graph:
            graph.record([action("Put", "p")], kind="T")
        schema = url.rpartition("=")[2]
        for statement in ("UPDATE {}.log SET kind = 'x'", "DELETE FROM {}.log", "TRUNCATE {}.log"):
            with (
                psycopg.connect(postgres.url) as connection,
                pytest.raises(psycopg.errors.RaiseException, match="append-only"),
            ):
                connection.execute(statement.format(schema))

    def test_an_altered_log_and_an_altered_graph_are_found(self, postgres: PostgresServer) -> None:
        import psycopg

        url = postgres.new_url()
        schema = url.rpartition("=")[2]
        with lineage.open(url) as graph:
            for n in range(4):
                graph.record([action("Put", f"p{n}")], kind="T")
            with psycopg.connect(postgres.url) as connection:
                connection.execute(f"UPDATE {schema}.entity SET state = 'Done' WHERE name = 'p2'")
            found = graph.verify(projections=True)
            assert (found.intact, found.first_altered) == (False, 3)
            graph.rebuild()
            assert graph.verify(projections=True).intact
            with psycopg.connect(postgres.url) as connection:
                connection.execute(f"ALTER TABLE {schema}.log DISABLE TRIGGER ALL")
                connection.execute(f"UPDATE {schema}.log SET actor = 'me' WHERE seq = 2")
            assert graph.verify().first_altered == 2

    def test_long_texts_have_their_place(self, postgres: PostgresServer) -> None:
        with lineage.open(postgres.new_url()) as graph:
            uri, name = f"s3://b/{os.urandom(3_900).hex()}", "木" * 1_024
            for content in ("1", "2"):
                graph.record([artifact("D", uri, content_hash=content, name=name)], kind="T")
            assert [one.version for one in graph.find(source_uri=uri)] == [1, 2]
            assert len(graph.find(name=name)) == 2
            alias = "é" * 4_000
            graph.record([], aliases=[(alias, action("A", "a"))], kind="T")
            graph.record([], aliases=[(alias, action("A", "a"))], kind="T")
            assert graph.entity(alias).name == "a"
            long = lineage.Entity(lineage.Kind.ACTION, "A", "a", uid="木" * 2_000)
            with pytest.raises(InvalidEntity, match="at most 2600 bytes in PostgreSQL"):
                graph.record([long], kind="T")


class TestManyAtOnce:
    def test_no_reader_skips_an_event(self, postgres: PostgresServer) -> None:
        """Whoever follows the log by its last sequence meets every event, in order."""
        url = postgres.new_url()
        lineage.open(url).close()
        writers = [start(url, f"p{n}", 2, 40) for n in range(3)]
        followed: list[int] = []
        with lineage.open(url) as graph:
            while len(followed) < 240:
                if all(writer.poll() not in (None, 0) for writer in writers):
                    break
                after = followed[-1] if followed else 0
                with graph.store.log(after) as (events, _):
                    followed += [event.sequence for event in events]
            for writer in writers:
                _, err = writer.communicate(timeout=60)
                assert writer.returncode == 0, err
            assert followed == list(range(1, 241))
            assert graph.verify(projections=True) == lineage.LogReport(True, 240)

    def test_killed_writers_lose_nothing_and_double_nothing(self, postgres: PostgresServer) -> None:
        """Processes are killed at a random moment, and begin again from the start."""
        url = postgres.new_url()
        acknowledged: set[str] = set()
        moments = random.Random(5)
        for _ in range(3):
            writers = [start(url, f"p{n}", 2, 100_000) for n in range(2)]
            for writer in writers:
                assert writer.stdout is not None
                acknowledged.add(writer.stdout.readline().strip())
            time.sleep(moments.uniform(0.01, 0.2))
            for writer in writers:
                writer.send_signal(signal.SIGKILL)
            for writer in writers:
                out, _ = writer.communicate(timeout=60)
                acknowledged.update(line.strip() for line in out.splitlines(True) if "\n" in line)
            known = uids(url)
            assert len(known) == len(set(known))
            acknowledged.discard("")
            assert acknowledged <= set(known)
        with lineage.open(url) as graph:
            assert graph.verify(projections=True).intact

    def test_a_forked_child_has_connections_of_its_own(self, postgres: PostgresServer) -> None:
        graph = lineage.open(postgres.new_url())
        graph.record([action("Put", "parent")], kind="T")
        assert graph.store.wait(0, 0)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                graph.record([action("Put", "child")], kind="T")
                status = 0 if graph.store.wait(1, 60) and not graph.store.wait(9, 0.01) else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        graph.record([action("Put", "again")], kind="T")
        assert [one.name for one in graph.find()] == ["parent", "child", "again"]
        graph.close()


class TestWaiting:
    def test_a_commit_of_another_process_is_told(self, postgres: PostgresServer) -> None:
        url = postgres.new_url()
        with lineage.open(url) as graph:
            assert not graph.store.wait(0, 0.01)
            answers: list[float] = []

            def wait() -> None:
                assert graph.store.wait(0, 60)
                answers.append(time.monotonic())

            waiting = [threading.Thread(target=wait) for _ in range(3)]
            for thread in waiting:
                thread.start()
            with lineage.open(url) as other:  # not in this store, so that only the server tells
                other.record([action("Put", "p")], kind="T")
            for thread in waiting:
                thread.join(60)
            assert len(answers) == 3
            assert not graph.store.wait(1, 0.01)
            assert graph.store.wait(0, 0)

    def test_who_waits_asks_nothing_meanwhile(self, postgres: PostgresServer) -> None:
        with lineage.open(postgres.new_url()) as graph:
            looked: list[int] = []

            def look() -> bool:
                looked.append(1)
                return False

            assert isinstance(graph.store, PostgresStore)
            assert not graph.store._link.bell.until(look, 0.2)
            assert len(looked) == 2  # at first and at the end

    def test_a_lost_listener_is_replaced(self, postgres: PostgresServer) -> None:
        import psycopg

        with lineage.open(postgres.new_url()) as graph:
            assert not graph.store.wait(0, 0)
            woken: list[bool] = []
            thread = threading.Thread(target=lambda: woken.append(graph.store.wait(0, 60)))
            thread.start()
            with psycopg.connect(postgres.url) as connection:
                ended = connection.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE query LIKE 'LISTEN %'"
                ).fetchone()
            assert ended is not None
            assert ended[0] >= 1
            graph.record([action("Put", "p")], kind="T")
            thread.join(60)
            assert woken == [True]

    def test_a_standby_takes_no_listener_and_is_asked(
        self, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: Bell) -> object:
            raise CannotListen

        monkeypatch.setattr(Bell, "_listening", refuse)
        with lineage.open(postgres.new_url()) as graph:
            assert not graph.store.wait(0, 0.01)
            graph.record([action("Put", "p")], kind="T")
            assert graph.store.wait(0, 60)


class TestAServerThatDies:
    def test_what_was_acknowledged_is_there_and_the_next_call_works(
        self, own: PostgresServer
    ) -> None:
        with lineage.open(own.url) as graph:
            graph.record([action("Put", "before")], kind="T")
            assert graph.stats()["events"] == 1
            own.stop(signal.SIGQUIT)  # as a crash: it recovers from its log
            own.start()
            assert graph.stats()["events"] == 1
            graph.record([action("Put", "after")], kind="T")
            assert [one.name for one in graph.find()] == ["before", "after"]

    def test_a_commit_waits_for_a_server_that_comes_back(self, own: PostgresServer) -> None:
        with lineage.open(own.url) as graph:
            graph.record([action("Put", "before")], kind="T")
            own.stop(signal.SIGQUIT)
            answers: list[int] = []
            thread = threading.Thread(
                target=lambda: answers.append(
                    graph.record([action("Put", "while")], kind="T", event_uid="w").sequence
                )
            )
            thread.start()
            own.start()
            thread.join(60)
            assert answers == [2]
            assert graph.verify().intact

    def test_a_server_that_stays_away_is_named(
        self, own: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lineage.store.postgres._PATIENCE_S", 0.1)
        graph = lineage.open(own.url)
        own.stop()
        with pytest.raises(StoreUnavailable, match=r"PostgreSQL.*same event_uid"):
            graph.record([action("Put", "p")], kind="T")
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            graph.stats()
        graph.close()


def test_the_store_is_a_public_name() -> None:
    assert PostgresStore.open
