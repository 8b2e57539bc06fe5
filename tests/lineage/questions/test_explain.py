"""One account of where something comes from; its columns; and the events that recorded it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lineage import (
    ColumnEdge,
    ColumnLineage,
    Entity,
    EntityNotFound,
    Graph,
    InvalidQuery,
    Kind,
    Recorder,
    action,
    artifact,
    context,
)

WEATHER = context("FeatureGroup", "weather")
VERSION = artifact(
    "FeatureGroupVersion",
    "file:///offline/weather",
    content_hash="v3",
    name="weather@3",
    properties={"table_version": 3},
)
DATASET = artifact("DataSet", "dataset:ab", content_hash="ab", properties={"rows": 1000})
MODEL = artifact("Model", "file:///m", content_hash="m")


@pytest.fixture
def trained(graph: Graph) -> Graph:
    """weather@2 → weather@3 → dataset → model → deployment, with columns and tags."""
    older = artifact("FeatureGroupVersion", "file:///offline/weather", content_hash="v2")
    graph.record([older], kind="TableVersion", actor="flusher")
    with Recorder(graph, "DatasetBuild", "build", kind=Kind.ACTION, actor="ada") as build:
        build.input(VERSION)
        build.associate(WEATHER, VERSION, "AssociatedWith")
        build.output(DATASET)
    with Recorder(
        graph,
        "TrainingJob",
        "flights",
        actor="ada",
        parameters={"tree": {"max_depth": 6}},
        properties={"algorithm": "xgboost", "libraries": {"xgboost": "3.0"}},
    ) as job:
        job.input(DATASET)
        job.input(artifact("Image", "algorithm:xgboost", content_hash="i"))
        job.metric("rmse", 12.5)
        job.output(MODEL)
    columns = [
        ColumnLineage(
            DATASET,
            "build",
            tuple(
                ColumnEdge(VERSION, name, f"weather_{name}", subtype="IDENTITY")
                for name in ("wind", "temp")
            ),
        ),
        ColumnLineage(
            MODEL,
            "flights",
            (
                ColumnEdge(DATASET, "weather_wind", "", properties={"importance": 0.7}),
                ColumnEdge(DATASET, "weather_temp", "", properties={"importance": 0.2}),
                ColumnEdge(DATASET, "row", ""),
            ),
        ),
    ]
    graph.record(
        [],
        [(MODEL, action("ModelDeployment", "live"), "ContributedTo")],
        kind="Deployed",
        actor="eve",
        columns=columns,
        tags=[(MODEL, "owner", "ada")],
    )
    return graph


def test_the_account_of_a_model(trained: Graph) -> None:
    told = trained.explain(MODEL)
    assert [job.name for job in told.jobs] == ["flights"]
    assert [(s.entity.name, s.depth, [g.name for g in s.groups]) for s in told.data] == [
        ("dataset:ab", 2, []),
        ("weather@3", 4, ["weather"]),
    ]
    assert [source.entity.type for source in told.code] == ["Image"]
    assert told.code_words["algorithm"] == "xgboost"
    assert told.parameters == {"tree.max_depth": 6}
    assert told.environment["libraries"] == {"xgboost": "3.0"}
    assert told.metrics == {"rmse": 12.5}
    assert [(event.kind, event.actor) for event in told.events] == [("JobCompleted", "ada")]
    assert told.used_by == {"ModelDeployment": 1}
    assert told.tags == {"owner": "ada"}
    assert [(use.column, use.importance) for use in told.features][:2] == [
        ("wind", 0.7),
        ("temp", 0.2),
    ]
    json.dumps(told.to_json())


def test_its_text_has_a_section_per_subject_and_none_that_is_empty(trained: Graph) -> None:
    text = trained.explain(MODEL).text()
    sections = [line for line in text.splitlines()[1:] if not line.startswith(" ")]
    assert sections == [
        "recorded", "made by", "data", "features", "code", "parameters", "environment", "metrics",
        "tags", "used by",
    ]  # fmt: skip
    assert "FeatureGroupVersion weather@3 v2: table_version 3; of FeatureGroup weather" in text
    assert " 0.700  wind of FeatureGroupVersion weather@3 v2 as weather_wind" in text
    job = trained.explain(trained.find(name="flights")[0])
    assert "ran\n  TrainingJob flights (Completed), began 20" in job.text()


def test_a_group_is_used_by_whoever_uses_the_versions_of_its_table(trained: Graph) -> None:
    told = trained.explain(WEATHER)
    assert [entity.name for entity in told.belongs_to] == ["weather@3"]
    assert told.used_by["Model"] == told.used_by["ModelDeployment"] == 1


def test_an_account_of_something_alone(graph: Graph) -> None:
    graph.record([artifact("DataSet", "x")], kind="Seen", actor="ada")
    told = graph.explain(artifact("DataSet", "x"))
    assert (told.jobs, told.data, told.features) == ((), (), ())
    assert told.text().splitlines()[3].startswith("recorded")
    with pytest.raises(EntityNotFound):
        graph.explain("nobody")


def test_features_of_a_model_and_models_of_a_feature(trained: Graph) -> None:
    assert [(u.entity.name, u.column, u.input, u.importance) for u in trained.features(MODEL)] == [
        ("weather@3", "wind", "weather_wind", 0.7),
        ("weather@3", "temp", "weather_temp", 0.2),
        ("dataset:ab", "row", "row", None),
    ]
    for feature in (VERSION, WEATHER):  # the columns of a group are those of its table's versions
        (use,) = trained.feature_users(feature, "wind")
        assert (use.user.name, use.importance, use.input) == ("m", 0.7, "weather_wind")
    assert [u.user.type for u in trained.feature_users(VERSION, "wind", types=None)] == [
        "Model",
        "DataSet",
    ]
    assert trained.feature_users(VERSION, "pressure") == []
    assert trained.features(MODEL, as_of=trained.last_sequence() - 1) == []


def test_events_newest_first_by_kind_actor_entity_and_time(trained: Graph) -> None:
    everything = trained.events()
    assert [event.sequence for event in everything] == [6, 5, 4, 3, 2, 1]
    assert [event.sequence for event in trained.events(limit=2, before=5)] == [4, 3]
    assert [event.kind for event in trained.events(actors=["flusher", "eve"])] == [
        "Deployed",
        "TableVersion",
    ]
    assert [event.sequence for event in trained.events(kinds="JobStarted")] == [4, 2]
    assert [event.kind for event in trained.events(MODEL)] == ["JobCompleted"]
    first, last = everything[-1].time, everything[0].time
    assert trained.events(until=first - timedelta(seconds=1)) == []
    assert trained.events(since=last + timedelta(seconds=1)) == []
    assert trained.events(since=first, until=last) == everything
    assert everything[0].associations == 1


def test_events_over_more_than_one_block(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lineage.questions.events._BLOCK", 3)
    for n in range(11):
        graph.record([action("A", f"{n}")], kind=f"K{n % 2}")
    assert [e.sequence for e in graph.events(kinds="K0", limit=4)] == [11, 9, 7, 5]
    assert [e.sequence for e in graph.events(limit=100)] == list(range(11, 0, -1))


@pytest.mark.parametrize(
    "given",
    [{"limit": 0}, {"before": 0}, {"since": datetime(2026, 1, 1)}, {"until": "now"}],  # noqa: DTZ001
)
def test_events_that_make_no_sense(graph: Graph, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery, match=next(iter(given))):
        graph.events(**given)


def test_search_by_everything(trained: Graph) -> None:
    def found(**wanted: Any) -> list[str]:
        return [entity.name for entity in trained.search(**wanted)]

    assert found(types=["Model"]) == ["m"]
    assert found(types=["Model", "DataSet"]) == ["m", "dataset:ab"]
    assert found(kinds=["Action"]) == ["live", "build"]
    assert found(name="build", kinds=["Context"]) == []
    assert found(properties={"rows": 1000}) == ["dataset:ab"]
    assert found(states=["Completed"], types=["TrainingJob"]) == ["flights"]
    assert found(tags={"owner": None}) == found(tags={"owner": "ada"}) == ["m"]
    assert found(tags={"owner": "bob"}) == found(tags={"owner": "ada", "x": None}) == []
    assert found(content_hash="v") == ["weather@3", "weather"]
    assert found(source_uri="file:///offline/weather", limit=1) == ["weather@3"]
    assert found(created_before=datetime(2000, 1, 1, tzinfo=UTC)) == []
    assert found(types=["Model"], as_of=1) == []
    with pytest.raises(InvalidQuery, match="limit"):
        found(limit=0)


def test_tags_are_put_on_and_taken_off(trained: Graph) -> None:
    model: Entity = trained.find(type="Model")[0]
    trained.add_tags(model, {"stage": "live", "owner": "bob"}, actor="ada")
    assert trained.tags(MODEL) == {"owner": "bob", "stage": "live"}
    trained.delete_tags(model.uid, ["owner", "nothing"])
    assert trained.tags(MODEL) == {"stage": "live"}
    assert [(e.kind, e.actor) for e in trained.events(limit=2)][1] == ("TagsAdded", "ada")
    with pytest.raises(EntityNotFound):
        trained.add_tags("nobody", {"a": "b"})
