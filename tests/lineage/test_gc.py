"""What is needed for what is in use, and the shortest reason for it."""

from __future__ import annotations

import pytest

import lineage
from lineage import Entity, EntityNotFound, Graph, Recorder, artifact, context, gc, trial_component


def data(name: str, content: str = "51b2") -> Entity:
    return artifact("DataSet", f"s3://b/{name}", content_hash=content)


def test_the_closure_and_the_shortest_chain(graph: Graph) -> None:
    job = trial_component("TrainingJob", "j", state="Completed")
    model = artifact("Model", "s3://b/m", content_hash="9f2c")
    other = artifact("Model", "s3://b/o", content_hash="77aa")
    graph.record(
        [data("raw"), data("clean")], [(data("raw"), data("clean"), "DerivedFrom")], kind="T"
    )
    graph.record(
        [],
        [
            (data("clean"), job, "ContributedTo"),
            (data("raw"), job, "ContributedTo"),
            (job, model, "Produced"),
        ],
        kind="T",
    )
    graph.record([other], [(data("raw"), other, "ContributedTo")], kind="T")
    uids = {entity.name: entity.uid for entity in graph.find()}
    found = gc.needed(graph, {uids["m"]: "named"})
    assert [uids[name] in found for name in ("m", "j", "clean", "raw", "o")] == [True] * 4 + [False]
    assert found.chain(uids["raw"]) == (uids["raw"], uids["j"], uids["m"])
    assert found.chain(uids["o"]) == ()
    with pytest.raises(EntityNotFound):
        gc.needed(graph, {"nothing": "?"})
    assert uids["m"] not in gc.needed(graph, {})


def test_an_earlier_version_at_the_same_place_is_not_needed(graph: Graph) -> None:
    versions = [data("table", str(n)) for n in range(3)]
    for version in versions:
        graph.record([version], kind="Flushed")
    model = artifact("Model", "s3://b/m", content_hash="9f2c")
    graph.record([model], [(versions[2], model, "ContributedTo")], kind="Trained")
    known = {entity.version: entity.uid for entity in graph.find(type="DataSet")}
    found = gc.needed(graph, {graph.find(type="Model")[0].uid: "named"})
    assert [known[version] in found for version in (1, 2, 3)] == [False, False, True]


def test_what_is_in_use_by_itself(graph: Graph) -> None:
    kept, running = data("kept"), trial_component("TrainingJob", "runs", state="InProgress")
    ended = trial_component("TrainingJob", "ended", state="Completed")
    up, down = context("Endpoint", "up"), context("Endpoint", "down", state="Deleted")
    approval = lineage.action("Approval", "a-1")
    refused = lineage.action("Approval", "a-2", state="Rejected")
    graph.record(
        [kept, running, ended, up, down, approval, refused], kind="T", tags=[(kept, "keep", "")]
    )
    assert {graph.entity(uid).name: why for uid, why in gc.in_use(graph).items()} == {
        "kept": "tagged keep",
        "runs": "a job that runs",
        "up": "an endpoint in service",
        "a-1": "approved",
    }


def test_what_jobs_name_by_digest_is_needed(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(number: int, diff: str = "") -> None:
        digest = str(number) * 64
        said: dict[str, lineage.JSON] = {"python_version": "3", "environment_digest": digest}
        on = [artifact("Environment", f"environment:{digest}", content_hash=digest)]
        if diff:
            said |= {"code_version": "c0de", "code_diff_digest": diff}
            on.append(artifact("CodeDiff", "code:c0de", content_hash=diff))
        monkeypatch.setattr("lineage.capture.recorder.environment_properties", lambda: said)
        monkeypatch.setattr("lineage.capture.recorder.environment_artifacts", lambda: tuple(on))
        with Recorder(graph, "TrainingJob", f"job-{number % 2}") as job:
            job.output(artifact("Model", f"s3://b/{number}", content_hash=str(number)))

    ran(1, "d1")
    ran(2, "d2")
    ran(3)  # the first job again
    uids = {entity.name: entity.uid for entity in graph.find()}
    environments = {one.content_hash[0]: one.uid for one in graph.find(type="Environment")}
    diffs = {one.content_hash: one.uid for one in graph.find(type="CodeDiff")}
    found = gc.needed(graph, {uids["3"]: "named"})
    kept = [environments[n] in found for n in "123"], [diffs[d] in found for d in ("d1", "d2")]
    assert kept == ([True, False, True], [True, False])
    assert found.chain(environments["1"]) == (environments["1"], uids["job-1"], uids["3"])
    assert found.chain(diffs["d1"])[-1] == uids["3"]
