from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.jobs.environment import (
    arguments,
    sagemaker_variables,
    split_hyperparameters,
    thread_variables,
)
from training.jobs.folder import JobFolder
from training.jobs.job import Channel, TrainingJob

MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "opt" / "ml")
    made.create()
    return made


def variables(folder: JobFolder, job: TrainingJob) -> dict[str, str]:
    folder.write_config(job)
    return sagemaker_variables(job, folder, cores=2, gpus=0)


def test_the_folder_is_the_containers(folder: JobFolder) -> None:
    found = {p.relative_to(folder.root).as_posix() for p in folder.root.rglob("*") if p.is_dir()}
    assert found == {
        *("input", "input/config", "input/data", "model", "output", "output/data"),
        *("checkpoints", "code"),
    }


def test_the_configuration_files(folder: JobFolder, make_job: MakeJob) -> None:
    job = make_job(
        channels=[
            Channel(channel_name="train", path="/x.csv", content_type="text/csv"),
            Channel(channel_name="validation", path="/y.parquet", input_mode="FastFile"),
        ]
    )
    folder.write_config(job)

    def read(name: str) -> Any:
        return json.loads((folder.config / name).read_text())

    assert read("hyperparameters.json") == {
        "num_round": "20",
        "objective": "binary:logistic",
        "eval_metric": "auc",
        "max_depth": "3",
    }
    assert read("inputdataconfig.json") == {
        "train": {
            "ContentType": "text/csv",
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        },
        "validation": {
            "TrainingInputMode": "FastFile",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        },
    }
    resources = read("resourceconfig.json")
    assert set(resources) == {
        *("current_host", "hosts", "network_interface_name"),
        *("current_instance_type", "current_group_name", "instance_groups"),
    }
    assert resources["hosts"] == ["algo-1"]


def test_the_failure_is_the_first_1024_characters(folder: JobFolder) -> None:
    assert folder.failure() == ""
    (folder.output / "failure").write_text("ü" * 2000)
    assert folder.failure() == "ü" * 1024


def test_the_last_line_of_the_log(folder: JobFolder) -> None:
    assert folder.last_line() == ""
    folder.log.write_bytes(b"first\n" * 5000 + b"ValueError: \xff\n\n")
    assert folder.last_line() == "ValueError: �"


def test_what_was_written_is_packed_and_equal_files_give_equal_archives(
    folder: JobFolder,
) -> None:
    (folder.model / "deep").mkdir()
    (folder.model / "deep" / "weights").write_bytes(b"w")
    (folder.model / "a").write_bytes(b"a")
    folder.collect_model()
    archive = folder.root / "model.tar.gz"
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["a", "deep/weights"]
    first = archive.read_bytes()
    os.utime(folder.model / "a", (1, 1))
    folder.collect_model()
    folder.collect_output()
    assert archive.read_bytes() == first
    assert not (folder.root / "output.tar.gz").exists()


def test_variables_name_the_folders_channels_and_hosts(
    folder: JobFolder, make_job: MakeJob
) -> None:
    got = variables(folder, make_job())
    root = str(folder.root)
    assert got["SM_MODEL_DIR"] == f"{root}/model"
    assert got["SM_OUTPUT_DIR"] == f"{root}/output"
    assert got["SM_OUTPUT_DATA_DIR"] == f"{root}/output/data"
    assert got["SM_INPUT_DIR"] == f"{root}/input"
    assert got["SM_INPUT_CONFIG_DIR"] == f"{root}/input/config"
    assert got["SM_CHANNELS"] == '["train","validation"]'
    assert got["SM_CHANNEL_TRAIN"] == f"{root}/input/data/train"
    assert got["SM_HOSTS"] == '["algo-1"]'
    assert got["SM_CURRENT_HOST"] == "algo-1"
    assert got["SM_NUM_CPUS"] == "2"
    assert got["SM_IS_HETERO"] == "false"
    assert got["TRAINING_JOB_NAME"] == "flights-1"
    assert got["TRAINING_JOB_ARN"].endswith(":training-job/flights-1")
    assert got["SAGEMAKER_BASE_DIR"] == root


def test_every_variable_of_the_contract_is_there(folder: JobFolder, make_job: MakeJob) -> None:
    names = (
        "MODEL_DIR OUTPUT_DIR OUTPUT_DATA_DIR OUTPUT_INTERMEDIATE_DIR INPUT_DIR INPUT_CONFIG_DIR "
        "CHANNELS HPS CURRENT_HOST HOSTS NUM_GPUS NUM_CPUS NUM_NEURONS USER_ARGS USER_ENTRY_POINT "
        "MODULE_NAME MODULE_DIR LOG_LEVEL NETWORK_INTERFACE_NAME RESOURCE_CONFIG INPUT_DATA_CONFIG "
        "FRAMEWORK_PARAMS FRAMEWORK_MODULE TRAINING_ENV CURRENT_INSTANCE_TYPE "
        "CURRENT_INSTANCE_GROUP CURRENT_INSTANCE_GROUP_HOSTS INSTANCE_GROUPS INSTANCE_GROUPS_DICT "
        "DISTRIBUTION_INSTANCE_GROUPS IS_HETERO"
    )
    got = variables(folder, make_job())
    assert {f"SM_{name}" for name in names.split()} <= set(got)


def test_names_are_upper_case_with_hyphens_kept_and_values_compact_json(
    folder: JobFolder, make_job: MakeJob
) -> None:
    got = variables(
        folder,
        make_job(
            hyper_parameters={
                "batch-size": "64",
                "flip": "true",
                "name": "resnet",
                "nothing": "null",
                "sizes": '{"b": 2, "a": [1, 2]}',
                "broken": "{not json",
            }
        ),
    )
    assert got["SM_HP_BATCH-SIZE"] == "64"
    assert got["SM_HP_FLIP"] == "true"
    assert got["SM_HP_NAME"] == "resnet"
    assert got["SM_HP_NOTHING"] == ""
    assert got["SM_HP_SIZES"] == '{"a":[1,2],"b":2}'
    assert got["SM_HP_BROKEN"] == "{not json"
    assert json.loads(got["SM_HPS"])["batch-size"] == 64
    assert json.loads(got["SM_TRAINING_ENV"])["hyperparameters"]["flip"] is True


def test_arguments_are_sorted_and_python_text() -> None:
    words = arguments({"lr": 0.1, "b": 1, "flip": True, "off": None, "o": {"k": "v", "k2": 2}})
    assert words == [*("-b", "1", "--flip", "True", "--lr", "0.1", "-o", "k=v,k2=2", "--off", "")]


def test_sagemakers_own_hyperparameters_are_not_the_users(
    folder: JobFolder, make_job: MakeJob
) -> None:
    given = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": "/code",
        "sagemaker_container_log_level": "10",
        "sagemaker_region": "eu-central-1",
        "sagemaker_mpi_enabled": "true",
        "_tuning_objective_metric": "validation:auc",
        "epochs": "3",
    }
    user, framework, consumed = split_hyperparameters(given)
    assert user == {"epochs": 3}
    assert framework == {"sagemaker_mpi_enabled": True}
    assert len(consumed) == 5
    got = variables(folder, make_job(hyper_parameters=given))
    assert got["SM_USER_ENTRY_POINT"] == "train.py"
    assert got["SM_MODULE_NAME"] == "train"
    assert got["SM_MODULE_DIR"] == "/code"
    assert got["SM_LOG_LEVEL"] == "10"
    assert got["SM_FRAMEWORK_PARAMS"] == '{"sagemaker_mpi_enabled":true}'
    assert "SM_HP_SAGEMAKER_PROGRAM" not in got


def test_threads_are_set_and_wait_asleep_only_where_it_is_crowded() -> None:
    assert thread_variables(3, crowded=False)["OMP_NUM_THREADS"] == "3"
    assert "OMP_WAIT_POLICY" not in thread_variables(3, crowded=False)
    assert thread_variables(3, crowded=True)["OMP_WAIT_POLICY"] == "PASSIVE"
