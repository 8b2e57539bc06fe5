"""Jobs whose runner was killed: what it left is ended, and the job fails or goes on to its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import lineage
import training
from tests.inprocess import run_command
from tests.training.programs import MakeProgram, program_maker
from tests.training.served import serve
from training import (
    CheckpointConfig,
    MetricDefinition,
    RetryStrategy,
    TrainingJob,
    TrainingJobDescription,
    TrainingJobs,
    TrainingJobStatus,
    train,
)
from training.jobs.leftover import end_left, note

MakeJob = Callable[..., TrainingJob]
ROOT = Path(training.__file__).parents[1]
ONCE = RetryStrategy(maximum_retry_attempts=1)
RUNNER = """
import json, sys
from training import TrainingJob, train
train(sys.argv[1], TrainingJob.from_json(json.loads(sys.argv[2])))
"""
# A walk whose place depends on each of its steps; the third step of a first attempt takes long.
WALK = """\
import json, os, subprocess, sys, time
kept = os.environ["SM_MODEL_DIR"] + "/../checkpoints/state.json"
step, place = 0, 0.5
if os.path.exists(kept):
    step, place = json.load(open(kept))
first = step == 0
for step in range(step, 6):
    if step == 3 and first:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("waiting", flush=True)
        time.sleep(60)
    place = 3.7 * place * (1 - place)
    with open(kept + ".part", "w") as file:
        json.dump([step + 1, place], file)
    os.replace(kept + ".part", kept)
    print(f"epoch={step}, place={place!r}", flush=True)
with open(os.environ["SM_MODEL_DIR"] + "/place", "w") as file:
    file.write(repr(place))
"""
PLACE = MetricDefinition(name="place", regex=r"place=(\S+)")


@pytest.fixture
def make(tmp_path: Path) -> MakeProgram:
    return program_maker(tmp_path)


def eventually(check: Callable[[], Any], *, seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def children_of(number: int) -> list[int]:
    """Return the processes below one, the nearest first."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("children are found through /proc")
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
    own = [child for child, parent in parents.items() if parent == number]
    return own + [deeper for child in own for deeper in children_of(child)]


def is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def killed(
    home: Path, job: TrainingJob, when: Callable[[], bool], *, launcher: bool = False
) -> list[int]:
    """Run a job in a process that is killed at some moment; return the processes it had."""
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(home), json.dumps(job.to_json())], cwd=ROOT
    )
    try:
        eventually(lambda: when() or runner.poll() is not None)
        assert runner.poll() is None, "the job has ended before it was killed"
        below = children_of(runner.pid)
        if launcher:
            os.kill(below[0], signal.SIGSTOP)  # it cannot see that its runner is gone
    finally:
        runner.kill()
        runner.wait()
    if launcher:
        os.kill(below[0], signal.SIGKILL)
    return below


def component(home: Path, name: str) -> lineage.Entity:
    with lineage.open_home(home) as graph:
        (found,) = graph.find(type="TrainingJob", name=f"{name}-aws-training-job")
    return found


def ended(home: Path, name: str) -> TrainingJobDescription:
    """Wait for the end of a job."""
    with TrainingJobs(home) as jobs:
        eventually(lambda: jobs.has_ended(name))
        return jobs.describe(name)


def says(home: Path, name: str, text: str) -> bool:
    log = home / "jobs" / name / "training.log"
    return log.exists() and text in log.read_text()


def test_a_script_goes_on_when_a_server_starts(
    home: Path, make: MakeProgram, tmp_path: Path
) -> None:
    job = make(WALK, "walk-1", retry_strategy=ONCE, metric_definitions=[PLACE])
    below = killed(home, job, lambda: says(home, "walk-1", "waiting"), launcher=True)
    assert any(map(is_alive, below)), "the script outlives its launcher"
    with serve(home, scripts=True):
        known = ended(home, "walk-1")
    assert known.status is TrainingJobStatus.COMPLETED, known.failure_reason
    assert not any(map(is_alive, below))
    states = [(t.status.value, t.status_message) for t in known.secondary_status_transitions]
    again = ("Interrupted", "the process that ran this job ended before the job did")
    at = states.index(again)
    assert states[at + 1] == ("Starting", "attempt 2 of 2")
    place = 0.5
    for _ in range(6):
        place = 3.7 * place * (1 - place)
    assert known.model_artifacts is not None
    assert (known.model_artifacts / "place").read_text() == repr(place)
    with TrainingJobs(home) as jobs:
        table = jobs.metrics("walk-1")
        assert table["epoch"].to_pylist() == list(range(6))
        assert "waiting" in list(jobs.logs("walk-1"))
    found = component(home, "walk-1")
    assert found.state == "Completed"
    assert found.properties["metrics"] == {"place": place}
    attempts = found.properties["attempts"]
    assert isinstance(attempts, list)
    assert [(one["number"], one["failure_reason"]) for one in attempts] == [  # type: ignore[index]
        (1, again[1]),
        (2, ""),
    ]


def test_a_script_does_not_go_on_at_a_server_that_runs_none(home: Path, make: MakeProgram) -> None:
    with TrainingJobs(home) as jobs:
        jobs.create(make(WALK, "walk-1", retry_strategy=ONCE), threads=1).release()
    with serve(home), TrainingJobs(home) as jobs:
        known = jobs.describe("walk-1")
    assert known.status is TrainingJobStatus.FAILED
    assert known.failure_reason.startswith(
        "the process that ran this job ended before the job did, and it does not go on here: this "
        "server runs no programs of its callers"
    )
    assert not (home / "jobs" / "walk-1" / "supervisor.log").exists()


def test_a_job_may_be_known_to_a_process_that_runs_no_scripts(
    home: Path, make: MakeProgram
) -> None:
    with TrainingJobs(home) as jobs:
        claim = jobs.create(make(WALK, "walk-1", retry_strategy=ONCE), threads=1)
        with TrainingJobs(home, scripts=False) as others:
            others.settle()  # another process runs it
        assert jobs.describe("walk-1").status is TrainingJobStatus.IN_PROGRESS
    claim.release()
    with TrainingJobs(home, scripts=False) as others:
        assert others.describe("walk-1").status is TrainingJobStatus.FAILED


def test_a_model_that_went_on_is_the_undisturbed_one(home: Path, make_job: MakeJob) -> None:
    values = {"num_round": 1000, "max_depth": 4, "eval_metric": "logloss", "subsample": 0.5}
    often = CheckpointConfig(interval_in_seconds=0.1)
    job = make_job(hyper_parameters=values, retry_strategy=ONCE, checkpoint_config=often)
    kept = home / "jobs" / "flights-1" / "checkpoints"
    killed(home, job, lambda: kept.is_dir() and any(kept.iterdir()))
    listed = run_command("jobs", "list", "--home", home)
    assert "InProgress (Starting)" in listed.stdout
    known = ended(home, "flights-1")
    assert known.status is TrainingJobStatus.COMPLETED, known.failure_reason
    with TrainingJobs(home) as jobs:
        assert any("going on from the checkpoint" in line for line in jobs.logs("flights-1"))
    other = train(home, make_job("flights-2", hyper_parameters=values)).check()
    assert known.model_digest == other.digest
    assert {m.name: m.value for m in known.final_metrics} == other.metrics
    found = component(home, "flights-1")
    assert found.state == "Completed"
    with lineage.open_home(home) as graph:
        (model,) = [one for one in graph.query(found, "descendants") if one.type == "Model"]
    assert model.content_hash == known.model_digest


def test_a_job_without_attempts_left_has_failed_and_nothing_of_it_runs(
    home: Path, make: MakeProgram, tmp_path: Path
) -> None:
    job = make(WALK, "walk-1", checkpoint_config=CheckpointConfig(path=str(tmp_path / "kept")))
    below = killed(home, job, lambda: says(home, "walk-1", "waiting"), launcher=True)
    assert any(map(is_alive, below))
    with TrainingJobs(home) as jobs:
        (known,) = jobs.list()
    assert known.status is TrainingJobStatus.FAILED
    assert "ended before the job did; submit it again" in known.failure_reason
    assert "with the same checkpoint path: it goes on from there" in known.failure_reason
    assert not any(map(is_alive, below))
    found = component(home, "walk-1")
    assert (found.state, found.properties["failure_reason"]) == ("Failed", known.failure_reason)


def test_a_job_does_not_go_on_with_other_data(home: Path, make: MakeProgram) -> None:
    with TrainingJobs(home) as jobs:
        claim = jobs.create(make(WALK, "walk-1", retry_strategy=ONCE), threads=1)
        folder = jobs.folder("walk-1")
        folder.create()
        (folder.code / "train.py").write_text(WALK)
        folder.note_brought({"train": {"uid": "of other data"}})
        claim.release()
    known = ended(home, "walk-1")
    assert known.status is TrainingJobStatus.FAILED
    assert "program-data is not what it was when the job began" in known.failure_reason
    said = str(component(home, "walk-1").properties["failure_reason"])
    assert said == f"TrainingJobFailed: {known.failure_reason}"


@pytest.fixture
def done(home: Path, make: MakeProgram) -> TrainingJobDescription:
    train(home, make(WALK.replace("first = step == 0", "first = False"), "walk-1")).check()
    with TrainingJobs(home) as jobs:
        return jobs.describe("walk-1")


def change(home: Path, sql: str) -> None:
    with closing(sqlite3.connect(home / "meta.db")) as db, db:
        db.execute(sql)


def test_a_runner_that_died_after_the_record_leaves_the_job_as_recorded(
    home: Path, done: TrainingJobDescription
) -> None:
    change(
        home,
        "UPDATE training_job SET status = 'InProgress', secondary_status = 'Uploading', model = '',"
        " digest = ''",
    )
    with TrainingJobs(home) as jobs:
        known = jobs.describe("walk-1")
    assert known.status is TrainingJobStatus.COMPLETED
    assert (known.model_digest, known.model_artifacts) == (done.model_digest, done.model_artifacts)


def test_an_end_that_could_not_be_recorded_is_recorded_later(
    home: Path, done: TrainingJobDescription, make: MakeProgram
) -> None:
    with TrainingJobs(home) as jobs:
        jobs.create(make(WALK, "walk-2"), threads=1).release()
        with lineage.open_home(home) as graph:
            graph.record(
                [
                    lineage.trial_component(
                        "TrainingJob", "walk-2-aws-training-job", state="InProgress"
                    )
                ],
                kind="JobStarted",
            )
        kept = (home / "lineage.db").rename(home / "kept.db")
        (home / "lineage.db").write_text("not a lineage file, and long enough to be seen so\n" * 9)
        assert jobs.describe("walk-2").status is TrainingJobStatus.FAILED
        kept.rename(home / "lineage.db")
        assert component(home, "walk-2").state == "InProgress"
        jobs.list()
    assert component(home, "walk-2").state == "Failed"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_only_the_process_that_was_noted_is_ended(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    note(tmp_path, [sleeper.pid])
    noted = json.loads((tmp_path / ".processes").read_text())
    for wrong in (
        {**noted, "processes": {str(sleeper.pid): "1"}},  # the number is another's by now
        {**noted, "boot": "another boot"},
    ):
        (tmp_path / ".processes").write_text(json.dumps(wrong))
        assert end_left(tmp_path) == 0
        assert sleeper.poll() is None
    note(tmp_path, [sleeper.pid])
    assert end_left(tmp_path) == 1
    assert sleeper.wait(10) == -signal.SIGKILL
    assert end_left(tmp_path) == 0
