"""Jobs that are killed or fail and are started again, from their checkpoints."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import lineage
from tests.training.programs import MakeProgram, program_maker
from training import (
    CheckpointConfig,
    JobResult,
    RetryStrategy,
    TrainingJob,
    TrainingJobs,
    TrainingJobStatus,
    train,
)
from training.jobs.checkpointing import CheckpointCopy

# Counts on from its checkpoint, and dies in the way it is told while it is below three.
COUNTING = """\
import os, signal, sys
checkpoints = os.path.join(os.environ["SM_MODEL_DIR"], "..", "checkpoints")
path = os.path.join(checkpoints, "step")
step = int(open(path).read()) if os.path.exists(path) else 0
print(f"begins at {step}")
step += 1
with open(path + ".part", "w") as file:
    file.write(str(step))
os.replace(path + ".part", path)
if step < 3:
    if step == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(5)
open(os.path.join(os.environ["SM_MODEL_DIR"], "model"), "w").write(str(step))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attempts")


@pytest.fixture(scope="module")
def make(folder: Path) -> MakeProgram:
    return program_maker(folder)


def states(home: Path, name: str) -> list[tuple[str, str]]:
    with TrainingJobs(home) as jobs:
        known = jobs.describe(name)
    return [(t.status.value, t.status_message) for t in known.secondary_status_transitions]


@pytest.fixture(scope="module")
def retried(folder: Path, make: MakeProgram) -> JobResult:
    job = make(
        COUNTING,
        "counting-1",
        retry_strategy=RetryStrategy(maximum_retry_attempts=3),
        checkpoint_config=CheckpointConfig(path=str(folder / "kept")),
    )
    assert TrainingJob.from_json(job.to_json()) == job
    return train(folder / "home", job)


def test_a_killed_and_a_failed_job_go_on_from_their_checkpoints(
    folder: Path, retried: JobResult
) -> None:
    assert retried.check().model is not None
    assert (retried.model / "model").read_text() == "3"
    home = folder / "home"
    with TrainingJobs(home) as jobs:
        log = list(jobs.logs("counting-1"))
    assert log == ["begins at 0", "begins at 1", "begins at 2"]
    seen = states(home, "counting-1")
    assert [status for status, _ in seen] == [
        *("Starting", "Downloading", "Training"),
        *("Interrupted", "Starting", "Training"),
        *("Restarting", "Starting", "Training"),
        *("Uploading", "Completed"),
    ]
    assert "ended by signal SIGKILL (9)" in seen[3][1]
    assert seen[4][1] == "attempt 2 of 4"
    assert "ended with exit status 5" in seen[6][1]


def test_the_attempts_and_the_checkpoints_are_in_the_lineage(
    folder: Path, retried: JobResult
) -> None:
    with lineage.open(folder / "home" / "lineage.db") as graph:
        (job,) = graph.find(type="TrainingJob", name="counting-1-aws-training-job")
        made = list(graph.query(job, "descendants", depth=1))
    attempts = job.properties["attempts"]
    assert [attempt["number"] for attempt in attempts] == [1, 2, 3]
    assert "SIGKILL" in attempts[0]["failure_reason"]
    assert attempts[2]["failure_reason"] == ""
    kept = [entity for entity in made if entity.type == "Checkpoint"]
    assert [entity.source_uri for entity in kept] == [(folder / "kept").as_uri()]


def test_another_job_goes_on_from_the_kept_checkpoints(
    folder: Path, make: MakeProgram, retried: JobResult
) -> None:
    assert (folder / "kept" / "step").read_text() == "3"
    job = make(
        COUNTING, "counting-2", checkpoint_config=CheckpointConfig(path=str(folder / "kept"))
    )
    result = train(folder / "home", job).check()
    assert result.model is not None
    assert (result.model / "model").read_text() == "4"
    with lineage.open(folder / "home" / "lineage.db") as graph:
        (second,) = graph.find(type="TrainingJob", name="counting-2-aws-training-job")
        walk = [entity.name for entity in graph.query(second, "ascendants")]
    assert "counting-1-aws-training-job" in walk


def test_a_job_without_attempts_left_has_the_last_reason(folder: Path, make: MakeProgram) -> None:
    text = "import os; print(len(os.listdir(os.environ['SM_MODEL_DIR'])))\n"
    text += "open(os.environ['SM_MODEL_DIR'] + '/x', 'w'); raise SystemExit(7)"
    job = make(text, "failing-1", retry_strategy=RetryStrategy(maximum_retry_attempts=1))
    result = train(folder / "home", job)
    assert result.status is TrainingJobStatus.FAILED
    assert result.failure_reason.startswith("the job's process ended with exit status 7")
    assert [status for status, _ in states(folder / "home", "failing-1")][-5:] == [
        *("Training", "Restarting", "Starting", "Training", "Failed"),
    ]
    with TrainingJobs(folder / "home") as jobs:
        # What an attempt left of a model is gone when the next begins.
        assert list(jobs.logs("failing-1")) == ["0", "0"]


def test_a_refused_job_is_not_tried_again(folder: Path, make: MakeProgram) -> None:
    body = make("", "refused-1").to_json()
    body["InputDataConfig"][0]["Label"] = "late"
    job = TrainingJob.from_json(
        body
        | {
            "AlgorithmSpecification": {"AlgorithmName": "xgboost"},
            "HyperParameters": {"num_round": "2"},
            "RetryStrategy": {"MaximumRetryAttempts": 30},
        }
    )
    result = train(folder / "home", job)
    assert result.failure_reason.startswith("InvalidData: train: label column 'late' is missing")
    assert "Restarting" not in [status for status, _ in states(folder / "home", "refused-1")]


# -- the copies -------------------------------------------------------------------------------


def test_a_checkpoint_is_kept_when_it_is_complete(tmp_path: Path) -> None:
    local, kept = tmp_path / "local", tmp_path / "kept"
    local.mkdir()
    copy = CheckpointCopy(local, kept)
    assert copy.restore() == 0

    def look() -> set[str]:
        copy._looked = 0.0
        copy.sync()
        return {str(file.relative_to(kept)) for file in kept.rglob("*") if file.is_file()}

    (local / "deep").mkdir()
    (local / "deep" / "1").write_text("half")
    assert look() == set()
    (local / "deep" / "1").write_text("whole!")
    assert look() == set()
    assert look() == {"deep/1"}
    assert (kept / "deep" / "1").read_text() == "whole!"
    # One that is renamed over it is whole, however soon the next one comes.
    (local / "new.part").write_text("renamed")
    (local / "new.part").replace(local / "deep" / "1")
    look()
    assert (kept / "deep" / "1").read_text() == "renamed"
    (local / "deep" / "1").unlink()
    (local / "2").write_text("last")
    (local / "3.part").write_text("a part")
    copy.sync(final=True)
    assert look() == {"deep/1", "2"}

    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert CheckpointCopy(fresh, kept).restore() == 2
    assert (fresh / "deep" / "1").read_text() == "renamed"


def test_what_did_not_change_is_not_copied_again(tmp_path: Path) -> None:
    local, kept = tmp_path / "local", tmp_path / "kept"
    for folder in (local, kept):
        folder.mkdir()
    (kept / "1").write_text("x")
    copy = CheckpointCopy(local, kept)
    copy.restore()
    before = os.stat(kept / "1").st_ino
    time.sleep(0.01)
    copy.sync(final=True)
    assert os.stat(kept / "1").st_ino == before
