"""Fits that are killed with their runner at some moment, and go on elsewhere."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest

import training
from tests.training.case import Case, case_of
from training import (
    Channel,
    CheckpointConfig,
    ResourceConfig,
    RetryStrategy,
    TrainingJob,
    TrainingJobDescription,
    TrainingJobs,
    TrainingJobStatus,
)
from training.algorithms import find_algorithm
from training.errors import InvalidJob
from training.jobs.budget import Budget
from training.jobs.program import find_program

ROOT: Final = Path(training.__file__).parents[1]
RUNNER: Final = """
import json, sys
from training import TrainingJob, submit
jobs = [submit(sys.argv[1], TrainingJob.from_json(one)) for one in json.loads(sys.argv[2])]
for job in jobs:
    job.wait()
"""
# Some hundred steps each, so that none is done before it is killed.
LONGER: Final[Mapping[str, Mapping[str, Any]]] = {
    "factorization-machines": {"epochs": 15},
    "ipinsights": {"epochs": 25},
    "kmeans": {"mini_batch_size": 4},
    "linear-learner": {"epochs": 60, "early_stopping_patience": 60},
    "ntm": {"epochs": 40, "num_patience_epochs": 40},
    "object2vec": {"epochs": 12, "early_stopping_patience": 5, "early_stopping_tolerance": 1e-6},
}
IN_TIME_S: Final = 60.0


def longer(case: Case) -> dict[str, Any]:
    return {**case.values, **LONGER[case.name]}


def job_of(case: Case, folder: Path) -> TrainingJob:
    path = folder / f"{case.name}.parquet"
    pq.write_table(case.train(), path)
    return TrainingJob(
        training_job_name=case.name,
        algorithm_name=case.name,
        hyper_parameters=longer(case),
        input_data_config=[Channel(channel_name="train", path=str(path), label=case.label)],
        resource_config=ResourceConfig(threads=1, device="cpu"),
        checkpoint_config=CheckpointConfig(interval_in_seconds=0),
        retry_strategy=RetryStrategy(maximum_retry_attempts=1),
    )


def halt(home: Path, names: set[str]) -> None:
    """Halt each job's process at some moment after its first checkpoint."""
    until = time.monotonic() + IN_TIME_S
    at: dict[str, float] = {}
    while names:
        assert time.monotonic() < until, f"no checkpoint of {names} in time"
        for name in sorted(names):
            root = home / "jobs" / name
            if name not in at:
                kept = root / "checkpoints"
                if kept.is_dir() and any(not one.name.startswith(".") for one in kept.iterdir()):
                    at[name] = time.monotonic() + random.random() * 0.2
            elif time.monotonic() > at[name]:
                noted = json.loads((root / ".processes").read_text(encoding="utf-8"))
                for number in noted["processes"]:
                    os.kill(int(number), signal.SIGSTOP)
                names.remove(name)
        time.sleep(0.005)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, TrainingJobDescription]:
    """The jobs of all these algorithms, run by a process that is killed, then to their ends."""
    folder = tmp_path_factory.mktemp("resumed")
    home = folder / "home"
    cases = [
        case_of(name) for name in LONGER if all(map(importable, find_algorithm(name).libraries))
    ]
    asked = json.dumps([job_of(case, folder).to_json() for case in cases])
    with TrainingJobs(home) as jobs:
        jobs.set_budget(Budget(cores=len(cases), memory_mb=1000, gpus=0))
        runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(home), asked], cwd=ROOT)
        try:
            halt(home, {case.name for case in cases})
            assert runner.poll() is None, "the runner has ended by itself"
            ended = [case.name for case in cases if jobs.has_ended(case.name)]
            assert not ended, f"{ended} ended before they were killed"
        finally:
            runner.kill()
            runner.wait()
        # Who looks finds the jobs without a runner, ends what is left of them and lets them go on.
        jobs.list()
        until = time.monotonic() + IN_TIME_S
        while not all(jobs.has_ended(case.name) for case in cases):
            assert time.monotonic() < until, "the jobs did not end in time"
            time.sleep(0.05)
        for case in cases:
            log = list(jobs.logs(case.name))
            assert any("going on from" in line for line in log), (case.name, log)
        return {case.name: jobs.describe(case.name) for case in cases}


def importable(library: str) -> bool:
    return bool(pytest.importorskip(library))


@pytest.mark.parametrize("name", LONGER)
def test_a_fit_killed_at_any_moment_ends_as_the_undisturbed_one(
    name: str, resumed: Mapping[str, TrainingJobDescription], tmp_path: Path
) -> None:
    known = resumed[name]
    assert known.status is TrainingJobStatus.COMPLETED, known.failure_reason
    assert known.model_artifacts is not None
    case = case_of(name)
    case.fit(values=longer(case)).save(tmp_path)
    expected = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert expected
    for file, content in expected.items():
        assert (known.model_artifacts / file).read_bytes() == content, file


@pytest.mark.parametrize(
    ("name", "more", "reason"),
    [
        ("knn", {}, "it keeps no checkpoints: an attempt begins anew, to the same model"),
        ("randomcutforest", {}, "it keeps no checkpoints"),
        (
            "linear-learner",
            {"optimizer": "lbfgs", "mini_batch_size": 1000},
            "it keeps no checkpoints",
        ),
        ("script", {}, "a program decides itself when it writes a checkpoint"),
    ],
)
def test_an_interval_is_refused_where_it_would_do_nothing(
    name: str, more: Mapping[str, Any], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "train.py").touch()
    values = (
        training.script_hyperparameters(tmp_path / "train.py")
        if name == "script"
        else case_of(name).values
    )
    job = TrainingJob(
        training_job_name="any",
        algorithm_name=name,
        hyper_parameters={**values, **more},
        input_data_config=[Channel(channel_name="train", path=str(tmp_path))],
        checkpoint_config=CheckpointConfig(interval_in_seconds=5),
    )
    with pytest.raises(InvalidJob, match=f"{name}: IntervalInSeconds=5, and {reason}"):
        find_program(job)
