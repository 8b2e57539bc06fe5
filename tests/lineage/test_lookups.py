"""Look-ups cost the same however many versions an artifact has: an index leads to the one row."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import lineage
from lineage import Graph, MemoryStore, artifact
from lineage.store import View
from lineage.store.postgres import PostgresStore
from lineage.store.tables import Tables
from tests.lineage.explaining import Explaining
from tests.lineage.postgres import PostgresServer

URI = "s3://b/data"
LONG = "s3://b/" + "x" * 8_000

LOOK_UPS: dict[str, tuple[Callable[[View], Any], str]] = {
    "the newest version": (lambda view: view.latest([URI]), "artifact_version|version_of_uri"),
    "an identity": (lambda view: view.artifact(URI, "7"), "artifact_identity|content_of_uri"),
    "the versions around one": (
        lambda view: view.around(URI, 7),
        "artifact_version|version_of_uri",
    ),
    "the newest of a name": (lambda view: view.nearest("data"), "entity_name|name_of_entity"),
    "all of a place": (
        lambda view: view.find(kind=None, type=None, name=None, source_uri=URI),
        "artifact_(identity|version)|(content|version)_of_uri",
    ),
}


@pytest.mark.parametrize("name", LOOK_UPS)
def test_an_index_leads_to_the_one_row(graph: Graph, name: str) -> None:
    if isinstance(graph.store, MemoryStore):
        pytest.skip("it has no plans")
    look_up, index = LOOK_UPS[name]
    graph.record([artifact("DataSet", URI, content_hash=str(n)) for n in range(20)], kind="T")
    with graph.store.view() as view:
        assert isinstance(view, Tables)
        if isinstance(graph.store, PostgresStore):  # so few rows are read from end to end
            view.connection.one("SELECT set_config('enable_seqscan', 'off', true)")
            view.connection.one("SELECT set_config('enable_bitmapscan', 'off', true)")
        in_file = isinstance(graph.store, lineage.SQLiteStore)
        explaining = Explaining(
            view.connection, "EXPLAIN QUERY PLAN" if in_file else "EXPLAIN (COSTS OFF)"
        )
        look_up(Tables(explaining, view._sql))

    assert re.search(index, explaining.plans[0])
    if name != "all of a place":  # they are sorted by age
        assert not any("Sort" in plan or "TEMP B-TREE" in plan for plan in explaining.plans)


def test_texts_longer_than_an_index_takes_are_found(graph: Graph) -> None:
    for content in ("1", "2", "3"):
        graph.record([artifact("DataSet", LONG, content_hash=content, name="n" * 1_024)], kind="T")
    found = graph.find(source_uri=LONG)
    assert [one.version for one in found] == [1, 2, 3]
    assert graph.find(name="n" * 1_024) == found
    assert graph.find(type="DataSet", source_uri=LONG, name="m") == []
    with graph.store.view() as view:
        assert view.latest([LONG])[LONG].version == 3
        below, equal, above = view.around(LONG, 2)
    assert [one and one.version for one in (below, equal, above)] == [1, 2, 3]


def test_a_schema_of_before_gets_its_indexes_and_others_open_it(postgres: PostgresServer) -> None:
    import psycopg

    url = postgres.new_url()
    lineage.open(url).close()
    place, _, schema = url.rpartition("&schema=")
    indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = %s AND indexname = %s"
    wanted = (schema, "version_of_uri")
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute(f"DROP INDEX {schema}.version_of_uri")
        for name in ("content_of_uri", "artifact_content_type", "source_of_entity"):
            connection.execute(f"DROP INDEX {schema}.{name}")
        connection.execute(f"DROP INDEX {schema}.name_of_entity")
        # One who does not own the tables cannot make them, and works without.
        connection.execute(f"CREATE ROLE guest_{schema} LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO guest_{schema}")
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO guest_{schema}")
        guest = url.replace("postgres@", f"guest_{schema}@")
        with lineage.open(guest) as graph:
            graph.record([artifact("DataSet", URI)], kind="T")
        assert connection.execute(indexes, wanted).fetchone() == (0,)
        with lineage.open(url) as graph:
            assert [one.version for one in graph.find(source_uri=URI)] == [1]
        assert connection.execute(indexes, wanted).fetchone() == (1,)
