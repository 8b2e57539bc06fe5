"""The registry of transform jobs, which share the budget of a home with its training jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from training import (
    Budget,
    Channel,
    InvalidJob,
    TrainingJob,
    TrainingJobNotFound,
    TrainingJobs,
    TransformInput,
    TransformJob,
    TransformJobExists,
    TransformJobNotFound,
    TransformJobs,
    TransformOutput,
)
from training.jobs.budget import Demand
from training.jobs.job import SecondaryStatus


def make(name: str) -> TransformJob:
    return TransformJob(
        transform_job_name=name,
        model_name="m",
        transform_input=TransformInput(path="a"),
        transform_output=TransformOutput(path="b"),
    )


def trained(name: str) -> TrainingJob:
    return TrainingJob(
        training_job_name=name,
        algorithm_name="xgboost",
        input_data_config=[Channel(channel_name="train", path="a")],
    )


def test_training_and_transform_jobs_wait_for_one_budget_in_one_order(tmp_path: Path) -> None:
    with TrainingJobs(tmp_path) as training, TransformJobs(tmp_path) as transforms:
        training.set_budget(Budget(cores=2, memory_mb=1000, gpus=0))
        claims = [
            training.create(trained("a"), threads=2),
            # Of one name, and yet another job.
            transforms.create(make("a"), threads=1, demand=Demand(cores=2)),
            training.create(trained("b"), threads=1),
        ]
        assert training.admit("a") is not None
        assert transforms.admit("a") is training.admit("b") is None
        assert transforms.cores_in_use() == 2
        training.move("a", SecondaryStatus.COMPLETED)
        assert training.admit("b") is None  # the transform was there before
        assert transforms.admit("a") is not None
        transforms.stop("a")
        assert transforms.is_stop_requested("a")
        transforms.move("a", SecondaryStatus.STOPPED, records=7, files=1)
        assert training.admit("b") is not None
        assert [known.job.training_job_name for known in training.list()] == ["a", "b"]
        (known,) = transforms.list()
        assert (known.job, known.records, known.files) == (make("a"), 7, 1)
        assert transforms.folder("a").root != training.folder("a").root
        for claim in claims:
            claim.release()


def test_names_that_are_taken_or_not_there(tmp_path: Path) -> None:
    with TransformJobs(tmp_path) as jobs:
        claim = jobs.create(make("one"), threads=1, demand=Demand())
        with pytest.raises(TransformJobExists, match="'one' exists already"):
            jobs.create(make("one"), threads=1, demand=Demand())
        with pytest.raises(TransformJobNotFound, match="did you mean 'one'"):
            jobs.describe("onee")
        with pytest.raises(InvalidJob, match="expected one of InProgress"):
            jobs.list(status="Done")
        with TrainingJobs(tmp_path) as training, pytest.raises(TrainingJobNotFound):
            training.describe("one")
        claim.release()
        # Nobody runs it any more.
        assert jobs.describe("one").failure_reason.startswith("the process that ran this job ended")
