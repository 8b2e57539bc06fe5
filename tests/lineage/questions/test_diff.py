"""Why two models differ."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from lineage import (
    DataChange,
    Entity,
    EntityNotFound,
    Graph,
    InvalidQuery,
    Kind,
    MemoryStore,
    Recorder,
    artifact,
    context,
    trial,
    trial_component,
)


def table(version: int) -> Entity:
    return artifact(
        "FeatureGroupVersion",
        "file:///offline/weather",
        content_hash=f"files-{version}",
        name=f"weather@{version}",
        version=version + 1,
        properties={"table_version": version, "files": version},
    )


def train(
    graph: Graph,
    name: str,
    *,
    version: int = 3,
    parameters: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    code: str = "c1",
    rmse: float = 12.0,
    job: str = "",
    content: str = "",
) -> Entity:
    """A model, as the product makes one: table version → build → dataset → job → model."""
    digest = f"{version:08x}"
    dataset = artifact("DataSet", f"dataset:{digest}", content_hash=digest, name=f"set {digest}")
    with Recorder(graph, "DatasetBuild", f"dataset-{digest}", kind=Kind.ACTION) as build:
        build.input(table(version))
        build.associate(context("FeatureGroup", "weather"), table(version), "AssociatedWith")
        build.output(dataset)
    with Recorder(
        graph,
        "TrainingJob",
        f"{job or name}-job",
        parameters=parameters or {"max_depth": 6, "seed": 1},
        properties=properties or {},
    ) as run:
        run.input(dataset)
        run.input(artifact("Image", "algorithm:xgboost", content_hash=code))
        run.metric("rmse", rmse)
        return run.output(
            artifact("Model", f"file:///{name}/model", content_hash=content or f"m-{name}")
        )


def causes(graph: Graph, a: Entity, b: Entity) -> list[tuple[str, str]]:
    return [(each.cause.value, each.name) for each in graph.diff(a, b).causes]


def test_one_and_the_same(graph: Graph) -> None:
    a = train(graph, "a")
    found = graph.diff(a, a)
    assert (found.is_equal, found.causes, found.outcomes) == (True, (), ())
    assert "one and the same" in found.text()


def test_only_the_first_cause_is_reported_and_not_what_follows_from_it(graph: Graph) -> None:
    found = graph.diff(train(graph, "a"), train(graph, "b", version=5, rmse=11.0))
    (cause,) = found.causes
    assert (cause.cause, cause.name) == ("data", "FeatureGroupVersion")
    assert cause.a is not None
    assert cause.b is not None
    assert (cause.a.name, cause.b.name) == ("weather@3", "weather@5")
    assert [(o.name, o.old, o.new) for o in found.outcomes] == [("rmse", 12.0, 11.0)]
    assert not found.is_equal
    assert "weather@3 v4 (files-3) → weather@5 v6 (files-5)" in found.text()
    assert "  rmse: 12.0 → 11.0" in found.text()
    json.dumps(found.to_json())


def test_causes_are_ranked_data_code_parameters_seed_environment(graph: Graph) -> None:
    a = train(graph, "a", properties={"packages": {"xgboost": "3.0", "numpy": "2.0"}})
    b = train(
        graph,
        "b",
        version=4,
        code="c2",
        parameters={"max_depth": 12, "eta": 0.1, "seed": 2},
        properties={"packages": {"xgboost": "3.1", "scipy": "1.0"}},
    )
    found = graph.diff(a, b)
    assert [(each.cause.value, each.name) for each in found.causes] == [
        ("data", "FeatureGroupVersion"),
        ("code", "Image algorithm:xgboost"),
        ("parameters", "eta"),
        ("parameters", "max_depth"),
        ("seed", "seed"),
        ("environment", "packages"),
    ]
    (packages,) = found.of("environment")
    assert packages.details == ("numpy 2.0 removed", "scipy 1.0 added", "xgboost 3.0 → 3.1")
    assert (packages.old, packages.new) == (
        {"numpy": "2.0", "xgboost": "3.0"},
        {"scipy": "1.0", "xgboost": "3.1"},
    )
    assert [each.new for each in found.of("parameters")] == [0.1, 12]
    assert "eta: none → 0.1" in found.text()


def test_what_an_algorithm_says_of_its_model_is_an_outcome(graph: Graph) -> None:
    said = {"singular_values": [3.0, 1.0], "threshold": 0.5, "chosen": {"l1": 0.1}, "rounds": 7}
    a = train(graph, "a", properties={**said, "attempts": [{"number": 1, "ended_us": 17}]})
    other = {"singular_values": [2.0, 1.0], "threshold": 0.4, "chosen": {"l1": 0.2}, "rounds": 8}
    attempts = [{"number": 1, "ended_us": 23}, {"number": 2, "ended_us": 29}]
    b = train(graph, "b", version=5, properties={**other, "attempts": attempts})
    assert causes(graph, a, b) == [("data", "FeatureGroupVersion")]
    named = {one.name: (one.old, one.new) for one in graph.diff(a, b).outcomes}
    assert named == {name: (said[name], other[name]) for name in said}


def test_precision_and_hosts_are_of_the_environment(graph: Graph) -> None:
    a = train(graph, "a")
    b = train(graph, "b", properties={"precision": "bf16", "instance_count": 2})
    assert causes(graph, a, b) == [("environment", "instance_count"), ("environment", "precision")]


def test_of_lists_what_only_one_has_is_shown(graph: Graph) -> None:
    a = train(graph, "a", parameters={"features": ["wind", {"x": 1}], "seed": 1})
    b = train(graph, "b", parameters={"features": ["wind", "temp"], "seed": 1})
    (cause,) = graph.diff(a, b).causes
    assert cause.details == ('only the first: {"x":1}', 'only the second: "temp"')


def test_uncommitted_changes_are_shown_as_text(graph: Graph) -> None:
    a = train(graph, "a", properties={"code_diff": "+x = 1\n+y = 1"})
    b = train(graph, "b", properties={"code_diff": "+x = 2\n+y = 1"})
    (code,) = graph.diff(a, b).causes
    assert (code.cause, code.name) == ("code", "uncommitted changes")
    assert code.details == ("@@ -1 +1 @@", "-+x = 1", "++x = 2")


def test_the_same_bytes_are_equal_whatever_lies_upstream(graph: Graph) -> None:
    a = train(graph, "a", content="same")
    b = train(graph, "b", content="same", parameters={"max_depth": 6, "seed": 9})
    found = graph.diff(a, b)
    assert found.is_equal
    assert [each.name for each in found.causes] == ["seed"]
    assert "made no difference" in found.text()


def test_what_nothing_explains_says_so(graph: Graph) -> None:
    a, b = train(graph, "a"), train(graph, "b")
    assert causes(graph, a, b) == [("unexplained", "Model model")]
    assert "chance" in graph.diff(a, b).text()
    alone = graph.record([artifact("Model", "x"), artifact("Model", "y")], kind="T").entities
    (cause,) = graph.diff(*alone).causes
    assert cause.details == ("nothing is recorded of what either was made of",)


def test_an_input_that_only_one_has(graph: Graph) -> None:
    a, b = train(graph, "a"), train(graph, "b")
    with Recorder(graph, "TrainingJob", "b-job", parameters={"max_depth": 6, "seed": 1}) as job:
        job.input(artifact("DataSet", "s3://more", content_hash="1"))
    found = graph.diff(a, b)
    assert [(each.cause.value, each.name, each.a) for each in found.causes] == [
        ("data", "DataSet more", None)
    ]
    assert "only the second has" in found.text()
    assert "only the first has" in graph.diff(b, a).text()


def test_two_runs_of_one_job(graph: Graph) -> None:
    """The job is one entity that shows its last run: the first is read off the history."""
    a = train(graph, "a", job="same", rmse=12.0)
    b = train(graph, "b", job="same", rmse=11.0, version=5, parameters={"max_depth": 8, "seed": 1})
    found = graph.diff(a, b)
    assert [(each.cause.value, each.name) for each in found.causes] == [
        ("data", "FeatureGroupVersion"),
        ("parameters", "max_depth"),
    ]
    assert [(o.name, o.old, o.new) for o in found.outcomes] == [("rmse", 12.0, 11.0)]
    back = graph.diff(b, a)
    assert [(each.cause.value, each.old) for each in back.causes][1] == ("parameters", 8)


def test_a_moved_copy_is_no_cause() -> None:
    graph = Graph(MemoryStore())
    first = artifact("DataSet", "s3://one/x.csv", content_hash="x")
    second = artifact("DataSet", "s3://two/x.csv", content_hash="x")
    models = [artifact("Model", n, content_hash=n) for n in "ab"]
    for data, model in zip((first, second), models, strict=True):
        with Recorder(graph, "TrainingJob", f"on {data.source_uri}") as job:
            job.input(data)
            job.output(model)
    assert causes(graph, *models) == [("unexplained", "Model a")]


def test_who_can_read_the_data_says_what_changed() -> None:
    asked: list[tuple[str, str]] = []

    def changes(a: Entity, b: Entity) -> DataChange | None:
        asked.append((a.name, b.name))
        return DataChange("1 file added, 20 rows more", 0.25, {"rows": 20}, ("version 4: WRITE",))

    graph = Graph(MemoryStore(), changes=changes)
    (cause,) = graph.diff(train(graph, "a"), train(graph, "b", version=5)).causes
    assert asked == [("weather@3", "weather@5")]
    assert cause.details == ("1 file added, 20 rows more", "version 4: WRITE")
    assert cause.facts == {"rows": 20}
    assert cause.weight == 7.25


def test_a_difference_that_many_jobs_show_is_one(graph: Graph) -> None:
    a, b = train(graph, "a"), train(graph, "b", version=5)
    for name, python in (("dataset-00000003", "3.11"), ("a-job", "3.11")):
        kind = Kind.ACTION if "dataset" in name else Kind.TRIAL_COMPONENT
        what = "DatasetBuild" if "dataset" in name else "TrainingJob"
        entity = Entity(kind, what, name, properties={"python_version": python})
        graph.record([entity], kind="T")
    found = graph.diff(a, b).of("environment")
    assert [(each.name, each.old) for each in found] == [("python_version", "3.11")]
    assert found[0].details == ("also DatasetBuild dataset-00000003 (Completed)",)


def test_long_chains_and_circles(graph: Graph) -> None:
    ends = []
    for side in "ab":
        chain = [artifact("D", f"{side}/{n}", content_hash=f"{side}{n}") for n in range(1200)]
        links = [(a, b, "DerivedFrom") for a, b in itertools.pairwise(chain)]
        graph.record(chain, [*links, (chain[5], chain[3], "DerivedFrom")], kind="T", cycles="allow")
        ends.append(chain[-1])
    found = graph.diff(*ends)
    assert found.compared >= 1200
    assert len(found.causes) == 1


def test_what_cannot_be_compared(graph: Graph) -> None:
    a = train(graph, "a")
    with pytest.raises(EntityNotFound):
        graph.diff(a, "nobody")
    graph.record([trial("Trial", "t")], kind="T")
    with pytest.raises(InvalidQuery, match="got the Trial 't'"):
        graph.diff(a, trial("Trial", "t"))


def test_experiment_entities_and_jobs_compare_by_themselves(graph: Graph) -> None:
    train(graph, "a")
    train(graph, "b", parameters={"max_depth": 6, "seed": 2})
    jobs = [graph.find(name=f"{name}-job")[0] for name in "ab"]
    assert causes(graph, *jobs) == [("seed", "seed")]


def test_what_jobs_name_by_digest_is_looked_up(graph: Graph) -> None:
    """The packages and the changes of the code are kept once, beside the jobs."""
    for n, numpy in (("1", "2.0"), ("2", "2.1")):
        environment = artifact(
            "Environment",
            f"environment:e{n}",
            content_hash=f"e{n}",
            properties={"packages": {"numpy": numpy, "same": "1"}},
        )
        changes = artifact(
            "CodeDiff", "code:c", content_hash=f"d{n}", properties={"code_diff": f"+line {n}"}
        )
        job = trial_component(
            "TrainingJob",
            f"j{n}",
            state="Completed",
            properties={
                "environment_digest": f"e{n}",
                "code_version": "c",
                "code_diff_digest": f"d{n}",
                "columns": {"train": {"features": ["a", "b"][: int(n)]}},
            },
        )
        model = artifact("Model", f"m{n}", content_hash=f"m{n}")
        graph.record([environment, changes, job, model], [(job, model, "Produced")], kind="T")
    found = graph.diff(*graph.find(type="Model"))
    assert [(one.cause.value, one.name) for one in found.causes] == [
        ("code", "uncommitted changes"),
        ("parameters", "columns.train.features"),
        ("environment", "packages"),
    ]
    assert found.causes[-1].details == ("numpy 2.0 → 2.1",)
