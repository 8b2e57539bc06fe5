"""Transform jobs on files: what is answered, in which order, and what a failure says."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lineage
from training import (
    DataProcessing,
    InvalidJob,
    ModelClientConfig,
    ModelNotFound,
    ResourceConfig,
    TrainingJobNotFound,
    TransformInput,
    TransformJob,
    TransformJobExists,
    TransformJobNotFound,
    TransformJobs,
    TransformOutput,
    TransformProgress,
    load_model,
    run_transform,
    submit_transform,
)
from training.artifact import Artifact
from training.formats import recordio_protobuf
from training.jobs.budget import Demand
from training.jobs.status import SecondaryStatus
from training.predict import model_folder
from training.transforms.journal import Journal, Part, begin

ROWS = np.random.default_rng(0).uniform(0, 30, (300, 2)).round(2)


def make(source: Path, out: Path, name: str = "t", **fields: object) -> TransformJob:
    job = TransformJob(
        transform_job_name=name,
        model_name="m",
        transform_input=TransformInput(path=str(source)),
        transform_output=TransformOutput(path=str(out)),
        transform_resources=ResourceConfig(threads=1, device="cpu"),
    )
    return replace(job, **fields)


def csv_of(rows: np.ndarray) -> str:
    return "".join(f"{wind},{delay}\n" for wind, delay in rows.tolist())


def scores(home: Path, rows: np.ndarray) -> list[float]:
    table = pa.table({"wind": rows[:, 0], "delay": rows[:, 1]})
    return load_model("m", home=home).predict(table)["score"].to_pylist()


def test_each_file_gets_its_answers_in_order_however_many_are_asked_at_once(
    home: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    (source / "a.csv").write_text(csv_of(ROWS))
    with gzip.open(source / "deep" / "b.csv.gz", "wt") as file:
        file.write("\n" + csv_of(ROWS[:3]).replace("\n", "\r\n\r\n"))
    (source / "empty.csv").write_text("")
    seen: list[TransformProgress] = []
    asked = make(
        source,
        out,
        max_concurrent_transforms=2,
        batch_strategy="SingleRecord",
        tags={"team": "ops"},
    )
    result = run_transform(home, asked, on_progress=seen.append).check()
    assert (result.records, result.files, result.output) == (303, 3, str(out))
    found = [float(line) for line in (out / "a.csv.out").read_text().splitlines()]
    assert found == pytest.approx(scores(home, ROWS), abs=1e-6)
    assert len((out / "deep" / "b.csv.gz.out").read_text().splitlines()) == 3
    assert (out / "empty.csv.out").read_bytes() == b""
    assert seen[-1].status.value == "Completed"

    with TransformJobs(home) as jobs:
        known = jobs.describe("t")
        assert [entry.job for entry in jobs.list(status="Completed")] == [asked]
        assert jobs.list(name_contains="u") == []
        with pytest.raises(TransformJobNotFound, match="did you mean 't'"):
            jobs.stop("tt")
    assert [one.status.value for one in known.secondary_status_transitions] == [
        *("Starting", "Downloading", "Transforming", "Uploading", "Completed")
    ]
    assert not (home / "jobs" / "t.transform" / "input").exists()
    with pytest.raises(TransformJobExists):
        submit_transform(home, asked)

    with lineage.open_home(home) as graph:
        (job,) = graph.find(type="TransformJob")
        assert (job.state, job.properties["rows_in"]) == ("Completed", 303)
        above = graph.query(lineage.as_artifact(out / "a.csv.out"), "ascendants")
        assert {"Model", "TrainingJob", "DataSet"} <= {one.type for one in above}
        uris = {one.source_uri for one in above}
    assert source.as_uri() in uris


def test_records_are_listed_by_a_manifest_and_rows_of_parquet_are_joined(
    home: Path, tmp_path: Path
) -> None:
    expected = pytest.approx(scores(home, ROWS), abs=1e-6)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel(), pa.float32()), 2)
    (tmp_path / "rows.pbr").write_bytes(recordio_protobuf.encode(pa.table({"features": vectors})))
    (tmp_path / "manifest").write_text(json.dumps([{"prefix": f"{tmp_path}/"}, "rows.pbr"]))
    listed = TransformInput(path=str(tmp_path / "manifest"), data_type="ManifestFile")
    out = tmp_path / "records"
    run_transform(home, make(tmp_path, out, "records", transform_input=listed)).check()
    table = recordio_protobuf.decode((out / "rows.pbr.out").read_bytes())
    assert table["score"].to_pylist() == expected

    names = [f"r{number}" for number in range(300)]
    rows = pa.table({"wind": ROWS[:, 0], "delay": ROWS[:, 1], "id": names})
    pq.write_table(rows, tmp_path / "rows.parquet")
    joined = DataProcessing(join_source="Input", output_filter="$['id','SageMakerOutput']")
    job = make(tmp_path / "rows.parquet", out, "rows", data_processing=joined)
    run_transform(home, job).check()
    lines = (out / "rows.parquet.out").read_text().splitlines()
    assert [json.loads(line)["SageMakerOutput"]["score"] for line in lines] == expected
    assert [json.loads(line)["id"] for line in lines] == names


@pytest.mark.parametrize("bad", ["3,four", "3,4,1"])
def test_a_failure_names_file_and_record_and_leaves_no_answer(
    home: Path, tmp_path: Path, bad: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("1,2\n")
    (tmp_path / "in" / "b.csv").write_text(csv_of(ROWS[:40]) + f"{bad}\n" + csv_of(ROWS))
    job = make(tmp_path / "in", tmp_path / "out", max_concurrent_transforms=2)
    result = run_transform(home, job)
    assert result.status.value == "Failed"
    assert result.failure_reason.startswith("b.csv, record 41: "), result.failure_reason
    assert not (tmp_path / "out").exists()
    with lineage.open_home(home) as graph:
        assert {one.state for one in graph.find(type="TransformJob")} == {"Failed"}


def test_what_cannot_work_is_refused_before_it_begins(home: Path, tmp_path: Path) -> None:
    job = make(tmp_path / "a.csv", tmp_path / "out")
    with pytest.raises(TrainingJobNotFound, match="did you mean 'm'"):
        submit_transform(home, replace(job, model_name="mm"))
    with pytest.raises(ModelNotFound):
        submit_transform(tmp_path / "none", job)
    kind = "application/x-recordio-protobuf"
    source = TransformInput(path="a", content_type=kind)
    joined = DataProcessing(join_source="Input")
    for fields, words in (
        ({"transform_input": source, "data_processing": joined}, "filters and joins work on"),
        (
            {"transform_input": TransformInput(path="a", content_type=kind, split_type="Line")},
            "Line does not cut application/x-recordio-protobuf; use RecordIO",
        ),
        (
            {
                "transform_input": TransformInput(
                    path="a.csv", content_type="text/csv", split_type="TFRecord"
                )
            },
            "TFRecord does not cut text/csv; use Line",
        ),
        (
            {"transform_input": TransformInput(path="a", content_type="application/x-tfrecord")},
            "got application/x-tfrecord",
        ),
        ({"max_concurrent_transforms": 20}, "at most 100, got 20 × 6"),
        ({"max_payload_in_mb": 101}, "expected 0 to 100"),
    ):
        with pytest.raises(InvalidJob, match=words):
            submit_transform(home, replace(job, **fields))
    with pytest.raises(InvalidJob, match=r"'\$\.\.a' at character 2"):
        DataProcessing(input_filter="$..a")
    with pytest.raises(InvalidJob, match="InvocationsMaxRetries: expected 0 to 3, got 4"):
        ModelClientConfig(max_retries=4)
    with pytest.raises(InvalidJob, match="unknown field 'DataCaptureConfig'"):
        TransformJob.from_json(job.to_json() | {"DataCaptureConfig": {}})
    assert not (home / "jobs" / "t.transform").exists()


SLOW = """
import sys, time
from pathlib import Path
from tests.training.transforms.test_jobs import make
from training import run_transform
if __name__ == "__main__":
    home, source, out, name = sys.argv[1:]
    fields = {"model_name": "s", "batch_strategy": "SingleRecord"}
    run_transform(home, make(Path(source), Path(out), name, **fields))
"""


def test_a_stop_ends_the_job_at_once(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n" * 400_000)
    asked = make(tmp_path / "a.csv", tmp_path / "out", batch_strategy="SingleRecord")
    running = submit_transform(home, replace(asked, model_name="s"))
    with TransformJobs(home) as jobs:
        while jobs.describe("t").secondary_status.value != "Transforming":
            time.sleep(0.02)
        jobs.stop("t")
        result = running.wait(30)
        assert (result.status.value, result.failure_reason) == (
            "Stopped",
            "the job was stopped by request",
        )
        assert jobs.running() == {}
    assert not (tmp_path / "out").exists()
    with lineage.open_home(home) as graph:
        assert [one.state for one in graph.find(type="TransformJob")] == ["Stopped"]


def test_after_a_kill_a_repeated_job_goes_on_from_the_files_that_are_the_same(
    home: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "a.csv").write_text("1,2\n3,4\n")
    (source / "b.csv").write_text("1,2\n" * 400_000)
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    arguments = [home, source, out, "killed"]
    root = home / "jobs" / "killed.transform"
    process = subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with TransformJobs(home) as jobs:
        while not _has_answered(root, process):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        known = jobs.describe("killed")
        assert known.status.value == "Failed"
        assert "ended before the job did" in known.failure_reason
    assert not out.exists()
    assert not (root / "input").exists()
    # What was answered is told from what is answered anew.
    (root / "output" / "answers" / "a.csv.out").write_text("3.0\n8.0\n")
    (source / "b.csv").write_text("5,6\n")
    again = replace(make(source, out, "again"), model_name="s", batch_strategy="SingleRecord")
    result = run_transform(home, again).check()
    assert (result.records, result.files) == (3, 2)
    assert (out / "a.csv.out").read_text() == "3.0\n8.0\n"
    assert (out / "b.csv.out").read_text() == "11.0\n"
    with lineage.open_home(home) as graph:
        (known,) = graph.find(type="TransformJob", name="again-aws-transform-job")
    assert known.properties["goes_on_from"] == ["killed"]
    assert (known.properties["taken_over"], known.properties["rows_in"]) == (2, 3)
    # What another one has taken is not there twice, and one that completes leaves nothing.
    run_transform(home, replace(again, transform_job_name="anew")).check()
    assert (out / "a.csv.out").read_text() == "3.0\n7.0\n"


def _has_answered(root: Path, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None
    journal = root / "output" / "answers.journal"
    return journal.is_file() and '"a.csv"' in journal.read_text()


@pytest.fixture
def half(home: Path, tmp_path: Path) -> TransformJob:
    """A job, of which two of the four records were answered, as 7 and 8, when its runner died."""
    source = tmp_path / "a.csv"
    source.write_text("1,1\n2,2\n3,3\n4,4\n")
    job = replace(make(source, tmp_path / "out"), model_name="s", batch_strategy="SingleRecord")
    with TransformJobs(home) as jobs:
        claim = jobs.create(job, threads=1, demand=Demand())
        digest = Artifact.read(model_folder("s", home=home)).digest
        jobs.move("t", SecondaryStatus.TRANSFORMING, digest=digest)
        output = jobs.folder("t").output
        (output / "answers").mkdir(parents=True)
        (output / "answers" / "a.csv.out").write_text("7\n8\n9")
        begin(output, {"a.csv": lineage.file_digest(source)})
        with Journal(output) as journal:
            journal.note(Part(file="a.csv", requests=2, records=2, size_bytes=4))
        with (output / "answers.journal").open("a") as file:
            file.write('{"file": "a.c')  # the machine went down
        claim.release()
    return job


def test_a_repeated_job_goes_on_within_a_file(
    home: Path, tmp_path: Path, half: TransformJob
) -> None:
    again = replace(
        half,
        transform_job_name="again",
        transform_output=TransformOutput(path=str(tmp_path / "other")),
        max_concurrent_transforms=2,
    )
    result = run_transform(home, again).check()
    assert (result.records, result.files) == (4, 1)
    assert (tmp_path / "other" / "a.csv.out").read_text() == "7\n8\n6.0\n8.0\n"


@pytest.mark.parametrize(
    "fields",
    [
        {"model_name": "m"},
        {"batch_strategy": "MultiRecord"},
        {"data_processing": DataProcessing(join_source="Input", output_filter="$[-1]")},
    ],
)
def test_a_job_that_asks_something_else_begins_anew(
    home: Path, tmp_path: Path, half: TransformJob, fields: dict[str, object]
) -> None:
    run_transform(home, replace(half, transform_job_name="again", **fields)).check()
    lines = (tmp_path / "out" / "a.csv.out").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0] != "7"
    # They stay for one that asks the same.
    run_transform(home, replace(half, transform_job_name="once-more")).check()
    assert (tmp_path / "out" / "a.csv.out").read_text().startswith("7\n8\n6.0")
