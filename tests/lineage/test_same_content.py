"""Equal bytes at two places are told of by themselves."""

from collections.abc import Iterator, Sequence
from typing import Any

import lineage
from lineage import Graph, MemoryStore, Recorder, artifact, bytes_digest
from lineage.store.tables import Connection, Tables

DIGEST = bytes_digest(b"rows")


def data(uri: str, content: str = DIGEST) -> lineage.Entity:
    return artifact("DataSet", uri, content_hash=content)


def same(graph: Graph) -> list[tuple[str, str]]:
    found = set()
    for one in graph.find():
        found |= set(graph.query(one, "both", through=["SameAs"]).associations)
    names = {one.uid: one.source_uri for one in graph.find()}
    return sorted((names[edge.source], names[edge.destination]) for edge in found)


def test_copies_hang_on_the_oldest(graph: Graph) -> None:
    graph.record([data("s3://a")], kind="T")
    with Recorder(graph, "Copy", "c") as job:
        job.input(data("s3://b"))
        job.output(data("s3://c"))
    assert same(graph) == [("s3://a", "s3://b"), ("s3://a", "s3://c")]
    graph.record([data("s3://b"), data("s3://d", bytes_digest(b"x"))], kind="T")
    assert len(same(graph)) == 2
    assert graph.verify().intact


def test_of_two_in_one_event_the_first_is_the_older(graph: Graph) -> None:
    graph.record([data("s3://b"), data("s3://a")], kind="T")
    assert same(graph) == [("s3://b", "s3://a")]


def test_nothing_and_what_is_no_digest_are_not_compared(graph: Graph) -> None:
    for content in (bytes_digest(b""), "51b2", "", DIGEST.upper()):
        graph.record([data("s3://a", content), data("s3://b", content)], kind="T")
    assert same(graph) == []


def test_content_that_comes_back_to_its_place_is_known(graph: Graph) -> None:
    for content in (DIGEST, bytes_digest(b"x"), DIGEST):
        graph.record([data("s3://a", content)], kind="T")
    assert same(graph) == []


class Explaining:
    """A connection that says how the database goes about a statement, and answers nothing."""

    def __init__(self, connection: Connection, explain: str) -> None:
        self.plan = ""
        self._connection = connection
        self._explain = explain

    def all(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        rows = self._connection.all(f"{self._explain} {statement}", *parameters)
        self.plan = "\n".join(str(row[-1]) for row in rows)
        return []

    def one(self, statement: str, *parameters: Any) -> tuple[Any, ...] | None:
        raise NotImplementedError

    def each(self, statement: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
        raise NotImplementedError

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        raise NotImplementedError


def test_equal_content_is_looked_up_in_an_index(graph: Graph) -> None:
    copies = [data(f"s3://b/{number}") for number in range(20)]
    graph.record(copies, kind="T")
    with graph.store.view() as view:
        assert view.same_content([DIGEST])[DIGEST].source_uri == "s3://b/0"
        if isinstance(graph.store, MemoryStore):
            return
        assert isinstance(view, Tables)
        in_file = isinstance(graph.store, lineage.SQLiteStore)
        explain = "EXPLAIN QUERY PLAN" if in_file else "EXPLAIN (COSTS OFF)"
        explaining = Explaining(view.connection, explain)
        Tables(explaining, view._sql).same_content([DIGEST])
    assert "artifact_content" in explaining.plan
    assert "TEMP B-TREE" not in explaining.plan
