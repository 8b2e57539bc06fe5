from __future__ import annotations

import datetime as dt
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import training
from training.errors import (
    InvalidJob,
    TrainingJobExists,
    TrainingJobNotFound,
    TrainingUnavailable,
)
from training.jobs.claim import Claim
from training.jobs.description import FinalMetric
from training.jobs.job import SecondaryStatus, TrainingJob, TrainingJobStatus
from training.jobs.metricfile import MetricWriter
from training.jobs.registry import TrainingJobs

MakeJob = Callable[..., TrainingJob]
START = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


class Clock:
    """Advances by one second with every look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> dt.datetime:
        self.now += dt.timedelta(seconds=1)
        return self.now


@pytest.fixture
def jobs(home: Path) -> TrainingJobs:
    return TrainingJobs(home, clock=Clock())


def at(seconds: int) -> dt.datetime:
    return START + dt.timedelta(seconds=seconds)


def test_a_job_goes_through_its_states(jobs: TrainingJobs, make_job: MakeJob) -> None:
    job = make_job()
    claim = jobs.create(job, threads=2)
    jobs.move("flights-1", SecondaryStatus.DOWNLOADING)
    jobs.move("flights-1", SecondaryStatus.TRAINING, device="cpu")
    known = jobs.describe("flights-1")
    assert known.job == job
    assert known.status is TrainingJobStatus.IN_PROGRESS
    assert known.secondary_status is SecondaryStatus.TRAINING
    assert (known.threads, known.device) == (2, "cpu")
    assert known.training_end_time is None
    model = jobs.home / "artifacts" / "models" / "ab12"
    jobs.move(
        "flights-1",
        SecondaryStatus.COMPLETED,
        metrics={"train:auc": FinalMetric("train:auc", 0.9, at(3))},
        model=model,
        digest="ab12",
    )
    claim.release()
    known = jobs.describe("flights-1")
    assert known.status is TrainingJobStatus.COMPLETED
    assert known.model_artifacts == model
    assert known.final_metrics == (FinalMetric("train:auc", 0.9, at(3)),)
    assert known.creation_time == at(1)
    assert known.training_start_time == at(3)
    assert known.training_end_time == at(4)
    spans = [(t.status.value, t.start_time, t.end_time) for t in known.secondary_status_transitions]
    assert spans == [
        ("Starting", at(1), at(2)),
        ("Downloading", at(2), at(3)),
        ("Training", at(3), at(4)),
        ("Completed", at(4), at(4)),
    ]


def test_a_description_is_json(jobs: TrainingJobs, make_job: MakeJob) -> None:
    claim = jobs.create(make_job(), threads=1)
    body = jobs.describe("flights-1").to_json()
    assert body["TrainingJobStatus"] == "InProgress"
    assert body["ResourceConfig"] == {"Threads": 1, "Device": "cpu"}
    assert body["CreationTime"] == "2026-01-02T00:00:01+00:00"
    assert body["TrainingEndTime"] is None
    claim.release()


def test_a_name_is_given_once(jobs: TrainingJobs, make_job: MakeJob) -> None:
    claim = jobs.create(make_job(), threads=1)
    with pytest.raises(TrainingJobExists, match="'flights-1' exists already"):
        jobs.create(make_job(), threads=1)
    jobs.move("flights-1", SecondaryStatus.COMPLETED)
    claim.release()
    with TrainingJobs(jobs.home) as again, pytest.raises(TrainingJobExists):
        again.create(make_job(), threads=1)


def test_an_unknown_job_is_named_with_its_nearest(jobs: TrainingJobs, make_job: MakeJob) -> None:
    claim = jobs.create(make_job(), threads=1)
    for call in (jobs.describe, jobs.stop, jobs.is_stop_requested, jobs.logs, jobs.metrics):
        with pytest.raises(TrainingJobNotFound, match=r"'flights-2' .* did you mean 'flights-1'"):
            call("flights-2")
    claim.release()


def test_jobs_are_listed_in_order_and_in_pages(jobs: TrainingJobs, make_job: MakeJob) -> None:
    claims = [jobs.create(make_job(f"{word}-1"), threads=1) for word in ("b", "a", "c")]
    jobs.move("a-1", SecondaryStatus.FAILED, failure_reason="no")

    def names(**options: object) -> list[str]:
        return [known.job.training_job_name for known in jobs.list(**options)]  # type: ignore[arg-type]

    assert names() == ["b-1", "a-1", "c-1"]
    assert names(name_contains="a-") == ["a-1"]
    assert names(status=TrainingJobStatus.FAILED) == ["a-1"]
    assert names(status="InProgress") == ["b-1", "c-1"]
    assert names(limit=2) == ["b-1", "a-1"]
    assert names(after="a-1") == ["c-1"]
    assert jobs.running() == {"b-1": 1, "c-1": 1}
    with pytest.raises(InvalidJob, match="expected one of InProgress, Completed"):
        jobs.list(status="Done")
    for claim in claims:
        claim.release()


def test_another_process_can_ask_for_a_stop(jobs: TrainingJobs, make_job: MakeJob) -> None:
    claim = jobs.create(make_job(), threads=1)
    assert not jobs.is_stop_requested("flights-1")
    with TrainingJobs(jobs.home) as other:
        other.stop("flights-1")
    assert jobs.is_stop_requested("flights-1")
    claim.release()


def test_a_job_that_nobody_runs_any_more_has_failed(jobs: TrainingJobs, make_job: MakeJob) -> None:
    jobs.create(make_job(), threads=1).release()
    known = jobs.describe("flights-1")
    assert known.status is TrainingJobStatus.FAILED
    assert "the process that ran this job ended before the job did" in known.failure_reason


def test_a_job_whose_folder_is_gone_has_failed(jobs: TrainingJobs, make_job: MakeJob) -> None:
    claim = jobs.create(make_job(), threads=1)
    (jobs.folder("flights-1").root / ".claim").unlink()
    jobs.folder("flights-1").root.rmdir()
    assert jobs.describe("flights-1").status is TrainingJobStatus.FAILED
    claim.release()


def test_the_log_and_the_metrics_of_a_job(jobs: TrainingJobs, make_job: MakeJob) -> None:
    claim = jobs.create(make_job(), threads=1)
    assert list(jobs.logs("flights-1")) == []
    assert len(jobs.metrics("flights-1")) == 0
    folder = jobs.folder("flights-1")
    folder.log.write_text("one\ntwo\n")
    with MetricWriter(folder.metrics, "flights-1") as writer:
        writer.add("train:auc", 0.5, host="algo-1", micros=1_000_000, step=0)
        writer.add("train:auc", 0.75, host="algo-1", micros=2_000_000, epoch=1)
    assert list(jobs.logs("flights-1")) == ["one", "two"]
    table = jobs.metrics("flights-1")
    assert table["value"].to_pylist() == [0.5, 0.75]
    assert table["step"].to_pylist() == [0, None]
    assert table["epoch"].to_pylist() == [None, 1]
    assert table["time"][0].as_py() == dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
    claim.release()


def test_a_registry_that_is_no_database_says_so(home: Path) -> None:
    home.mkdir()
    (home / "meta.db").write_text("this is no database, and it is longer than a page header" * 99)
    with pytest.raises(TrainingUnavailable, match=r"meta\.db: file is not a database"):
        TrainingJobs(home)


def test_it_shares_its_file_with_other_tables(home: Path) -> None:
    home.mkdir()
    with sqlite3.connect(home / "meta.db") as other:
        other.execute("CREATE TABLE feature_group (name TEXT)")
    other.close()
    with TrainingJobs(home) as jobs:
        assert jobs.list() == []


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "claim"
    code = (
        "import sys, pathlib; from training.jobs.claim import Claim;"
        "held = Claim.take(pathlib.Path(sys.argv[1])); print('held', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(training.__file__).parents[1],
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"held\n"
    assert Claim.take(path) is None
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()
    claim = Claim.take(path)
    assert claim is not None
    claim.release()
    claim.release()
