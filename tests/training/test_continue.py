"""Jobs that go on from a model, jobs whose test channel is measured, and the report of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.training.flights import make_full_flights
from training import Channel, JobResult, TrainingJob, TrainingJobs, train
from training.errors import InvalidJob

pytest.importorskip("torch")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / f"{name}.parquet" for name in ("train", "test")}
    for seed, path in enumerate(paths.values()):
        pq.write_table(make_full_flights(400, seed=seed), path)
    return paths


def run(home: Path, name: str, files: dict[str, Any], **values: Any) -> JobResult:
    return train(
        home,
        TrainingJob(
            training_job_name=name,
            algorithm_name="linear-learner",
            hyper_parameters={
                "predictor_type": "binary_classifier",
                "num_models": 1,
                "epochs": 1,
                **values,
            },
            input_data_config=[
                Channel(channel_name=channel, path=str(path), label="late")
                for channel, path in files.items()
            ],
        ),
    )


def test_a_job_goes_on_from_the_model_of_another(home: Path, files: dict[str, Path]) -> None:
    first = run(home, "first", files, epochs=30, mini_batch_size=50)
    assert first.model is not None, first.failure_reason
    assert first.metrics["test:roc_auc_score"] > 0.75
    short = {"learning_rate": 1e-4}
    anew = run(home, "anew", files, **short)
    again = run(home, "again", {**files, "model": first.model}, **short)
    assert again.failure_reason == ""
    assert again.metrics["train:objective_loss"] < anew.metrics["train:objective_loss"] - 0.05
    with TrainingJobs(home) as jobs:
        report = jobs.folder("again").output / "data" / "report.html"
    page = report.read_text(encoding="utf-8")
    assert "ROC on test, area 0." in page
    assert "Importance of inputs" in page


def test_an_unknown_channel_is_refused_with_the_nearest(home: Path, files: dict[str, Path]) -> None:
    job = TrainingJob(
        training_job_name="another",
        algorithm_name="linear-learner",
        hyper_parameters={"predictor_type": "binary_classifier"},
        input_data_config=[
            Channel(channel_name="train", path=str(files["train"]), label="late"),
            Channel(channel_name="modl", path=str(files["test"])),
        ],
    )
    with pytest.raises(InvalidJob, match="there is no channel 'modl'; did you mean 'model'"):
        train(home, job)
