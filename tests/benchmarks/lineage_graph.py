"""A large lineage graph, and two other ways to walk it: recursive SQL and networkx in memory."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final, final

import networkx

import lineage
from lineage import Entity, Graph, derived_uid

__all__ = ["DEPTH", "PROJECT", "Networkx", "Sql", "record_graph"]

DEPTH: Final = 10
PROJECT: Final = 70
# Eleven hubs make each reach 9 % of the graph: 91,000 of a million entities.
_HUBS: Final = 11
_WINDOW: Final = 8
_PROJECTS_PER_EVENT: Final = 20


def record_graph(graph: Graph, projects: int) -> tuple[list[str], list[str]]:
    """Record projects of 70 entities below the hubs; return the uids of hubs and others."""
    hubs = [lineage.context("FeatureGroup", f"hub-{number}") for number in range(_HUBS)]
    graph.record(hubs, kind="GroupsCreated")
    uids: list[str] = []
    for first in range(0, projects, _PROJECTS_PER_EVENT):
        entities: list[Entity] = []
        links: list[tuple[Entity, Entity, str]] = []
        for number in range(first, min(first + _PROJECTS_PER_EVENT, projects)):
            project = [_member(number, place) for place in range(PROJECT)]
            links.append((hubs[number % _HUBS], project[0], "ContributedTo"))
            for place in range(1, PROJECT):
                near = project[max(0, place - _WINDOW) : place]
                wanted = 3 if random.random() < 0.7 else 2
                parents = random.sample(near, min(len(near), wanted))
                links += [(parent, project[place], "DerivedFrom") for parent in parents]
            entities += project
        graph.record(entities, links, kind="ProjectsRecorded")
        uids += map(derived_uid, entities)
    return list(map(derived_uid, hubs)), uids


def _member(project: int, place: int) -> Entity:
    name = f"{project:06d}-{place:02d}"
    if place % 3 == 1:
        return lineage.action("DatasetBuild", name, state="Completed")
    uri = f"s3://bucket/{name}.parquet"
    return lineage.artifact("DataSet", uri, content_hash=f"{project:06x}{place:02x}")


@final
class Sql:
    """The same questions as recursive queries, by one who knows the tables and their indexes."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)

    def ascendants(self, start: str) -> tuple[int, int]:
        rows = self._connection.execute(
            """
            WITH RECURSIVE up (id, depth) AS (
                SELECT id, 0 FROM entity WHERE uid = ?1
                UNION
                SELECT src, depth + 1 FROM up JOIN edge ON dst = up.id
                WHERE depth < ?2 AND valid_to_seq IS NULL
            )
            SELECT min(depth), entity.* FROM up JOIN entity USING (id) GROUP BY id
            """,
            (start, DEPTH),
        ).fetchall()
        inner = json.dumps([row[1] for row in rows if row[0] < DEPTH])
        edges = self._connection.execute(
            "SELECT src, dst, edge.type FROM json_each(?) CROSS JOIN edge ON dst = value "
            "WHERE valid_to_seq IS NULL",
            (inner,),
        ).fetchall()
        return len(rows), len(edges)

    def descendants(self, start: str) -> tuple[int, int]:
        down = """
            WITH RECURSIVE down (id) AS (
                SELECT id FROM entity WHERE uid = ?1
                UNION
                SELECT dst FROM down JOIN edge ON src = down.id WHERE valid_to_seq IS NULL
            )
        """
        nodes = self._connection.execute(f"{down} SELECT id FROM down", (start,)).fetchall()
        edges = self._connection.execute(
            f"{down} SELECT src, dst, type FROM down JOIN edge ON src = down.id "
            f"WHERE valid_to_seq IS NULL",
            (start,),
        ).fetchall()
        return len(nodes), len(edges)

    def close(self) -> None:
        self._connection.close()


@final
class Networkx:
    """The same questions to a graph that lies in memory already, with kind and name of each."""

    def __init__(self, path: Path) -> None:
        self._graph: Any = networkx.MultiDiGraph()
        with closing(sqlite3.connect(path)) as connection:
            names: dict[int, str] = {}
            for node, uid, kind, name in connection.execute(
                "SELECT id, uid, kind, name FROM entity"
            ):
                names[node] = uid
                self._graph.add_node(uid, kind=kind, name=name)
            self._graph.add_edges_from(
                (names[source], names[destination], link)
                for source, destination, link in connection.execute(
                    "SELECT src, dst, type FROM edge WHERE valid_to_seq IS NULL"
                )
            )

    def ascendants(self, start: str) -> tuple[int, int]:
        depths = networkx.single_source_shortest_path_length(
            self._graph.reverse(copy=False), start, cutoff=DEPTH
        )
        entities = [(uid, self._graph.nodes[uid]) for uid in depths]
        inner = [uid for uid, depth in depths.items() if depth < DEPTH]
        edges = list(self._graph.in_edges(inner, keys=True))
        return len(entities), len(edges)

    def descendants(self, start: str) -> tuple[int, int]:
        depths = networkx.single_source_shortest_path_length(self._graph, start)
        edges = list(self._graph.out_edges(depths, keys=True))
        return len(depths), len(edges)
