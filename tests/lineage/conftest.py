"""The stores that every promise of the graph is tested on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lineage
from lineage import Graph, MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def open_graph(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Graph]]:
    """Opens a new, empty graph each time."""
    graphs: list[Graph] = []

    def open_one() -> Graph:
        if request.param == "memory":
            graph = Graph(MemoryStore())
        else:
            graph = lineage.open(tmp_path / f"{len(graphs)}.db")
        graphs.append(graph)
        return graph

    yield open_one
    for graph in graphs:
        graph.close()


@pytest.fixture
def graph(open_graph: Callable[[], Graph]) -> Graph:
    """An empty graph, once in memory and once in SQLite."""
    return open_graph()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a lineage file may be."""
    return tmp_path / "lineage.db"
