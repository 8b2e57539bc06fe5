"""Feature groups as input and output of transform jobs: every record once, also when repeated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

import featurestore
from featurestore import FeatureGroup, feature_definitions
from featurestore.embedded import EmbeddedStore
from training import (
    InvalidData,
    InvalidJob,
    ResourceConfig,
    TransformInput,
    TransformJob,
    TransformJobs,
    TransformOutput,
    load_model,
    run_transform,
    submit_transform,
)
from training.transforms.groups import Stored, store_answers

HOURS = [f"2026-01-01T{hour:02}:00:00Z" for hour in range(20)]


@pytest.fixture
def store(home: Path) -> Iterator[EmbeddedStore]:
    with featurestore.open(home) as store:
        for name, features, kept in (
            ("planes", [("wind", "Fractional"), ("delay", "Fractional")], {}),
            ("scores", [("score", "Fractional")], {}),
            ("latest", [("score", "Fractional")], {"offline": False}),
        ):
            keys = [("id", "String"), ("at", "String")]
            store.create_feature_group(
                FeatureGroup(
                    name,
                    record_identifier="id",
                    event_time="at",
                    features=feature_definitions([*keys, *features]),
                    **kept,
                )
            )
        for number, hour in enumerate(HOURS):
            store.put(
                "planes", {"id": f"p{number % 8}", "at": hour, "wind": float(number), "delay": 2.0}
            )
        store.delete("planes", "p7", event_time="2026-01-02T00:00:00Z")
        yield store


def make(name: str, **output: object) -> TransformJob:
    return TransformJob(
        transform_job_name=name,
        model_name="m",
        transform_input=TransformInput(feature_group="planes"),
        transform_output=TransformOutput(**output),
        transform_resources=ResourceConfig(threads=1, device="cpu"),
    )


KILLED = """
import os, sys
from tests.training.transforms.test_groups import make
from training import run_transform
from training.transforms import supervisor

supervisor.group_entity = lambda name: os.kill(os.getpid(), 9)
if __name__ == "__main__":
    run_transform(sys.argv[1], make("killed", feature_group="scores"))
"""


def test_the_records_of_a_killed_and_repeated_job_are_stored_once(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    ended = subprocess.run(
        [sys.executable, tmp_path / "killed.py", store.home],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    # It was killed with its records stored, and before its lineage said so.
    assert ended.returncode == -signal.SIGKILL
    with TransformJobs(store.home) as jobs:
        assert jobs.describe("killed").status.value == "Failed"
    (job,) = store.graph.find(type="TransformJob", name="killed-aws-transform-job")
    assert job.state == "Failed"
    assert len(list(store.records("scores"))) == 7

    result = run_transform(store, make("again", feature_group="scores")).check()
    assert (result.records, result.output) == (7, "scores")
    # p0 to p3 were put three times, p4 to p6 twice, and p7 was deleted.
    newest = {f"p{n}": max(hour for hour in range(20) if hour % 8 == n) for n in range(7)}
    asked = pa.table({"wind": [float(n) for n in newest.values()], "delay": [2.0] * 7})
    answers = load_model("m", home=store.home).predict(asked)["score"].to_pylist()
    history = store.history("scores").read_all().sort_by("id")
    assert history["id"].to_pylist() == list(newest)
    assert history["at"].to_pylist() == [HOURS[hour] for hour in newest.values()]
    assert history["score"].to_pylist() == pytest.approx(answers, abs=1e-6)
    assert store.get("scores", "p3")["at"] == HOURS[newest["p3"]]

    (job,) = store.graph.find(type="TransformJob", name="again-aws-transform-job")
    assert (job.properties["already"], job.properties["rows_in"]) == (True, 7)
    above = {one.type for one in store.graph.query(job, "ascendants")}
    assert {"FeatureGroupVersion", "Model", "TrainingJob"} <= above
    below = {
        one.name for one in store.graph.query(job, "descendants") if one.type == "FeatureGroup"
    }
    assert "scores" in below
    assert not list((store.home / "jobs" / "again.transform").rglob("*.jsonl"))


def stored(store: EmbeddedStore, folder: Path, lines: list[object], **output: object) -> Stored:
    path = folder / "answers.out"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    where = TransformOutput(**{"feature_group": "latest", **output})
    return store_answers(store, where, [(path, "x.jsonl")], folder / "rows" / "rows.parquet")


def test_a_group_without_offline_store_takes_all_records_in_one_transaction_once(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    lines = [{"id": f"a{n}", "SageMakerOutput": {"score": n}} for n in range(5)]
    for already in (False, True):
        done = stored(store, tmp_path, lines, event_time=HOURS[3])
        assert (done.rows, done.already) == (5, already)
        assert store.get("latest", "a4") == {"id": "a4", "at": HOURS[3], "score": 4.0}
        store.put("latest", {"id": "a4", "at": HOURS[3], "score": 4.0})
    picked = {"id": "$.SageMakerInput[0]", "score": "$.SageMakerOutput.score[1]"}
    line = {"SageMakerInput": [7, 3.5], "SageMakerOutput": {"score": [0.2, 0.8]}}
    stored(store, tmp_path, [line], features=picked, event_time=HOURS[3])
    assert store.get("latest", "7") == {"id": "7", "at": HOURS[3], "score": 0.8}


REFUSED = [
    ({"id": "a", "score": 1}, {}, "neither the answer nor its input has 'at'"),
    ({"id": "a", "at": "never", "score": 1}, {}, "record 2: .*at"),
    ({"id": "a", "at": HOURS[0], "score": "high"}, {}, "score: expected double, got 'high'"),
    ({"id": "a", "at": HOURS[0]}, {}, "no feature of latest but its identifier"),
    ({"id": "a", "at": HOURS[0]}, {"features": {"score": "$.x.y"}}, "record 2: .*finds nothing"),
]


def test_a_record_that_does_not_fit_is_named_and_none_is_stored(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    good = {"id": "good", "at": HOURS[0], "score": 1, "x": {"y": 1.5}}
    for line, output, words in REFUSED:
        with pytest.raises(InvalidData, match=words):
            stored(store, tmp_path, [good, line], **output)
    assert list(store.records("latest")) == []


def test_groups_that_cannot_be_read_or_written_are_refused_at_once(store: EmbeddedStore) -> None:
    unread = TransformInput(feature_group="latest")
    for job, words in (
        (make("t", feature_group="score"), "'score' does not exist; did you mean 'scores'"),
        (make("t", feature_group="scores", features={"scored": "$.x"}), "did you mean 'score'"),
        (replace(make("t", feature_group="scores"), transform_input=unread), "no offline store"),
    ):
        with pytest.raises(InvalidJob, match=words):
            submit_transform(store, job)
    assert not (store.home / "jobs" / "t.transform").exists()
