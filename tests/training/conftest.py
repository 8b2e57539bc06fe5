"""What the tests of the training package share: a small problem, and jobs on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.flights import make_flights
from training import Channel, ResourceConfig, StoppingCondition, TrainingJob


@pytest.fixture(scope="session")
def flights() -> pa.Table:
    return make_flights(600, seed=1)


@pytest.fixture(scope="session")
def later_flights() -> pa.Table:
    return make_flights(300, seed=2)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def flight_files(tmp_path: Path, flights: pa.Table, later_flights: pa.Table) -> dict[str, Path]:
    paths = {"train": tmp_path / "train.parquet", "validation": tmp_path / "validation.parquet"}
    pq.write_table(flights, paths["train"])
    pq.write_table(later_flights, paths["validation"])
    return paths


@pytest.fixture
def make_job(flight_files: dict[str, Path]) -> Callable[..., TrainingJob]:
    def make(
        name: str = "flights-1",
        *,
        hyper_parameters: Mapping[str, Any] | None = None,
        channels: list[Channel] | None = None,
        max_runtime_s: int = 0,
        threads: int = 1,
        **fields: Any,
    ) -> TrainingJob:
        return TrainingJob(
            training_job_name=name,
            algorithm_name="xgboost",
            hyper_parameters={
                "num_round": 20,
                "objective": "binary:logistic",
                "eval_metric": "auc",
                "max_depth": 3,
                **(hyper_parameters or {}),
            },
            input_data_config=channels
            or [
                Channel(channel_name=channel, path=str(path), label="late")
                for channel, path in flight_files.items()
            ],
            stopping_condition=StoppingCondition(max_runtime_in_seconds=max_runtime_s),
            resource_config=ResourceConfig(threads=threads, device="cpu"),
            **fields,
        )

    return make
