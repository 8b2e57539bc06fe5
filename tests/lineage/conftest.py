"""The stores that every promise of the graph is tested on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lineage
from lineage import Graph, MemoryStore
from tests.lineage.postgres import PostgresServer

_IN_POSTGRES = 10


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for all graphs of the session, each in a schema of its own."""
    # What is tested on it is not whether a disk keeps what it is given.
    server = PostgresServer("fsync=off", "synchronous_commit=off", "full_page_writes=off")
    yield server
    server.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def open_graph(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Graph]]:
    """Opens a new, empty graph each time.

    A property test opens dozens: the first of them lie in PostgreSQL, where one costs 40 ms and
    each statement a way there and back.
    """
    graphs: list[Graph] = []

    def open_one() -> Graph:
        if request.param == "memory" or (
            request.param == "postgres" and len(graphs) >= _IN_POSTGRES
        ):
            graph = Graph(MemoryStore())
        elif request.param == "postgres":
            graph = lineage.open(request.getfixturevalue("postgres").new_url())
        else:
            graph = lineage.open(tmp_path / f"{len(graphs)}.db")
        graphs.append(graph)
        return graph

    yield open_one
    for graph in graphs:
        graph.close()


@pytest.fixture
def graph(open_graph: Callable[[], Graph]) -> Graph:
    """An empty graph, once in each store."""
    return open_graph()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a lineage file may be."""
    return tmp_path / "lineage.db"
