"""Paths: shortest first, each simple, and no more is walked than the smaller side."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice, pairwise
from typing import Any

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import (
    EntityNotFound,
    Graph,
    InvalidAssociation,
    InvalidQuery,
    MemoryStore,
    action,
    artifact,
)


def chain(graph: Graph, *names: str, link: str = "DerivedFrom") -> None:
    entities = [artifact("D", name) for name in names]
    graph.record(entities, [(a, b, link) for a, b in pairwise(entities)], kind="T")


def at(graph: Graph, name: str) -> Any:
    return graph.find(source_uri=name)[0]


def names(paths: Any) -> list[str]:
    return ["".join(entity.name for entity in path.entities) for path in paths]


@pytest.fixture
def diamond() -> Graph:
    """a → b → d and a → c → d, a → d, and d → e."""
    graph = Graph(MemoryStore())
    for path in ("abd", "acd", "ad", "de"):
        chain(graph, *path)
    return graph


def test_the_shortest_come_first_and_equal_ones_in_order_of_recording(diamond: Graph) -> None:
    found = diamond.paths(at(diamond, "a"), at(diamond, "e"))
    assert names(found) == ["ade", "abde", "acde"]
    assert not found.truncated
    assert found[0].length == 2
    assert [(a.source, a.destination) for a in found[1].associations] == [
        (at(diamond, x).uid, at(diamond, y).uid) for x, y in ("ab", "bd", "de")
    ]


def test_limits_are_told(diamond: Graph) -> None:
    a, e = at(diamond, "a"), at(diamond, "e")
    assert (names(diamond.paths(a, e, limit=2)), diamond.paths(a, e, limit=2).truncated) == (
        ["ade", "abde"],
        True,
    )
    assert not diamond.paths(a, e, limit=3).truncated
    assert names(diamond.paths(a, e, max_length=2)) == ["ade"]
    assert names(diamond.paths(a, e, max_length=1)) == []
    assert diamond.paths(a, e, max_walked=2).truncated


def test_directions(diamond: Graph) -> None:
    a, b, c, d = (at(diamond, name) for name in "abcd")
    assert names(diamond.paths(d, a)) == ["da", "dba", "dca"]
    assert names(diamond.paths(d, a, direction="descendants")) == []
    assert names(diamond.paths(d, a, direction="ascendants")) == ["da", "dba", "dca"]
    assert names(diamond.paths(b, c)) == []
    assert names(diamond.paths(b, c, direction="both")) == ["bac", "bdc", "badc", "bdac"]
    assert names(diamond.paths(a, a)) == ["a"]
    assert "←DerivedFrom─ D b v1" in diamond.paths(d, a)[1].text()


def test_the_shortest_alone(diamond: Graph) -> None:
    a, b, c, e = (at(diamond, name) for name in "abce")
    shortest = diamond.shortest_path(a, e)
    assert shortest is not None
    assert names([shortest]) == ["ade"]
    assert diamond.shortest_path(b, c) is None


def test_only_some_associations_and_an_earlier_graph(graph: Graph) -> None:
    chain(graph, "a", "b", "c")
    before = graph.last_sequence()
    chain(graph, "a", "c", link="AssociatedWith")
    a, c = at(graph, "a"), at(graph, "c")
    assert names(graph.paths(a, c)) == ["ac", "abc"]
    assert names(graph.paths(a, c, through=["DerivedFrom"])) == ["abc"]
    assert names(graph.paths(a, c, as_of=before)) == ["abc"]
    with pytest.raises(EntityNotFound):
        graph.paths(a, c, as_of=a.created - timedelta(seconds=1))


def test_two_associations_of_one_step_are_one_path(graph: Graph) -> None:
    chain(graph, "a", "b")
    chain(graph, "a", "b", link="SameAs")
    (path,) = graph.paths(at(graph, "a"), at(graph, "b"))
    assert [each.type for each in path.associations] == ["DerivedFrom", "SameAs"]
    assert path.text().splitlines()[1] == "─DerivedFrom→ ─SameAs→ D b v1"


def test_what_makes_no_sense_is_refused(diamond: Graph) -> None:
    a, b = at(diamond, "a"), at(diamond, "b")
    with pytest.raises(EntityNotFound, match="'nobody'"):
        diamond.paths(a, "nobody")
    for wrong in ({"limit": 0}, {"max_length": -1}, {"max_walked": 1}, {"limit": True}):
        with pytest.raises(InvalidQuery, match=next(iter(wrong))):
            diamond.paths(a, b, **wrong)
    with pytest.raises(InvalidQuery, match="direction"):
        diamond.paths(a, b, direction="sideways")
    with pytest.raises(InvalidAssociation, match="did you mean 'Produced'"):
        diamond.paths(a, b, through=["Produces"])


def test_a_hub_on_the_way_is_not_walked() -> None:
    graph = Graph(MemoryStore())
    hub = artifact("D", "hub")
    leaves = [artifact("D", f"leaf/{n}") for n in range(3000)]
    graph.record([hub, *leaves], [(hub, leaf, "DerivedFrom") for leaf in leaves], kind="T")
    # Every leaf has a job behind it, so a walk down from the hub would read them all.
    jobs = [action("J", f"job/{n}") for n in range(3000)]
    pairs = list(zip(leaves, jobs, strict=True))
    graph.record(jobs, [(leaf, job, "ContributedTo") for leaf, job in pairs], kind="T")
    found = graph.paths(hub, jobs[7], max_walked=10)
    assert names(found) == ["hub7job/7"]
    assert not found.truncated


def test_many_paths_cost_no_more_than_are_asked_for() -> None:
    """2^40 paths through forty diamonds in a row, and a circle in each."""
    graph = Graph(MemoryStore())
    for stage in range(40):
        for side in "xy":
            chain(graph, f"{stage}", f"{stage}{side}", f"{stage + 1}")
        graph.record(
            [],
            [
                (artifact("D", f"{stage}x"), artifact("D", f"{stage}y"), "SameAs"),
                (artifact("D", f"{stage}y"), artifact("D", f"{stage}x"), "SameAs"),
            ],
            kind="T",
        )
    found = graph.paths(at(graph, "0"), at(graph, "40"), limit=5)
    assert [path.length for path in found] == [80] * 5
    assert found.truncated
    assert len({tuple(e.uid for e in path.entities) for path in found}) == 5


@settings(max_examples=60, deadline=None)
@given(
    edges=st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=18),
    direction=st.sampled_from(["ascendants", "descendants", "both"]),
    limit=st.integers(1, 12),
    max_length=st.none() | st.integers(0, 5),
)
def test_they_are_those_of_networkx(
    edges: set[tuple[int, int]], direction: str, limit: int, max_length: int | None
) -> None:
    graph = Graph(MemoryStore())
    nodes = [artifact("D", f"n{n}") for n in range(7)]
    links = [(nodes[a], nodes[b], "SameAs") for a, b in sorted(edges) if a != b]
    stored = graph.record(nodes, links, kind="T").entities
    numbers = {entity.uid: n for n, entity in enumerate(stored)}
    theirs: Any = networkx.DiGraph() if direction != "both" else networkx.Graph()
    theirs.add_nodes_from(range(7))
    theirs.add_edges_from((b, a) if direction == "ascendants" else (a, b) for a, b in edges)
    theirs.remove_edges_from([(n, n) for n in range(7)])
    everything = sorted(
        (
            path
            for path in networkx.all_simple_paths(theirs, 0, 6)
            if max_length is None or len(path) - 1 <= max_length
        ),
        key=lambda path: (len(path), path),
    )
    found = graph.paths(nodes[0], nodes[6], direction=direction, limit=limit, max_length=max_length)
    assert [[numbers[e.uid] for e in path.entities] for path in found] == list(
        islice(everything, limit)
    )
    assert found.truncated == (len(everything) > limit)
    shortest = graph.shortest_path(nodes[0], nodes[6], direction=direction)
    if max_length is None:
        assert (shortest is None) == (not everything)
        if shortest is not None:
            assert [numbers[e.uid] for e in shortest.entities] == everything[0]
