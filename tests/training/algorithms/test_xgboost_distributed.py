"""One fit of XGBoost on two hosts: the same trees, one word on a failure, resume, stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.test_runner import eventually, processes_of
from training import (
    Channel,
    ResourceConfig,
    RetryStrategy,
    TrainingJob,
    TrainingJobs,
    TrainingJobStatus,
    submit,
    train,
)
from training.algorithms.tabular.boosting.learner import XGBoost
from training.artifact import open_model
from training.errors import InvalidJob
from training.jobs.folder import JobFolder

MakeJob = Callable[..., TrainingJob]
TWO = ResourceConfig(threads=1, device="cpu", instance_count=2)


def flights(rows: int, seed: int, airports: list[str]) -> pa.Table:
    """Few different values, so that the bins of two halves are those of the whole."""
    random = np.random.default_rng(seed)
    wind = random.integers(0, 20, rows)
    origin = random.choice(airports, rows)
    late = wind + 5 * (origin == "LGA") + random.normal(0, 4, rows) > 12
    return pa.table({"late": late, "wind": wind, "origin": origin})


@pytest.fixture
def channels(tmp_path: Path) -> list[Channel]:
    """Two files of training data, each with an airport that the other one lacks."""
    folder = tmp_path / "flights"
    folder.mkdir()
    pq.write_table(flights(251, 0, ["EWR", "JFK"]), folder / "a.parquet")
    pq.write_table(flights(250, 1, ["JFK", "LGA"]), folder / "b.parquet")
    later = tmp_path / "later.parquet"
    pq.write_table(flights(200, 2, ["EWR", "JFK", "LGA"]), later)
    return [
        Channel(
            channel_name="train", path=str(folder), label="late", distribution="ShardedByS3Key"
        ),
        Channel(channel_name="validation", path=str(later), label="late"),
    ]


def test_two_hosts_make_the_trees_of_one(
    home: Path, make_job: MakeJob, channels: list[Channel]
) -> None:
    values = {"num_round": 8, "eval_metric": "auc,accuracy,logloss"}
    alone = train(home, make_job("alone", channels=channels, hyper_parameters=values)).check()
    job = replace(
        make_job("spread", channels=channels, hyper_parameters=values), resource_config=TWO
    )
    spread = train(home, job).check()
    assert alone.model is not None
    assert spread.model is not None
    one, other = open_model(alone.model), open_model(spread.model)
    # Each host has read one file, and the words of both are known.
    folder = JobFolder(home / "jobs" / "spread")
    assert [
        [file.name for file in folder.host(host).channel("train").iterdir()]
        for host in ("algo-1", "algo-2")
    ] == [["a.parquet"], ["b.parquet"]]
    assert other.inputs == one.inputs
    asked = flights(100, 3, ["EWR", "JFK", "LGA"])
    expected = one.predict(asked)["score"].to_numpy()
    np.testing.assert_allclose(other.predict(asked)["score"].to_numpy(), expected, atol=1e-4)
    assert set(spread.metrics) == set(alone.metrics)
    for name in ("train:accuracy", "validation:accuracy", "train:logloss", "validation:logloss"):
        assert spread.metrics[name] == pytest.approx(alone.metrics[name], abs=1e-4), name
    with TrainingJobs(home) as jobs:
        # One host reports for all.
        assert set(jobs.metrics("spread")["host"].to_pylist()) == {"algo-1"}


def test_a_killed_host_ends_the_job_and_the_next_attempt_goes_on(
    home: Path, make_job: MakeJob, channels: list[Channel]
) -> None:
    # Long enough for a checkpoint half a second after its begin.
    values = {"num_round": 1500, "max_depth": 2, "eval_metric": "error"}

    def job(name: str, tries: int) -> TrainingJob:
        made = make_job(name, channels=channels, hyper_parameters=values)
        retry = RetryStrategy(maximum_retry_attempts=tries) if tries else None
        return replace(made, resource_config=TWO, retry_strategy=retry)

    undisturbed = train(home, job("whole", 0)).check()
    running = submit(home, job("killed", 1))
    folder = JobFolder(home / "jobs" / "killed")
    eventually(lambda: list(folder.checkpoints.glob("xgboost-checkpoint.*")))
    (process,) = processes_of(folder.host("algo-2").root)
    os.kill(process, signal.SIGKILL)
    result = running.wait(120).check()
    with TrainingJobs(home) as jobs:
        seen = jobs.describe("killed").secondary_status_transitions
        log = list(jobs.logs("killed"))
    (reason,) = [t.status_message for t in seen if t.status.value == "Interrupted"]
    assert reason.startswith("algo-2: the job's process was ended by signal SIGKILL (9)")
    assert any("going on from the checkpoint after round" in line for line in log)
    assert result.digest == undisturbed.digest


def test_a_stop_ends_all_hosts_at_one_round(
    home: Path, make_job: MakeJob, channels: list[Channel]
) -> None:
    values = {"num_round": 10_000_000, "max_depth": 1, "save_model_on_termination": "true"}
    job = replace(
        make_job("endless", channels=channels, hyper_parameters=values), resource_config=TWO
    )
    running = submit(home, job)
    with TrainingJobs(home) as jobs:
        next(iter(jobs.logs("endless", follow=True)))
    running.stop()
    result = running.wait(20)
    assert result.status is TrainingJobStatus.STOPPED
    assert result.model is not None
    for host in ("algo-1", "algo-2"):
        assert processes_of(JobFolder(home / "jobs" / "endless").host(host).root) == []


def test_what_one_host_refuses_is_the_jobs_reason(
    home: Path, make_job: MakeJob, channels: list[Channel], tmp_path: Path
) -> None:
    table = flights(250, 1, ["JFK", "LGA"])
    wrong = pa.array([7] + [0] * 249)
    pq.write_table(table.set_column(0, "late", wrong), tmp_path / "flights" / "b.parquet")
    job = replace(
        make_job("wrong", channels=channels),
        resource_config=TWO,
        retry_strategy=RetryStrategy(maximum_retry_attempts=2),
    )
    result = train(home, job)
    assert result.status is TrainingJobStatus.FAILED
    assert result.failure_reason.startswith("algo-2: InvalidData: train: label column 'late'")
    assert "got 7" in result.failure_reason


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"_kfold": 2}, "_kfold and several hosts do not go together: spread the folds over jobs"),
        ({"tree_method": "exact"}, "tree_method=exact and several hosts do not go together"),
        ({"booster": "gblinear"}, "booster=gblinear and several hosts"),
    ],
)
def test_what_the_library_does_not_spread_is_refused_at_once(
    values: dict[str, object], reason: str
) -> None:
    algorithm = XGBoost.of({"num_round": 2, **values})
    algorithm.check_hosts(1)
    with pytest.raises(InvalidJob, match=f"xgboost: {reason}"):
        algorithm.check_hosts(2)
