"""Jobs side by side under a budget, in the order of their submission, across processes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lineage
import training
from tests.training.programs import MakeProgram, program_maker
from training import (
    Budget,
    MetricDefinition,
    RunningJob,
    StoppingCondition,
    TrainingJob,
    TrainingJobs,
    TrainingJobStatus,
    submit,
)
from training.errors import InvalidJob
from training.jobs.budget import Demand, Share
from training.run import available_cores

ROOT = Path(training.__file__).parents[1]
BUDGET = Budget(cores=4, memory_mb=1000, gpus=2)
# Ends when a file beside its code is there, as every job of a test can be told.
WAITING = """\
import os, time
while not os.path.exists(os.environ["RELEASE"]):
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("demand", "running", "expected"),
    [
        (Demand(cores=2), [], Share(cores=2)),
        (Demand(cores=2), [Share(cores=2)], Share(cores=2)),
        (Demand(cores=2), [Share(cores=3)], None),
        (Demand(cores=9), [], Share(cores=4)),
        (Demand(cores=9), [Share(cores=1)], None),
        (Demand(memory_mb=600), [Share(memory_mb=400)], Share(memory_mb=600)),
        (Demand(memory_mb=601), [Share(memory_mb=400)], None),
        (Demand(memory_mb=5000), [], Share(memory_mb=1000)),
        (Demand(gpus=1), [], Share(gpus=(0,))),
        (Demand(gpus=1), [Share(gpus=(0,))], Share(gpus=(1,))),
        (Demand(gpus=1), [Share(gpus=(0,)), Share(gpus=(1,))], None),
        (Demand(gpus=5), [], Share(gpus=(0, 1))),
        (Demand(gpu=1), [Share(gpus=(0,))], Share(gpus=(1,))),
        (Demand(gpu=0), [Share(gpus=(0,))], None),
        # A device that is not there is refused by the job itself.
        (Demand(gpu=7), [], Share()),
    ],
)
def test_a_job_gets_its_share_or_waits(
    demand: Demand, running: list[Share], expected: Share | None
) -> None:
    assert BUDGET.admit(demand, running) == expected


def test_a_budget_has_a_core_and_the_machine_is_one() -> None:
    with pytest.raises(InvalidJob, match="expected at least one core"):
        Budget(cores=0, memory_mb=1, gpus=0)
    machine = Budget.of_machine()
    assert machine.cores == available_cores()
    assert machine.memory_mb > 100


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with TrainingJobs(tmp_path / "home") as jobs:
        jobs.set_budget(Budget(cores=2, memory_mb=1000, gpus=0))
        assert jobs.budget() == Budget(cores=2, memory_mb=1000, gpus=0)
    return tmp_path / "home"


@pytest.fixture
def make(tmp_path: Path) -> MakeProgram:
    return program_maker(tmp_path)


Start = Callable[..., RunningJob]


@pytest.fixture
def start(home: Path, tmp_path: Path, make: MakeProgram) -> Iterator[Start]:
    started: list[RunningJob] = []

    def start(name: str, **fields: Any) -> RunningJob:
        job = make(WAITING, name, environment={"RELEASE": str(tmp_path / name)}, **fields)
        started.append(submit(home, job))
        return started[-1]

    yield start
    for running in started:
        running.stop()
    for running in started:
        running.wait()


def state(home: Path, name: str) -> str:
    with TrainingJobs(home) as jobs:
        return jobs.describe(name).secondary_status.value


def reach(home: Path, name: str, *wanted: str) -> None:
    deadline = time.monotonic() + 20
    while (seen := state(home, name)) not in wanted:
        assert time.monotonic() < deadline, f"{name} is {seen}"
        time.sleep(0.02)


def test_jobs_wait_for_their_turn_in_the_order_of_submission(
    home: Path, tmp_path: Path, start: Start
) -> None:
    first, second = start("one", threads=1), start("two", threads=2)
    reach(home, "one", "Training")
    reach(home, "two", "Pending")
    # It would fit beside the first, but the second was here before.
    third = start("three", threads=1)
    reach(home, "three", "Pending")
    with TrainingJobs(home) as jobs:
        assert jobs.cores_in_use() == 1
        assert jobs.running() == {"one": 1, "two": 2, "three": 1}
        (pending,) = (
            t
            for t in jobs.describe("two").secondary_status_transitions
            if t.status.value == "Pending"
        )
    assert pending.status_message == "waits for jobs before it to free resources"

    (tmp_path / "one").touch()
    assert first.wait(20).status is TrainingJobStatus.COMPLETED
    reach(home, "two", "Training")
    assert state(home, "three") == "Pending"
    (tmp_path / "two").touch()
    (tmp_path / "three").touch()
    assert second.wait(20).status is TrainingJobStatus.COMPLETED
    assert third.wait(20).status is TrainingJobStatus.COMPLETED


def test_the_metrics_of_a_running_job_are_told(
    home: Path, make: MakeProgram, tmp_path: Path
) -> None:
    text = "print('loss=2')\nprint('loss=1')\n" + WAITING
    found = MetricDefinition(name="loss", regex="loss=(.*)")
    release = tmp_path / "release"
    job = make(text, "telling", environment={"RELEASE": str(release)}, metric_definitions=[found])
    running = submit(home, job)
    deadline = time.monotonic() + 20
    with TrainingJobs(home) as jobs:
        while not (metrics := jobs.describe("telling").final_metrics):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert [(metric.name, metric.value) for metric in metrics] == [("loss", 1.0)]
    release.touch()
    assert running.wait(20).metrics == {"loss": 1.0}


def test_a_waiting_job_stops_at_once_and_those_behind_it_go_on(home: Path, start: Start) -> None:
    start("one", threads=2)
    waiting, behind = start("two", threads=2), start("three", memory_mb=1)
    reach(home, "two", "Pending")
    reach(home, "three", "Pending")
    began = time.monotonic()
    with TrainingJobs(home) as jobs:
        jobs.stop("two")
    result = waiting.wait(20)
    assert time.monotonic() < began + 2
    assert result.status is TrainingJobStatus.STOPPED
    assert not (home / "jobs" / "two" / "input").exists()
    with lineage.open(home / "lineage.db") as graph:
        (job,) = graph.find(type="TrainingJob", name="two-aws-training-job")
    assert job.state == "Stopped"
    assert not behind.is_done


def test_a_job_waits_no_longer_than_it_may(home: Path, start: Start) -> None:
    start("one", threads=2)
    limits = StoppingCondition(max_runtime_in_seconds=1, max_wait_time_in_seconds=1)
    result = start("two", threads=2, stopping_condition=limits).wait(20)
    assert result.status is TrainingJobStatus.STOPPED
    assert result.failure_reason == "the job waited and ran longer than MaxWaitTimeInSeconds=1"
    assert state(home, "two") == "MaxWaitTimeExceeded"


PROGRAM = """
import json, sys
from training import TrainingJob, submit
job = TrainingJob.from_json(json.loads(sys.argv[2]))
told = lambda progress: print(progress.status.value, flush=True)
submit(sys.argv[1], job, on_progress=told).wait()
"""


def test_the_share_of_a_killed_process_is_free_again(
    home: Path, make: MakeProgram, start: Start
) -> None:
    job: TrainingJob = make(WAITING, "theirs", threads=2, environment={"RELEASE": "/never"})
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(home), json.dumps(job.to_json())],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"Downloading\n"
        assert process.stdout.readline() == b"Training\n"
        start("ours", threads=1)
        reach(home, "ours", "Pending")
        process.kill()
        process.wait(20)
        reach(home, "ours", "Training")
        assert state(home, "theirs") == "Failed"
    finally:
        process.kill()
        process.communicate()


def test_a_home_of_an_earlier_version_gets_the_columns(home: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    with sqlite3.connect(old / "meta.db") as database:
        database.execute(
            "CREATE TABLE training_job (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE,"
            " job TEXT, status TEXT, secondary_status TEXT, transitions TEXT, threads INTEGER,"
            " device TEXT DEFAULT '', stop_requested INTEGER DEFAULT 0, failure_reason TEXT"
            " DEFAULT '', metrics TEXT DEFAULT '[]', model TEXT DEFAULT '', digest TEXT DEFAULT '',"
            " created_us INTEGER, started_us INTEGER, ended_us INTEGER)"
        )
    database.close()
    for _ in range(2):
        with TrainingJobs(old) as jobs:
            assert jobs.list() == []
            assert jobs.cores_in_use() == 0
            assert jobs.budget() == Budget.of_machine()
