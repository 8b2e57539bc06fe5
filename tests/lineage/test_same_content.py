"""Equal bytes at two places are told of by themselves."""

from pathlib import Path

import lineage
from lineage import Graph, MemoryStore, Recorder, artifact, bytes_digest
from lineage.store.tables import Tables
from tests.lineage.explaining import Explaining

DIGEST = bytes_digest(b"rows")


def data(uri: str, content: str = DIGEST) -> lineage.Entity:
    return artifact("DataSet", uri, content_hash=content)


def sized(uri: str, size: int, type: str = "DataSet") -> lineage.Entity:
    return artifact(type, uri, content_hash=DIGEST, properties={"bytes": size})


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


def test_trifles_are_not_copies(graph: Graph, tmp_path: Path) -> None:
    for content in (b"7", b"{}", b"x" * 63, b"x" * 64):
        for name in ("a", "b"):
            place = tmp_path / f"{len(content)}{name}"
            place.mkdir()
            (place / "file").write_bytes(content)
            for path in (place, place / "file"):
                graph.record([known(path)], kind="T")
    graph.record([data("s3://a", bytes_digest(b"7")), data("s3://b", bytes_digest(b"7"))], kind="T")
    found = [(source.rpartition("/")[2], copy.rpartition("/")[2]) for source, copy in same(graph)]
    assert found == [("64a", "64b"), ("file", "file")]


def known(path: Path) -> lineage.Entity:
    found = lineage.as_artifact(path)
    assert isinstance(found, lineage.Entity)
    return found


def test_the_size_counts_on_either_side(graph: Graph) -> None:
    graph.record([sized("s3://a", 63)], kind="T")
    graph.record([data("s3://b")], kind="T")
    assert same(graph) == []


def test_copies_have_one_type(graph: Graph) -> None:
    graph.record([sized("s3://a", 99), sized("s3://b", 99, "Model")], kind="T")
    graph.record([sized("s3://c", 99, "Model"), sized("s3://d", 99)], kind="T")
    assert same(graph) == [("s3://a", "s3://d"), ("s3://b", "s3://c")]


def test_what_lies_nowhere_is_no_copy(graph: Graph) -> None:
    for uri in ("dataset:1", "memory:1", "algorithm:a", "algorithm:b"):
        graph.record([data(uri)], kind="T")
    assert same(graph) == []
    graph.record([data("file:///d/a", bytes_digest(b"more"))], kind="T")
    graph.record([data("d/b", bytes_digest(b"more")), data("memory:2")], kind="T")
    assert same(graph) == [("file:///d/a", "d/b")]


def test_equal_content_is_looked_up_in_an_index(graph: Graph) -> None:
    copies = [data(f"s3://b/{number}") for number in range(20)]
    graph.record(copies, kind="T")
    with graph.store.view() as view:
        wanted = (DIGEST, "DataSet")
        assert view.same_content([wanted])[wanted].source_uri == "s3://b/0"
        if isinstance(graph.store, MemoryStore):
            return
        assert isinstance(view, Tables)
        in_file = isinstance(graph.store, lineage.SQLiteStore)
        explain = "EXPLAIN QUERY PLAN" if in_file else "EXPLAIN (COSTS OFF)"
        explaining = Explaining(view.connection, explain)
        Tables(explaining, view._sql).same_content([wanted])
    assert "artifact_content" in explaining.plan
    assert "TEMP B-TREE" not in explaining.plan
