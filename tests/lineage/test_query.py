"""Queries, on every store; random graphs are compared with the plainest walk there is."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage import (
    AssociationType,
    Entity,
    EntityNotFound,
    Graph,
    InvalidEntity,
    InvalidQuery,
    Kind,
    MemoryStore,
    action,
    artifact,
    context,
    derived_uid,
)

Edge = tuple[str, str, str]

# Functions that open a graph are made once per test; every example opens a new one.
SETTINGS = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def node(number: int) -> Entity:
    """Node `number` of a random graph; a third each of artifacts, actions and contexts."""
    kinds = (
        lambda: artifact(f"Data{number % 2}", f"uri/{number}"),
        lambda: action("Job", str(number)),
        lambda: context("Group", str(number)),
    )
    return kinds[number % 3]()


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, str]]]:
    count = draw(st.integers(1, 12))
    ends = st.integers(0, count - 1)
    edges = draw(
        st.lists(st.tuples(ends, ends, st.sampled_from(list(AssociationType))), max_size=30)
    )
    return count, [(a, b, link.value) for a, b, link in edges if a != b]


def record(graph: Graph, count: int, edges: list[tuple[int, int, str]]) -> list[str]:
    nodes = [node(number) for number in range(count)]
    uids = [entity.uid for entity in graph.record(nodes, kind="Nodes").entities]
    graph.record(
        [], [(uids[a], uids[b], link) for a, b, link in edges], kind="Edges", cycles="allow"
    )
    return uids


def naive(
    edges: set[Edge], start: str, direction: str, depth: int | None
) -> tuple[dict[str, int], set[Edge]]:
    """One node and one edge at a time."""
    depths, walked = {start: 0}, set()
    waiting = [start]
    while waiting:
        here = waiting.pop(0)
        if depth is not None and depths[here] >= depth:
            continue
        for source, destination, link in edges:
            for near, far, ways in (
                (destination, source, ("ascendants", "both")),
                (source, destination, ("descendants", "both")),
            ):
                if near == here and direction in ways:
                    walked.add((source, destination, link))
                    if far not in depths:
                        depths[far] = depths[here] + 1
                        waiting.append(far)
    return depths, walked


@SETTINGS
@given(
    spec=graphs(),
    start=st.integers(0, 11),
    direction=st.sampled_from(["ascendants", "descendants", "both"]),
    depth=st.none() | st.integers(0, 5),
    limit=st.none() | st.integers(1, 6),
    types=st.sets(st.sampled_from(["Data0", "Data1", "Job", "Group"])),
    kinds=st.sets(st.sampled_from([Kind.ARTIFACT, Kind.ACTION, Kind.CONTEXT])),
)
def test_a_query_is_a_breadth_first_walk(
    open_graph: Callable[[], Graph],
    spec: tuple[int, list[tuple[int, int, str]]],
    start: int,
    direction: str,
    depth: int | None,
    limit: int | None,
    types: set[str],
    kinds: set[Kind],
) -> None:
    count, links = spec
    graph = open_graph()
    uids = record(graph, count, links)
    edges = {(uids[a], uids[b], link) for a, b, link in links}
    origin = uids[start % count]
    depths, walked = naive(edges, origin, direction, depth)
    order = sorted(depths, key=lambda uid: (depths[uid], uids.index(uid)))
    entities = {uid: graph.entity(uid) for uid in order}
    matching = [
        uid
        for uid in order
        if (not types or entities[uid].type in types) and (not kinds or entities[uid].kind in kinds)
    ]
    found = matching[:limit]

    result = graph.query(origin, direction, depth=depth, types=types, kinds=kinds, limit=limit)

    assert [entity.uid for entity in result.entities] == found
    assert list(result.entities) == [entities[uid] for uid in found]
    assert len(result) == len(found)
    assert result.truncated == (len(matching) > len(found))
    assert {uid: result.depths[uid] for uid in found} == {uid: depths[uid] for uid in found}
    got = {(edge.source, edge.destination, edge.type.value) for edge in result.associations}
    assert len(got) == len(result.associations)
    assert got <= walked
    if not types and not kinds:
        assert got == {edge for edge in walked if {edge[0], edge[1]} <= set(found)}
        assert result.path_entities == ()
    else:
        shown = {entity.uid for entity in (*result.entities, *result.path_entities)}
        ends = {end for edge in got for end in edge[:2]}
        assert ends == shown or (ends == set() and shown <= {origin})
        assert not {entity.uid for entity in result.path_entities} & set(found)
        # From what is shown alone, each match is reached as fast as in the whole graph.
        reached, _ = naive(got, origin, direction, depth)
        assert all(reached[uid] == depths[uid] for uid in found)
    bare = graph.query(
        origin, direction, depth=depth, types=types, kinds=kinds, limit=limit, include_edges=False
    )
    assert bare.entities == result.entities
    assert not bare.associations
    assert not bare.path_entities
    graph.close()


@SETTINGS
@given(spec=graphs())
def test_both_stores_give_the_same_graph(
    open_graph: Callable[[], Graph], spec: tuple[int, list[tuple[int, int, str]]]
) -> None:
    graph, twin = open_graph(), Graph(MemoryStore())
    for one in (graph, twin):
        record(one, *spec)
    assert graph.stats() == twin.stats()
    for uid in (entity.uid for entity in graph.find()):
        ours, theirs = graph.query(uid, "both"), twin.query(uid, "both")
        assert [e.uid for e in ours.entities] == [e.uid for e in theirs.entities]
        assert set(ours.associations) == set(theirs.associations)
        assert ours.depths == theirs.depths
    graph.close()


def chain(graph: Graph, length: int) -> list[str]:
    nodes = [artifact("DataSet", f"s3://b/{number}") for number in range(length)]
    recorded = graph.record(nodes, [(a, b, "DerivedFrom") for a, b in pairwise(nodes)], kind="T")
    return [entity.uid for entity in recorded.entities]


def test_depth_counts_associations(graph: Graph) -> None:
    uids = chain(graph, 10)
    result = graph.query(uids[9], "ascendants", depth=3)
    assert [entity.uid for entity in result.entities] == uids[9:5:-1]
    assert len(result.associations) == 3
    assert [entity.uid for entity in graph.query(uids[9], depth=0)] == [uids[9]]


def test_there_is_no_end_to_depth(graph: Graph) -> None:
    uids = chain(graph, 3_000)
    result = graph.query(uids[0], "descendants")
    assert len(result) == 3_000
    assert result.depths[uids[-1]] == 2_999


def test_both_walks_both_ways_from_every_visited_entity(graph: Graph) -> None:
    """Not the union of the two directions: the sibling is reached by way of the source."""
    source, one, sibling = (artifact("D", name) for name in ("source", "one", "sibling"))
    graph.record(
        [source, one, sibling],
        [(source, one, "DerivedFrom"), (source, sibling, "DerivedFrom")],
        kind="T",
    )
    assert {entity.name for entity in graph.query(one, "both")} == {"source", "one", "sibling"}
    assert graph.query(one, "both").depths[derived_uid(sibling)] == 2


def test_filters_restrict_what_is_returned_and_not_what_is_walked(graph: Graph) -> None:
    raw, build, data, job = (
        artifact("Raw", "raw"), action("Build", "b"), artifact("DataSet", "d"), action("Train", "t")
    )  # fmt: skip
    graph.record(
        [raw, build, data, job],
        [(raw, build, "ContributedTo"), (build, data, "Produced"), (data, job, "ContributedTo")],
        kind="T",
    )
    result = graph.query(job, types=["Raw"])
    assert [entity.name for entity in result] == ["raw"]
    assert [entity.name for entity in result.path_entities] == ["t", "d", "b"]
    assert len(result.associations) == 3
    assert result.depths[derived_uid(raw)] == 3


def test_filters_combine(graph: Graph) -> None:
    a, b = artifact("X", "a"), action("X", "b")
    graph.record([a, b], [(a, b, "ContributedTo")], kind="T")
    assert [e.name for e in graph.query(b, types=["X", "Y"], kinds=["Artifact"])] == ["a"]
    assert [e.name for e in graph.query(b, types="X", kinds="Action")] == ["b"]
    assert len(graph.query(b, types=["Y"])) == 0


def test_a_filter_by_the_beginning_of_uris(graph: Graph) -> None:
    job = action("Clean", "c")
    data = [artifact("D", uri) for uri in ("s3://lake/a", "s3://lake/%_", "memory:1", "s3://l")]
    graph.record([], [(one, job, "ContributedTo") for one in data], kind="T")

    def found(**wanted: Any) -> set[str]:
        return {entity.source_uri for entity in graph.query(job, **wanted)}

    assert found(uris="s3://lake/") == {"s3://lake/a", "s3://lake/%_"}
    assert found(uris=["memory:", "s3://lake/%"], types=["D"]) == {"memory:1", "s3://lake/%_"}
    assert found(uris=["S3://"]) == set()
    assert found(uris=["s3://lake/"], as_of=1) == {"s3://lake/a", "s3://lake/%_"}
    assert {one.source_uri for one in graph.search(uris=["memory"])} == {"memory:1"}


def test_the_start_may_be_an_entity_that_was_never_stored_itself(graph: Graph) -> None:
    graph.record([artifact("D", "d")], kind="T")
    assert len(graph.query(artifact("D", "d"))) == 1


def test_the_direction_may_be_written_as_sagemaker_does(graph: Graph) -> None:
    uids = chain(graph, 2)
    assert len(graph.query(uids[0], "Descendants")) == 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"direction": "up"}, "ascendants, descendants, both, either; got 'up'"),
        ({"depth": -1}, "depth: expected an int of at least 0"),
        ({"depth": 1.5}, "depth"),
        ({"depth": True}, "depth"),
        ({"limit": 0}, "limit: expected an int of at least 1"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(
    graph: Graph, options: dict[str, object], complaint: str
) -> None:
    uid = chain(graph, 1)[0]
    with pytest.raises(InvalidQuery, match=complaint):
        graph.query(uid, **options)  # type: ignore[arg-type]


def test_an_unknown_kind_is_refused(graph: Graph) -> None:
    with pytest.raises(InvalidEntity, match="Thing"):
        graph.query(chain(graph, 1)[0], kinds=["Thing"])


def test_an_unknown_start_is_refused(graph: Graph) -> None:
    with pytest.raises(EntityNotFound):
        graph.query("urn:fs:context:A:b")


def test_a_large_answer_is_read_when_asked_for(graph: Graph) -> None:
    hub = context("FeatureGroup", "hub")
    leaves = [artifact("D", f"d/{number}") for number in range(6_000)]
    graph.record([hub, *leaves], [(hub, leaf, "AssociatedWith") for leaf in leaves], kind="T")
    result = graph.query(hub, "descendants")
    assert len(result) == 6_001
    assert [entity.name for entity in result.entities[:2]] == ["hub", "0"]
    assert len(result.associations) == 6_000
    assert result.to_arrow().num_rows == 6_001


def test_the_last_of_a_limit_keep_their_associations(graph: Graph) -> None:
    """Between what a limit leaves, also where the walk ends."""
    steps = [action("Step", str(n)) for n in range(3)]
    [one, two, three] = steps
    links = [(one, two), (two, one), (three, one)]
    graph.record(steps, [(*ends, "ContributedTo") for ends in links], kind="T", cycles="allow")
    found = graph.query(one, "ascendants", limit=2)
    assert [entity.name for entity in found] == ["0", "1"]
    names = {entity.uid: entity.name for entity in found}
    assert sorted((names[edge.source], names[edge.destination]) for edge in found.associations) == [
        ("0", "1"),
        ("1", "0"),
    ]
