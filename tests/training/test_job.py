from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest

from training.errors import InvalidJob
from training.jobs.job import (
    Channel,
    CheckpointConfig,
    MetricDefinition,
    ResourceConfig,
    RetryStrategy,
    SecondaryStatus,
    StoppingCondition,
    TrainingJob,
    TrainingJobStatus,
    job_name,
)

TRAIN = Channel(channel_name="train", path="/data/train.parquet")


def job(**fields: Any) -> TrainingJob:
    return TrainingJob(
        **{
            "training_job_name": "flights-1",
            "algorithm_name": "xgboost",
            "input_data_config": [TRAIN],
            **fields,
        }
    )


def test_a_job_survives_the_way_through_json() -> None:
    full = job(
        hyper_parameters={"num_round": 20, "eta": 0.1, "eval_metric": ["auc", "error"]},
        input_data_config=[
            Channel(
                channel_name="train",
                path="/data/x.csv",
                content_type="text/csv",
                label="late",
                features=("wind", "delay"),
                input_mode="FastFile",
            ),
            Channel(channel_name="validation", dataset="ab" * 32),
            Channel(
                channel_name="listed",
                path="/data/manifest.json",
                input_mode="Pipe",
                shuffle_seed=0,
                distribution="ShardedByS3Key",
                compression="Gzip",
                data_type="ManifestFile",
            ),
            Channel(
                channel_name="augmented",
                path="/data/x.manifest",
                input_mode="Pipe",
                data_type="AugmentedManifestFile",
                attributes=("source-ref", "class"),
                record_wrapper="RecordIO",
            ),
        ],
        stopping_condition=StoppingCondition(
            max_runtime_in_seconds=60, max_wait_time_in_seconds=90
        ),
        resource_config=ResourceConfig(
            threads=2, device="cpu", instance_count=2, memory_mb=500, precision="bf16"
        ),
        checkpoint_config=CheckpointConfig(
            path="/kept", local_path="/opt/ml/checkpoints/a", interval_in_seconds=0.5
        ),
        retry_strategy=RetryStrategy(maximum_retry_attempts=3),
        metric_definitions=[MetricDefinition(name="loss", regex="loss=(.*)")],
        environment={"STAGE": "test"},
        tags={"team": "ops"},
    )
    assert TrainingJob.from_json(json.loads(json.dumps(full.to_json()))) == full


def test_hyperparameters_become_text() -> None:
    made = job(hyper_parameters={"num_round": 20, "eta": 0.1, "keep": True, "m": ["a", "b"]})
    assert dict(made.hyper_parameters) == {
        "num_round": "20",
        "eta": "0.1",
        "keep": "true",
        "m": "a,b",
    }


@pytest.mark.parametrize(
    ("fields", "field", "expected"),
    [
        ({"training_job_name": "under_score"}, "TrainingJobName", "letters, digits and hyphens"),
        ({"training_job_name": "x" * 64}, "TrainingJobName", "1 to 63"),
        ({"training_job_name": "ends-"}, "TrainingJobName", "begins and ends"),
        ({"training_job_name": "../up"}, "TrainingJobName", "letters, digits and hyphens"),
        ({"algorithm_name": ""}, "AlgorithmName", "1 to 170"),
        ({"input_data_config": []}, "InputDataConfig", "1 to 20 channels, got 0"),
        ({"input_data_config": [TRAIN, TRAIN]}, "InputDataConfig", "'train' is given twice"),
        ({"hyper_parameters": {f"h{i}": 1 for i in range(101)}}, "HyperParameters", "at most 100"),
        ({"hyper_parameters": {"n" * 257: 1}}, "HyperParameters", "1 to 256"),
        ({"hyper_parameters": {"n": "v" * 2501}}, "HyperParameters", "at most 2500"),
        ({"environment": {"1X": "y"}}, "Environment", "letters, digits and '_'"),
        ({"environment": {"X": "y" * 513}}, "Environment", "at most 512"),
        (
            {"metric_definitions": [MetricDefinition(name="m", regex="(.)")] * 41},
            "MetricDefinitions",
            "at most 40 metrics, got 41",
        ),
        ({"training_input_mode": "Stream"}, "InputMode", "use one of File, FastFile, Pipe"),
    ],
)
def test_a_job_that_breaks_a_rule_is_refused_by_field(
    fields: dict[str, Any], field: str, expected: str
) -> None:
    with pytest.raises(InvalidJob, match=expected) as caught:
        job(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"channel_name": "tr ain", "path": "x"}, "1 to 64 letters, digits"),
        ({"channel_name": "train"}, "exactly one of path and dataset"),
        ({"channel_name": "train", "path": "x", "dataset": "y"}, "exactly one of path and"),
        (
            {"channel_name": "train", "path": "x", "input_mode": "Fastfile"},
            "did you mean 'FastFile'",
        ),
        ({"channel_name": "train", "path": "x", "content_type": "t" * 257}, "at most 256"),
        ({"channel_name": "train", "path": "x", "distribution": "Sharded"}, "distribution 'Shard"),
        ({"channel_name": "train", "path": "x", "compression": "Zip"}, "use one of None, Gzip"),
        ({"channel_name": "train", "path": "x", "shuffle_seed": -1}, "a seed of 0 to 922"),
        ({"channel_name": "train", "path": "s3://b/x"}, "is not on this machine; copy it here"),
        (
            {"channel_name": "train", "dataset": "ab", "data_type": "ManifestFile"},
            "a manifest is a file, so give its path",
        ),
    ],
)
def test_a_channel_that_breaks_a_rule_is_refused(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidJob, match=expected):
        Channel(**fields)


def test_resources_and_limits_are_checked() -> None:
    with pytest.raises(InvalidJob, match="threads >= 0, got -1"):
        ResourceConfig(threads=-1)
    with pytest.raises(InvalidJob, match="expected auto, cpu, cuda"):
        ResourceConfig(device="tpu")
    with pytest.raises(InvalidJob, match="maximum run time >= 0"):
        StoppingCondition(max_runtime_in_seconds=-1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train=/a/b.parquet", Channel(channel_name="train", path="/a/b.parquet")),
        (
            "train=x.dat,content_type=text/csv;label_size=1,label=late,features=a+b",
            Channel(
                channel_name="train",
                path="x.dat",
                content_type="text/csv;label_size=1",
                label="late",
                features=("a", "b"),
            ),
        ),
        (
            "train=x.manifest,data_type=AugmentedManifestFile,attributes=source-ref+class,"
            "input_mode=Pipe,record_wrapper=RecordIO",
            Channel(
                channel_name="train",
                path="x.manifest",
                data_type="AugmentedManifestFile",
                attributes=("source-ref", "class"),
                input_mode="Pipe",
                record_wrapper="RecordIO",
            ),
        ),
        ("train=" + "0f" * 32, Channel(channel_name="train", dataset="0f" * 32)),
    ],
)
def test_a_channel_on_the_command_line(text: str, expected: Channel) -> None:
    assert Channel.parse(text) == expected


@pytest.mark.parametrize("text", ["train", "=x", "train=x,labl=late", "train=x,label"])
def test_another_form_of_a_channel_is_refused(text: str) -> None:
    with pytest.raises(InvalidJob, match=r"expected NAME=PATH|none of content_type, label"):
        Channel.parse(text)


def test_an_unknown_field_is_refused_with_the_nearest() -> None:
    body = job().to_json() | {"StopingCondition": {}}
    with pytest.raises(InvalidJob, match="'StopingCondition'; did you mean 'StoppingCondition'"):
        TrainingJob.from_json(body)
    with pytest.raises(InvalidJob, match="DataSource: unknown field 'S3Prefx'"):
        Channel.from_json({"ChannelName": "train", "DataSource": {"S3Prefx": "x"}})


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: StoppingCondition(max_wait_time_in_seconds=5), "0 or at least MaxRuntime"),
        (lambda: ResourceConfig(instance_count=0), "InstanceCount: expected 1 to 64 hosts, got 0"),
        (
            lambda: ResourceConfig(precision="bf15"),
            "precision 'bf15' is not available; did you mean 'bf16'",
        ),
        (lambda: ResourceConfig(memory_mb=-1), "MemoryInMB: expected megabytes >= 0"),
        (lambda: RetryStrategy(maximum_retry_attempts=31), "expected 1 to 30 attempts, got 31"),
        (lambda: CheckpointConfig(), "S3Uri: expected a folder of this machine, got ''"),
        (lambda: CheckpointConfig(interval_in_seconds=-1), "seconds >= 0, got -1"),
        (lambda: CheckpointConfig(interval_in_seconds=float("nan")), "seconds >= 0, got nan"),
        (lambda: CheckpointConfig(path="s3://b/x"), "S3Uri: expected a folder of this machine"),
        (lambda: CheckpointConfig(path="/x", local_path="/tmp/x"), "LocalPath: expected a folder"),
        (lambda: CheckpointConfig(path="/x", local_path="../x"), "LocalPath: expected a folder"),
        (lambda: MetricDefinition(name="m", regex="loss"), "has no group; put the value in paren"),
        (lambda: MetricDefinition(name="m", regex="(loss"), "is no regular expression: missing"),
        (lambda: MetricDefinition(name="m", regex="(.)" * 200), "of 1 to 500 characters"),
        (lambda: MetricDefinition(name="", regex="(.)"), "a name of 1 to 255 characters"),
    ],
)
def test_an_execution_that_breaks_a_rule_is_refused(
    make: Callable[[], object], expected: str
) -> None:
    with pytest.raises(InvalidJob, match=expected):
        make()


def test_a_channel_of_sagemakers_form_is_read_where_its_uri_is_a_path() -> None:
    source = {"S3DataType": "ManifestFile", "S3Uri": "file:///data/manifest.json"}
    body = {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": source | {"S3DataDistributionType": "ShardedByS3Key"}},
        "RecordWrapperType": "None",
        "ShuffleConfig": {"Seed": 7},
    }
    assert Channel.from_json(body) == Channel(
        channel_name="train",
        path="/data/manifest.json",
        data_type="ManifestFile",
        distribution="ShardedByS3Key",
        shuffle_seed=7,
    )
    assert Channel.parse("train=x,shuffle_seed=7").shuffle_seed == 7
    with pytest.raises(InvalidJob, match="shuffle_seed: expected a whole number, got 'x'"):
        Channel.parse("train=x,shuffle_seed=x")


def test_a_metric_is_the_first_group_where_it_is_a_number() -> None:
    found = MetricDefinition(name="m", regex=r"loss=(\S+)")
    assert found.value("epoch=1 loss=2.5e-1") == 0.25
    assert found.value("loss=much") is None
    assert found.value("no such thing") is None


def test_every_secondary_status_has_a_status() -> None:
    assert {status.primary for status in SecondaryStatus} == set(TrainingJobStatus)
    assert SecondaryStatus.UPLOADING.primary is TrainingJobStatus.IN_PROGRESS
    assert [status.is_final for status in TrainingJobStatus] == [False, True, True, False, True]


def test_a_made_job_name_is_a_valid_one() -> None:
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    for algorithm in ("xgboost", "linear_learner", "a" * 100, "-"):
        job(training_job_name=job_name(algorithm, now=now))


def test_a_channel_as_sagemaker_writes_it_is_read() -> None:
    body = {
        "ChannelName": "train",
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "AugmentedManifestFile",
                "S3Uri": "/data/x.manifest",
                "S3DataDistributionType": "ShardedByS3Key",
                "AttributeNames": ["source-ref", "class"],
            }
        },
        "ContentType": "application/x-recordio",
        "RecordWrapperType": "RecordIO",
        "CompressionType": "None",
        "InputMode": "Pipe",
        "ShuffleConfig": {"Seed": 7},
    }
    read = Channel.from_json(body)
    assert (read.attributes, read.record_wrapper) == (("source-ref", "class"), "RecordIO")
    assert Channel.from_json(read.to_json()) == read


def test_a_file_system_is_a_folder_of_this_machine() -> None:
    mount = {
        "FileSystemId": "fs-1",
        "FileSystemType": "EFS",
        "FileSystemAccessMode": "ro",
        "DirectoryPath": "/data/flights",
    }
    body = {"ChannelName": "train", "DataSource": {"FileSystemDataSource": mount}}
    assert Channel.from_json(body) == Channel(channel_name="train", path="/data/flights")
    with pytest.raises(InvalidJob, match=r"FileSystemAccessMode: .* expected 'ro', got 'rw'"):
        Channel.from_json(
            body | {"DataSource": {"FileSystemDataSource": mount | {"FileSystemAccessMode": "rw"}}}
        )
    with pytest.raises(InvalidJob, match="is read in input mode File, got 'Pipe'"):
        Channel.from_json(body | {"InputMode": "Pipe"})
