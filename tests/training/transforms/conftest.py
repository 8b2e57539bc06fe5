"""What the tests of transform jobs share: a home with a small model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.programs import program_maker
from training import Channel, ResourceConfig, TrainingJob, train

ROWS = pa.table({"late": [0, 1] * 20, "wind": [3.5, 21.0] * 20, "delay": [1.0, 30.0] * 20})


SCRIPT = """
import os

def model_fn(model_dir):
    return lambda rows: rows.sum(axis=1)

if __name__ == "__main__":
    open(os.path.join(os.environ["SM_MODEL_DIR"], "none"), "w").close()
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the job `m` has made a model of wind and delay, and `s` one of a script."""
    folder = tmp_path_factory.mktemp("trained")
    pq.write_table(ROWS, folder / "rows.parquet")
    job = TrainingJob(
        training_job_name="m",
        algorithm_name="xgboost",
        hyper_parameters={"num_round": 3, "objective": "binary:logistic"},
        input_data_config=[
            Channel(channel_name="train", path=str(folder / "rows.parquet"), label="late")
        ],
        resource_config=ResourceConfig(threads=1, device="cpu"),
    )
    train(folder / "home", job).check()
    train(folder / "home", program_maker(folder)(SCRIPT, "s")).check()
    return folder / "home"


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "home", symlinks=True)
    return tmp_path / "home"
