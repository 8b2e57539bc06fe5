"""NDJSON: what one graph wrote, another reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lineage import (
    ColumnEdge,
    ColumnLineage,
    Entity,
    EntityConflict,
    Facet,
    Graph,
    InvalidImport,
    Kind,
    MemoryStore,
    Run,
    artifact,
    context,
    derived_uid,
    trial_component,
)
from lineage.imports import import_ndjson
from lineage.imports.ndjson import IMPORTED

HEADER = '{"is":"header","format":"featureline.lineage","form":1,"sequence":1}\n'


@pytest.fixture
def full() -> Graph:
    graph = Graph(MemoryStore())
    data = artifact("DataSet", "s3://b/d", content_hash="1", name="dätä</script>\ufffe")
    newer = artifact("DataSet", "s3://b/d", content_hash="2")
    job = Entity(
        Kind.TRIAL_COMPONENT,
        "TrainingJob",
        "job",
        properties={"deep": {"a": [1, None, 2.5]}, "large": 2**63},
        facets={"state": Facet(2**62, "Failed"), "gone": Facet(5, None)},
    )
    model = artifact("Model", "s3://b/model", state="Approved")
    other = Entity(Kind.CONTEXT, "Thing", "name", uid="a-uid-of-its-own", version=4)
    graph.record(
        [data, newer, job, model, other],
        [(data, job, "ContributedTo"), (job, model, "Produced"), (model, other, "AssociatedWith")],
        kind="T",
        columns=[
            ColumnLineage(
                model,
                "job",
                (ColumnEdge(data, "x", "y", "DIRECT", "IDENTITY", "f", True, {"i": 1}),),
                9,
            )
        ],
        runs=[Run("r", job, "Failed", 10, 20, {"seed": 1}), Run("s", job)],
        tags=[(model, "stage", "live")],
        aliases=[("arn:model", model)],
    )
    return graph


def said(path: Path) -> list[Any]:
    """The lines of a file without what only one graph can say: its clock."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][1:]
    for line in lines:
        line.pop("created_us", None)
        line.pop("modified_us", None)
        line.get("facets", {}).pop(IMPORTED, None)
        if line.get("facets") == {}:
            del line["facets"]
    return sorted(lines, key=lambda line: json.dumps(line, sort_keys=True))


def test_nothing_is_lost(full: Graph, open_graph: Callable[[], Graph], tmp_path: Path) -> None:
    first, again = tmp_path / "first.ndjson", tmp_path / "again.ndjson"
    full.export(first)
    graph = open_graph()
    read = import_ndjson(graph, first, actor="importer")
    assert (read.entities, read.associations, read.notes) == (5, 4, ())
    graph.export(again)
    assert said(again) == said(first)
    assert graph.verify(projections=True).intact
    model = graph.entity("arn:model")
    assert graph.tags(model) == {"stage": "live"}
    before = full.entity("arn:model")
    assert before.created is not None
    created_us = int(before.created.timestamp() * 1_000_000)
    kept = model.facets[IMPORTED].value
    assert isinstance(kept, dict)
    assert abs(int(str(kept["created_us"])) - created_us) <= 1


def test_the_same_file_again_changes_nothing(full: Graph, tmp_path: Path) -> None:
    path = tmp_path / "g.ndjson"
    full.export(path)
    graph = Graph(MemoryStore())
    read = import_ndjson(graph, path)
    assert graph.stats()["events"] == read.events
    assert import_ndjson(graph, path) == read
    assert graph.stats()["events"] == read.events
    # Into the graph it came from, it adds but its events.
    entities = full.stats()["entities"]
    import_ndjson(full, path)
    assert full.stats()["entities"] == entities


def test_versions_keep_their_numbers(tmp_path: Path) -> None:
    graph, path = Graph(MemoryStore()), tmp_path / "g.ndjson"
    for content in "abcd":
        graph.record([artifact("D", "s3://b/d", content_hash=content)], kind="T")
    last = graph.find()[-1]
    graph.export(path, of=graph.query(last, depth=1))
    other = Graph(MemoryStore())
    import_ndjson(other, path)
    assert {e.content_hash: e.version for e in other.find()} == {"c": 3, "d": 4}


def test_many_lines_take_several_events(tmp_path: Path) -> None:
    graph, path = Graph(MemoryStore()), tmp_path / "g.ndjson"
    nodes = [context("C", f"n{n}") for n in range(1_200)]
    graph.record(nodes, [(a, b, "AssociatedWith") for a, b in pairwise(nodes)], kind="T")
    graph.export(path)
    other = Graph(MemoryStore())
    assert import_ndjson(other, path).events == 6
    assert other.stats()["associations"] == 1_199


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "got an empty file"),
        ("not JSON\n", ":1: expected a JSON object"),
        ("[1]\n", ":1: expected a JSON object"),
        ('{"is":"entity"}\n', ":1: expected the header of a lineage file"),
        (HEADER.replace(":1,", ":9,"), ":1: expected form 1, got 9"),
        (HEADER + "{\n", ":2: expected a JSON object"),
        (HEADER + '{"is":"node"}\n', ":2: is: expected one of entity, .*got 'node'"),
        (HEADER + '{"is":"tag","key":"k"}\n', ":2: expected a line of tag with 'entity'"),
        (HEADER + "[" * 200_000 + "\n", ":2: expected a JSON object"),
        (
            HEADER + '\n{"is":"entity","uid":"u","kind":"Thing","type":"t","name":"n","version":1}',
            ":3: kind: expected one of",
        ),
        (HEADER + '{"is":"run","uid":"r","entity":"e","speed":1}', ":2: .*'speed'"),
        (HEADER + '{"is":"columns","destination":"d","by":"b","rank":-1,"edges":[]}', ":2: .*rank"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_recorded(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "g.ndjson"
    whole = HEADER + '{"is":"entity","uid":"u","kind":"Context","type":"t","name":"n","version":1}'
    path.write_text(text)
    graph = Graph(MemoryStore())
    with pytest.raises(InvalidImport, match=problem):
        import_ndjson(graph, path)
    assert graph.stats()["events"] == 0
    path.write_text(whole)
    assert import_ndjson(graph, path).entities == 1


def test_a_uid_that_stands_for_something_else_is_refused(tmp_path: Path) -> None:
    graph, path = Graph(MemoryStore()), tmp_path / "g.ndjson"
    graph.record([context("C", "one")], kind="T")
    graph.export(path)
    other = Graph(MemoryStore())
    uid = derived_uid(context("C", "one"))
    other.record([Entity(Kind.CONTEXT, "C", "two", uid=uid)], kind="T")
    with pytest.raises(EntityConflict, match="is C 'two', not C 'one'"):
        import_ndjson(other, path)


def test_a_part_whose_job_runs_in_a_circle_is_read(tmp_path: Path) -> None:
    graph, path = Graph(MemoryStore()), tmp_path / "g.ndjson"
    data, job = artifact("D", "s3://b/d"), trial_component("Job", "j")
    circle = [(data, job, "ContributedTo"), (job, data, "Produced")]
    graph.record([data, job], circle, kind="T", cycles="allow")
    graph.export(path)
    other = Graph(MemoryStore())
    import_ndjson(other, path)
    assert other.stats()["associations"] == 2
