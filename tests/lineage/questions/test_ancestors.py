"""Common ancestors and descendants."""

from __future__ import annotations

from typing import Any

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import EntityNotFound, Graph, InvalidQuery, MemoryStore, action, artifact


@pytest.fixture
def family(graph: Graph) -> Graph:
    """root → table → two datasets → a model each; both models → one endpoint."""
    root, table = artifact("Raw", "root"), artifact("Table", "table")
    sets = [artifact("DataSet", f"set{n}") for n in (1, 2)]
    models = [artifact("Model", f"model{n}") for n in (1, 2)]
    endpoint = action("Deployment", "live")
    links = [(root, table)]
    links += [(table, one) for one in sets]
    links += list(zip(sets, models, strict=True))
    links += [(model, endpoint) for model in models]
    graph.record([], [(a, b, "ContributedTo") for a, b in links], kind="T")
    return graph


def uid(name: str) -> Any:
    return artifact("?", name)


def test_nearest_first_and_the_lowest_marked(family: Graph) -> None:
    found = family.common_ancestors(uid("model1"), uid("model2"))
    assert [(c.entity.name, c.distances, c.is_closest) for c in found] == [
        ("table", (2, 2), True),
        ("root", (3, 3), False),
    ]
    assert [entity.name for entity in found.closest] == ["table"]
    assert found.text().splitlines()[1] == "*   2 + 2  Table table v1"


def test_one_upstream_of_the_other_is_the_closest(family: Graph) -> None:
    found = family.common_ancestors(uid("table"), uid("model2"))
    assert [entity.name for entity in found.closest] == ["table"]
    assert found.found[0].distances == (0, 2)


def test_descendants_of_more_than_two(family: Graph) -> None:
    found = family.common_descendants(uid("model1"), uid("model2"), uid("set1"))
    assert [(c.entity.name, c.distances) for c in found] == [("live", (1, 1, 2))]
    assert found.direction == "descendants"


def test_filters_and_limits_restrict_what_is_returned(family: Graph) -> None:
    ends = (uid("model1"), uid("model2"))
    raw = family.common_ancestors(*ends, types=["Raw"])
    assert [(c.entity.name, c.is_closest) for c in raw] == [("root", False)]
    one = family.common_ancestors(*ends, limit=1)
    assert ([c.entity.name for c in one], one.truncated) == (["table"], True)
    assert "there are more" in one.text()
    assert not family.common_ancestors(*ends, depth=1).found
    assert not family.common_ancestors(*ends, through=["SameAs"]).found
    assert family.common_ancestors(*ends, depth=1).text().startswith("no common ancestor of")


def test_what_makes_no_sense_is_refused(family: Graph) -> None:
    with pytest.raises(InvalidQuery, match="two or more"):
        family.common_ancestors(uid("model1"))
    with pytest.raises(EntityNotFound):
        family.common_descendants(uid("model1"), "nobody")
    with pytest.raises(InvalidQuery, match="limit"):
        family.common_ancestors(uid("model1"), uid("model2"), limit=0)


@settings(max_examples=40, deadline=None)
@given(
    edges=st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=18),
    ends=st.lists(st.integers(0, 7), min_size=2, max_size=3),
)
def test_they_are_those_of_networkx(edges: set[tuple[int, int]], ends: list[int]) -> None:
    graph = Graph(MemoryStore())
    nodes = [artifact("D", f"n{n}") for n in range(8)]
    forward = [(a, b) for a, b in sorted(edges) if a < b]
    graph.record(nodes, [(nodes[a], nodes[b], "DerivedFrom") for a, b in forward], kind="T")
    theirs: Any = networkx.DiGraph(forward)
    theirs.add_nodes_from(range(8))
    common = set.intersection(*({end} | networkx.ancestors(theirs, end) for end in ends))
    lowest = {n for n in common if not any(b in common for _, b in theirs.out_edges(n))}
    found = graph.common_ancestors(*(nodes[end] for end in ends))
    assert {int(c.entity.name[1:]) for c in found} == common
    assert {int(entity.name[1:]) for entity in found.closest} == lowest
