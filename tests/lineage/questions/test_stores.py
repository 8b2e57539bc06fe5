"""Every store answers every question alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lineage import ColumnEdge, ColumnLineage, Entity, Graph, MemoryStore, artifact, trial_component


def fill(graph: Graph) -> tuple[Entity, ...]:
    tables = [artifact("Table", "s3://t", content_hash=f"t{n}", name=f"t@{n}") for n in range(2)]
    models = [artifact("Model", f"s3://m{n}", content_hash=f"ab{n}") for n in range(2)]
    jobs = [
        trial_component("TrainingJob", f"job{n}", properties={"parameters": {"depth": n}})
        for n in range(2)
    ]
    graph.record(
        [*tables, *models, *jobs],
        [
            link
            for table, job, model in zip(tables, jobs, models, strict=True)
            for link in ((table, job, "ContributedTo"), (job, model, "Produced"))
        ],
        kind="T",
        actor="ada",
        columns=[
            ColumnLineage(
                models[0], "job0", (ColumnEdge(tables[0], "x", "", properties={"importance": 0.5}),)
            )
        ],
        tags=[(models[0], "stage", "live")],
    )
    return (*tables, *models)


def answers(graph: Graph) -> list[Any]:
    first, second, a, b = fill(graph)
    return [
        graph.paths(first, b).text(),
        graph.paths(a, b, direction="both").text(),
        graph.common_ancestors(a, b).text(),
        graph.diff(a, b).text(),
        [source.entity.name for source in graph.explain(b).data],
        [use.text() for use in graph.features(a)],
        [use.user.name for use in graph.feature_users(first, "x")],
        [entity.name for entity in graph.search(content_hash="ab")],
        [entity.name for entity in graph.search(content_hash="ab", as_of=0)],
        [entity.name for entity in graph.search(tags={"stage": None}, types=["Model"])],
        [(event.kind, event.actor) for event in graph.events(second)],
    ]


def test_every_store_answers_alike(open_graph: Callable[[], Graph]) -> None:
    assert answers(open_graph()) == answers(Graph(MemoryStore()))
