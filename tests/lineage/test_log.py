"""The log: it finds whatever was done to it, and the graph follows from it alone."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lineage
from lineage import Graph, LogReport, Recorder, action, artifact, context
from lineage.log import Event, Head, append_event, new_uid, verify_chain

EVENTS = 12


def write(graph: Graph, count: int = EVENTS) -> None:
    for number in range(count):
        data = artifact("DataSet", "s3://b/data", content_hash=str(number // 2))
        job = action("Build", f"b{number % 3}", state="Completed", properties={"n": number})
        graph.record([data, job], [(data, job, "ContributedTo")], kind="Built", actor="tester")


def tamper(path: Path, *statements: str, values: Sequence[Any] = ()) -> None:
    """Change the file as one could with any SQLite tool."""
    connection = sqlite3.connect(path)
    with connection:
        for name in ("log_is_never_updated", "log_is_never_deleted"):
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        for statement in statements:
            connection.execute(statement, values)
    connection.close()


@pytest.fixture
def written(path: Path) -> Path:
    with lineage.open(path) as graph:
        write(graph)
        assert graph.verify(projections=True) == LogReport(True, EVENTS)
    return path


def report_on(path: Path, *, projections: bool = False) -> LogReport:
    with lineage.open(path) as graph:
        return graph.verify(projections=projections)


class TestAlteredRows:
    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("body", b'{"associations":[],"entities":[],"form":1}'),
            ("body", "text in place of bytes"),
            ("body", b""),
            ("actor", "somebody else"),
            ("actor", b"\xff\xfe"),
            ("kind", "Approved"),
            ("time_us", 1),
            ("time_us", "never"),
            ("event_uid", "another"),
            ("prev", bytes(32)),
            ("hash", bytes(32)),
        ],
    )
    @pytest.mark.parametrize("sequence", [2, 7, EVENTS])
    def test_any_column_of_any_row(
        self, written: Path, column: str, value: object, sequence: int
    ) -> None:
        tamper(written, f"UPDATE log SET {column} = ? WHERE seq = {sequence}", values=[value])
        report = report_on(written)
        assert not report.intact
        assert report.first_altered == sequence
        assert str(sequence) in (report.reason or "")
        assert report.events == EVENTS

    def test_one_bit_of_a_body(self, written: Path) -> None:
        connection = sqlite3.connect(written)
        body = bytearray(connection.execute("SELECT body FROM log WHERE seq = 5").fetchone()[0])
        connection.close()
        body[len(body) // 2] ^= 1
        tamper(written, "UPDATE log SET body = ? WHERE seq = 5", values=[bytes(body)])
        assert report_on(written).first_altered == 5

    @pytest.mark.parametrize("sequence", [1, 6, EVENTS])
    def test_a_row_removed(self, written: Path, sequence: int) -> None:
        tamper(written, f"DELETE FROM log WHERE seq = {sequence}")
        report = report_on(written)
        assert (report.intact, report.first_altered) == (False, sequence)
        assert report.events == EVENTS - 1

    def test_all_rows_removed(self, written: Path) -> None:
        tamper(written, "DELETE FROM log")
        assert report_on(written).first_altered == 1

    def test_a_row_removed_and_the_rest_moved_up(self, written: Path) -> None:
        tamper(
            written,
            "DELETE FROM log WHERE seq = 4",
            "UPDATE log SET seq = -seq WHERE seq > 4",
            "UPDATE log SET seq = -seq - 1 WHERE seq < 0",
        )
        assert report_on(written).first_altered == 4

    def test_two_rows_exchanged(self, written: Path) -> None:
        tamper(
            written,
            "UPDATE log SET seq = -5 WHERE seq = 5",
            "UPDATE log SET seq = 5 WHERE seq = 8",
            "UPDATE log SET seq = 8 WHERE seq = -5",
        )
        assert report_on(written).first_altered == 5

    @pytest.mark.parametrize("sequence", [-3, 0, EVENTS + 1, EVENTS + 5])
    def test_a_row_added(self, written: Path, sequence: int) -> None:
        tamper(
            written,
            f"INSERT INTO log SELECT {sequence}, time_us, actor, kind, 'new', body, hash, hash "
            f"FROM log WHERE seq = {EVENTS}",
        )
        report = report_on(written)
        assert not report.intact
        assert report.first_altered == min(sequence, EVENTS + 1)

    def test_the_head(self, written: Path) -> None:
        tamper(written, "UPDATE head SET hash = zeroblob(32)")
        assert report_on(written).first_altered == EVENTS

    def test_the_log_refuses_to_be_altered_in_passing(self, written: Path) -> None:
        connection = sqlite3.connect(written)
        for statement in ("UPDATE log SET actor = 'x'", "DELETE FROM log"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
        connection.close()
        assert report_on(written).intact


class TestChain:
    """The check itself, on values: every single change is found, wherever it is."""

    @staticmethod
    def chain(bodies: Sequence[bytes]) -> tuple[list[Event], Head]:
        events, head = [], Head()
        for number, body in enumerate(bodies):
            event, head = append_event(
                head, now_us=number, actor="a", kind="k", event_uid=str(number), body=body
            )
            events.append(event)
        return events, head

    @settings(max_examples=200, deadline=None)
    @given(bodies=st.lists(st.binary(max_size=20), min_size=1, max_size=8), data=st.data())
    def test_any_single_change(self, bodies: list[bytes], data: st.DataObject) -> None:
        events, head = self.chain(bodies)
        assert verify_chain(iter(events), head) == LogReport(True, len(events))
        place = data.draw(st.integers(0, len(events) - 1))
        field = data.draw(
            st.sampled_from(["time_us", "actor", "kind", "event_uid", "body", "hash", "previous"])
        )
        old = getattr(events[place], field)
        new = old + 1 if isinstance(old, int) else old + type(old)(b"x" if field in (
            "body", "hash", "previous") else "x")  # fmt: skip
        events[place] = replace(events[place], **{field: new})  # type: ignore[arg-type]
        assert verify_chain(iter(events), head).first_altered == place + 1

    def test_texts_are_not_run_together(self) -> None:
        one, _ = append_event(Head(), now_us=1, actor="ab", kind="c", event_uid="d", body=b"")
        two, _ = append_event(Head(), now_us=1, actor="a", kind="bc", event_uid="d", body=b"")
        assert one.hash != two.hash

    def test_time_never_runs_backwards(self) -> None:
        _, head = append_event(Head(), now_us=100, actor="a", kind="k", event_uid="1", body=b"")
        event, _ = append_event(head, now_us=50, actor="a", kind="k", event_uid="2", body=b"")
        assert event.time_us == 100


class TestProjection:
    def test_a_rebuild_gives_equal_tables(self, written: Path) -> None:
        def tables() -> list[Any]:
            connection = sqlite3.connect(written)
            rows = [
                connection.execute(f"SELECT * FROM {name} ORDER BY {order}").fetchall()
                for name, order in (("entity", "id"), ("edge", "dst, src, type"))
            ]
            connection.close()
            return rows

        before = tables()
        assert all(before)
        with lineage.open(written) as graph:
            assert graph.rebuild() == EVENTS
        assert tables() == before

    @pytest.mark.parametrize(
        ("statement", "reason"),
        [
            ("UPDATE entity SET properties = '{}' WHERE id = 2", "not as recorded"),
            ("UPDATE entity SET content_hash = 'x' WHERE id = 1", "not as recorded"),
            ("DELETE FROM entity WHERE id = 3", "not as recorded"),
            ("DELETE FROM edge WHERE dst = 2", "not as recorded|missing"),
            ("INSERT INTO edge VALUES (99, 98, 'Produced', 3, NULL)", "not in the log"),
            ("UPDATE edge SET valid_to_seq = 4 WHERE src = 1", "not as recorded"),
        ],
    )
    def test_altered_tables_are_found_and_mended(
        self, written: Path, statement: str, reason: str
    ) -> None:
        tamper(written, statement)
        assert report_on(written).intact, "the log itself is"
        report = report_on(written, projections=True)
        assert not report.intact
        assert report.first_altered is not None
        assert any(part in (report.reason or "") for part in reason.split("|"))
        with lineage.open(written) as graph:
            graph.rebuild()
            assert graph.verify(projections=True).intact

    @settings(
        max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        events=st.lists(
            st.lists(
                st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=4
            ),
            max_size=8,
        )
    )
    def test_whatever_was_recorded(
        self, open_graph: Callable[[], Graph], events: list[list[tuple[int, int, int]]]
    ) -> None:
        graph = open_graph()
        for event in events:
            entities = [
                artifact("D", f"u{uri}", content_hash=str(content), properties={str(n): n})
                for uri, content, n in event
            ]
            group = context("Group", f"g{len(event)}", state=f"s{len(entities)}")
            graph.record(
                [*entities, group],
                [(entity, group, "ContributedTo") for entity in entities],
                kind="T",
            )
        before = graph.stats(), graph.find()
        assert graph.verify(projections=True).intact
        assert graph.rebuild() == len(events)
        assert (graph.stats(), graph.find()) == before
        assert graph.verify(projections=True).intact
        graph.close()

    def test_jobs_project_the_same_again(self, graph: Graph) -> None:
        for content in "12":
            with Recorder(graph, "TrainingJob", "j", parameters={"a": content}) as job:
                job.input(artifact("D", "d", content_hash=content))
                job.output(artifact("M", "m", content_hash=content))
        before = graph.find()
        graph.rebuild()
        assert graph.find() == before


def test_uids_are_unique_and_in_order_of_time() -> None:
    uids = [new_uid() for _ in range(1000)]
    assert len(set(uids)) == 1000
    assert [uid[:13] for uid in uids] == sorted(uid[:13] for uid in uids)
    assert {uid[14] for uid in uids} == {"7"}
    assert {uid[19] for uid in uids} <= set("89ab")
