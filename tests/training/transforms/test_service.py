"""Transform jobs over gRPC, and by the command line."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from tests.inprocess import run_command
from training import (
    DataProcessing,
    InvalidJob,
    ModelClientConfig,
    ResourceConfig,
    TrainingClient,
    TransformInput,
    TransformJob,
    TransformJobExists,
    TransformJobNotFound,
    TransformJobs,
    TransformOutput,
    TransformService,
    connect,
)
from training.transforms import convert
from training.v1 import transform_pb2 as pb
from training.v1 import transform_pb2_grpc


@pytest.fixture
def client(home: Path) -> Iterator[TrainingClient]:
    """A client of a server that runs in a thread."""
    ready, ports = threading.Event(), []
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def serve() -> None:
        server = grpc.aio.server()
        service = TransformService(home)
        transform_pb2_grpc.add_BatchTransformServicer_to_server(service, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        ready.set()
        await stopping.wait()
        await asyncio.to_thread(service.close)
        await server.stop(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    with connect(f"127.0.0.1:{ports[0]}") as client:
        yield client
    loop.call_soon_threadsafe(stopping.set)
    thread.join(30)
    loop.close()


def make(tmp_path: Path, **fields: object) -> TransformJob:
    job = TransformJob(
        transform_job_name="t",
        model_name="m",
        transform_input=TransformInput(path=str(tmp_path / "a.csv")),
        transform_output=TransformOutput(path=str(tmp_path / "out"), accept="text/csv"),
        transform_resources=ResourceConfig(threads=1, device="cpu"),
        tags={"team": "ops"},
        environment={"SAGEMAKER_INFERENCE_OUTPUT": "predicted_label"},
    )
    return replace(job, **fields)


def test_a_job_on_a_server_from_submission_to_answers(
    client: TrainingClient, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("3.5,1\n21,30\n")
    job, there = make(tmp_path), client.transforms
    assert there.submit(job) == "t"
    result = there.wait("t", poll_s=0.05).check()
    assert (result.records, result.files, result.output) == (2, 1, str(tmp_path / "out"))
    assert (tmp_path / "out" / "a.csv.out").read_text() == "0\n1\n"
    with TransformJobs(home) as jobs:
        assert there.describe("t") == jobs.describe("t")
        assert list(there.list(name_contains="t", status="Completed")) == jobs.list()
    with pytest.raises(TransformJobExists):
        there.submit(job)
    with pytest.raises(TransformJobNotFound, match="'u' does not exist"):
        there.stop("u")
    with pytest.raises(InvalidJob, match="'LD_PRELOAD': this server lets callers set"):
        there.submit(replace(job, transform_job_name="u", environment={"LD_PRELOAD": "x"}))


def test_every_field_travels(tmp_path: Path) -> None:
    job = make(
        tmp_path,
        transform_input=TransformInput(feature_group="g", table_version=0),
        transform_output=TransformOutput(
            feature_group="h", features={"a": "$.b"}, event_time="2026-01-01T00:00:00Z"
        ),
        data_processing=DataProcessing(input_filter="$.a", output_filter="$.b"),
        batch_strategy="SingleRecord",
        max_payload_in_mb=0,
        max_concurrent_transforms=3,
        model_client_config=ModelClientConfig(timeout_seconds=5, max_retries=0),
        transform_resources=ResourceConfig(threads=2, device="cpu", instance_count=4),
    )
    files = make(
        tmp_path,
        transform_input=TransformInput(
            path="p", content_type="text/csv", split_type="Line", compression="Gzip"
        ),
        transform_output=TransformOutput(path="o", assemble_with="Line"),
    )
    for one in (job, files):
        assert convert.job_from_message(convert.job_to_message(one)) == one
        assert TransformJob.from_json(json.loads(json.dumps(one.to_json()))) == one
    least = pb.CreateTransformJobRequest(transform_job_name="t", model_name="m")
    least.transform_input.path = "a"
    least.transform_output.path = "b"
    assert convert.job_from_message(least) == TransformJob(
        transform_job_name="t",
        model_name="m",
        transform_input=TransformInput(path="a"),
        transform_output=TransformOutput(path="b"),
    )


def test_the_commands(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")

    def run(*words: object) -> str:
        ended = run_command("transform", *words, "--home", home)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    options = ("--input", tmp_path / "a.csv", "--out", tmp_path / "out", "--threads", 1)
    said = run("run", "s", "--job", "t", "--join", *options)
    assert "2 records, 1 file: " in said
    assert (tmp_path / "out" / "a.csv.out").read_text() == "1,2,3.0\n3,4,7.0\n"
    assert "Completed" in run("list")
    described = json.loads(run("describe", "t", "--json"))
    assert (described["TransformJobStatus"], described["Records"]) == ("Completed", 2)
    run("stop", "t")
    run("logs", "t")
    (tmp_path / "job.json").write_text(
        json.dumps(TransformJob.from_json(_definition(described)).to_json() | {"ModelName": "none"})
    )
    ended = run_command(
        "transform", "run", "--definition", tmp_path / "job.json", "--home", home, "--json"
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "training job 'none' does not exist" in ended.stderr
    ended = run_command("transform", "run", "s", "--definition", tmp_path / "job.json")
    assert ended.returncode == 2
    (tmp_path / "a.csv").write_text("1,x\n")
    ended = run_command("transform", "run", "s", *options, "--home", home, "--json")
    assert ended.returncode == 1
    assert json.loads(ended.stdout)["status"] == "Failed"
    assert "a.csv, record 1: expected text/csv" in ended.stderr


def _definition(described: dict[str, object]) -> dict[str, object]:
    keys = TransformJob._KEYS
    return {name: value for name, value in described.items() if name in keys}
