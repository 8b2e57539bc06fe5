"""Wide steps through a store: the answers of narrow ones, of the state that was walked."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from lineage import Graph
from lineage.entity import End
from tests.lineage.test_mirror import LINKS, answer, node

WIDE = "lineage.frontier._MANY"


def record(graph: Graph, seed: int) -> None:
    """Some associations between nine entities, of which some end again."""
    chance = random.Random(seed)
    for _ in range(3):
        links = set()
        for _ in range(chance.randint(1, 9)):
            a, b = chance.sample(range(9), 2)
            links.add((a, b, chance.choice(LINKS)))
        said: list[tuple[End, End, str]]
        said = [(node(a), node(b), link) for a, b, link in sorted(links)]
        graph.record([], said, kind="T", cycles="allow")
        graph.record(retract=chance.sample(said, 1), kind="T")


@pytest.mark.parametrize("seed", range(2))
def test_wide_steps_answer_as_narrow_ones(
    graph: Graph, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.record([node(number) for number in range(9)], kind="T")
    record(graph, seed)
    options: list[dict[str, Any]] = [
        {},
        {"depth": 2},
        {"limit": 3},
        {"max_walked": 4},
        {"through": ["Produced", "SameAs"]},
        {"types": ["Step"]},
        {"types": ["Step"], "include_edges": False},
        {"as_of": 4},
    ]
    for direction, given in product(("ascendants", "descendants", "both", "either"), options):
        for start in (0, 4):
            asked = {"start": start, "direction": direction, **given}
            monkeypatch.setattr(WIDE, 10**9)
            narrow = answer(graph, asked)
            monkeypatch.setattr(WIDE, 1)
            assert answer(graph, asked) == narrow


def test_associations_that_are_read_later_are_those_that_were_walked(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WIDE, 1)
    monkeypatch.setattr("lineage.query._EAGER_ENTITIES", 1)
    links: list[tuple[End, End, str]]
    links = [(node(0), node(number), "Produced") for number in range(1, 5)]
    graph.record([], links, kind="T")
    result = graph.query(node(0), "descendants")
    graph.record([], [(node(1), node(2), "DerivedFrom")], retract=links[:1], kind="T")
    assert len(result.associations) == len(result) - 1 == 4
    assert len(graph.query(node(0), "descendants").associations) == 3


def test_a_small_answer_needs_no_store_afterwards(
    open_graph: Callable[[], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WIDE, 1)
    graph = open_graph()
    graph.record([], [(node(0), node(1), "Produced")], kind="T")
    result = graph.query(node(0), "descendants")
    graph.close()
    assert [edge.type for edge in result.associations] == ["Produced"]
