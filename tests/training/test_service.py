"""The gRPC service and its client, over a real connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pyarrow as pa
import pytest

from training import (
    Channel,
    CheckpointConfig,
    MetricDefinition,
    Progress,
    ResourceConfig,
    RetryStrategy,
    SecondaryStatus,
    StoppingCondition,
    TrainingClient,
    TrainingJob,
    TrainingJobs,
    TrainingJobStatus,
    TrainingService,
    connect,
    convert,
    load_model,
    script_hyperparameters,
)
from training.errors import (
    AlgorithmNotFound,
    InternalError,
    InvalidHyperparameter,
    InvalidJob,
    TrainingError,
    TrainingJobExists,
    TrainingJobNotFound,
    TrainingUnavailable,
)
from training.v1 import training_pb2 as pb
from training.v1 import training_pb2_grpc

MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def target(home: Path) -> Iterator[str]:
    """The address of a server that runs in a thread."""
    ready, ports = threading.Event(), []
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def serve() -> None:
        server = grpc.aio.server()
        service = TrainingService(home)
        training_pb2_grpc.add_TrainingServicer_to_server(service, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        ready.set()
        await stopping.wait()
        await asyncio.to_thread(service.close)
        await server.stop(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield f"127.0.0.1:{ports[0]}"
    loop.call_soon_threadsafe(stopping.set)
    thread.join(30)
    loop.close()


@pytest.fixture
def client(target: str) -> Iterator[TrainingClient]:
    with connect(target) as client:
        yield client


def test_a_job_from_submission_to_model(
    client: TrainingClient, home: Path, make_job: MakeJob, later_flights: pa.Table
) -> None:
    seen: list[Progress] = []
    job = make_job(tags={"team": "ops"})
    assert client.submit(job) == "flights-1"
    result = client.wait("flights-1", on_progress=seen.append, poll_s=0.05)
    assert result.check().metrics["validation:auc"] > 0.7
    assert seen[-1].status is SecondaryStatus.COMPLETED
    assert result.model is not None
    assert len(load_model(result.model).predict(later_flights)) == 300
    with TrainingJobs(home) as jobs:
        here = jobs.describe("flights-1")
    there = client.describe("flights-1")
    assert there.job == TrainingJob.from_json(
        here.job.to_json() | {"ResourceConfig": {"Threads": 1, "Device": "cpu"}}
    )
    assert there.final_metrics == here.final_metrics
    assert there.secondary_status_transitions == here.secondary_status_transitions
    assert there.creation_time == here.creation_time
    assert there.training_end_time == here.training_end_time
    assert there.model_digest == here.model_digest == result.digest


def test_a_server_runs_programs_only_where_it_is_told_to(
    client: TrainingClient, tmp_path: Path, make_job: MakeJob
) -> None:
    (tmp_path / "train.py").write_text("print('hello')")
    job = replace(
        make_job(),
        algorithm_name="script",
        hyper_parameters=script_hyperparameters(tmp_path / "train.py"),
    )
    with pytest.raises(InvalidJob, match=r"allows them with `featureline serve --scripts`"):
        client.submit(job)
    service = TrainingService(tmp_path / "other", scripts=True)
    assert service._create(convert.job_to_message(job)).training_job_name == "flights-1"
    service.close()


def test_a_job_is_stopped(client: TrainingClient, make_job: MakeJob) -> None:
    client.submit(make_job(hyper_parameters={"num_round": 10_000_000, "max_depth": 2}))
    client.stop("flights-1")
    assert client.wait("flights-1", poll_s=0.05).status is TrainingJobStatus.STOPPED


def test_a_server_that_ends_stops_its_jobs(home: Path, make_job: MakeJob) -> None:
    service = TrainingService(home)
    service._create(convert.job_to_message(make_job(hyper_parameters={"num_round": 10_000_000})))
    service.close()
    with TrainingJobs(home) as jobs:
        assert jobs.describe("flights-1").status is TrainingJobStatus.STOPPED


def test_jobs_are_listed_over_pages(
    client: TrainingClient, home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.calls._PAGE", 2)
    with TrainingJobs(home) as jobs:
        for number in range(5):
            claim = jobs.create(make_job(f"job-{number}"), threads=1)
            jobs.move(f"job-{number}", SecondaryStatus.COMPLETED)
            claim.release()
    names = [known.job.training_job_name for known in client.list()]
    assert names == [f"job-{number}" for number in range(5)]
    assert [k.job.training_job_name for k in client.list(name_contains="-3")] == ["job-3"]
    assert list(client.list(status="Failed")) == []


@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        (lambda c, j: c.describe("flights-9"), TrainingJobNotFound, "'flights-9' does not exist"),
        (lambda c, j: c.stop("flights-9"), TrainingJobNotFound, "'flights-9' does not exist"),
        (lambda c, j: list(c.list(status="Done")), InvalidJob, "expected one of InProgress"),
        (
            lambda c, j: c.submit(j(hyper_parameters={"eta": 7})),
            InvalidHyperparameter,
            r"eta: expected a number in \[0, 1\], got '7'",
        ),
    ],
)
def test_the_clients_errors_are_those_of_the_embedded_calls(
    client: TrainingClient,
    make_job: MakeJob,
    call: Callable[[TrainingClient, MakeJob], object],
    error: type[TrainingError],
    expected: str,
) -> None:
    with pytest.raises(error, match=expected) as caught:
        call(client, make_job)
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_the_facts_of_an_error_arrive(client: TrainingClient, make_job: MakeJob) -> None:
    with pytest.raises(InvalidHyperparameter) as caught:
        client.submit(make_job(hyper_parameters={"max_dept": 7}))
    assert caught.value.names == ["max_dept"]
    assert caught.value.algorithm == "xgboost"


def test_a_name_is_used_once(client: TrainingClient, make_job: MakeJob) -> None:
    client.submit(make_job())
    with pytest.raises(TrainingJobExists):
        client.submit(make_job())
    client.stop("flights-1")
    client.wait("flights-1", poll_s=0.05)


def test_requests_that_break_a_rule_are_refused(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = training_pb2_grpc.TrainingStub(channel)
        for request in (
            pb.CreateTrainingJobRequest(training_job_name="no_underscore"),
            pb.CreateTrainingJobRequest(
                training_job_name="a",
                algorithm_name="xgboost",
                input_data_config=[pb.Channel(channel_name="train")],
            ),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.CreateTrainingJob(request)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListTrainingJobs(pb.ListTrainingJobsRequest(max_results=1000))
        assert "expected 1 to 100, got 1000" in caught.value.details()


def test_no_server_is_said_with_what_to_do(make_job: MakeJob) -> None:
    with (
        connect("127.0.0.1:1", timeout_s=5) as client,
        pytest.raises(TrainingUnavailable, match=r"no training service answers at 127\.0\.0\.1:1"),
    ):
        client.submit(make_job())


def test_jobs_survive_the_way_through_messages(make_job: MakeJob) -> None:
    job = make_job(
        channels=[
            Channel(channel_name="train", path="x", label="late", features=("a", "b")),
            Channel(channel_name="validation", dataset="ab", content_type="text/csv"),
            Channel(channel_name="test", path="y", input_mode="FastFile"),
            Channel(
                channel_name="listed",
                path="z",
                shuffle_seed=0,
                distribution="ShardedByS3Key",
                compression="Gzip",
                data_type="ManifestFile",
            ),
            Channel(
                channel_name="augmented",
                path="w",
                input_mode="Pipe",
                data_type="AugmentedManifestFile",
                attributes=("source-ref", "class"),
                record_wrapper="RecordIO",
            ),
        ],
        checkpoint_config=CheckpointConfig(path="/kept"),
        retry_strategy=RetryStrategy(maximum_retry_attempts=2),
        metric_definitions=[MetricDefinition(name="loss", regex="loss=(.*)")],
        max_runtime_s=60,
        tags={"team": "ops"},
        environment={"LEVEL": "debug"},
    )
    for asked in (
        job,
        replace(
            job,
            checkpoint_config=CheckpointConfig(interval_in_seconds=0),
            stopping_condition=StoppingCondition(
                max_runtime_in_seconds=60, max_wait_time_in_seconds=90
            ),
            resource_config=ResourceConfig(instance_count=3, memory_mb=100, precision="bf16"),
        ),
    ):
        assert convert.job_from_message(convert.job_to_message(asked)) == asked


def test_what_a_message_leaves_out_has_its_default() -> None:
    made = convert.job_from_message(
        pb.CreateTrainingJobRequest(
            training_job_name="a",
            algorithm_name="xgboost",
            input_data_config=[pb.Channel(channel_name="train", path="x")],
        )
    )
    assert made.stopping_condition.max_runtime_in_seconds == 86_400
    assert made.resource_config == ResourceConfig(threads=0, device="auto")


@pytest.mark.parametrize(
    "error",
    [
        AlgorithmNotFound("no", name="x"),
        InternalError("no"),
        TrainingJobExists("no", name="x", long="y" * 5000),
    ],
)
def test_errors_survive_the_way_through_metadata(error: TrainingError) -> None:
    metadata = dict(convert.error_to_metadata(error))
    again = convert.error_from_metadata(metadata, error.message)
    assert type(again) is type(error)
    assert str(again) == "no"


def test_metadata_of_others_is_no_error_of_ours() -> None:
    assert convert.error_from_metadata({}, "x") is None
    assert type(convert.error_from_metadata({"featureline-error": "nearest"}, "x")) is InternalError
