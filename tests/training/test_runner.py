"""Jobs from start to end, each in its own process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lineage
import training
from training import (
    Channel,
    CheckpointConfig,
    JobResult,
    Progress,
    ResourceConfig,
    RunningJob,
    SecondaryStatus,
    TrainingJob,
    TrainingJobs,
    TrainingJobStatus,
    load_model,
    submit,
    train,
)
from training.device import cuda_device_count
from training.errors import (
    AlgorithmNotFound,
    DeviceUnavailable,
    InvalidHyperparameter,
    InvalidJob,
    ModelAltered,
    ModelNotFound,
    TrainingJobExists,
    TrainingJobFailed,
    TrainingJobNotFound,
)
from training.run import available_cores

MakeJob = Callable[..., TrainingJob]
ENDLESS = {"num_round": 10_000_000, "max_depth": 2, "eval_metric": "error"}
ROOT = Path(training.__file__).parents[1]


def component(home: Path, name: str = "flights-1") -> lineage.Entity:
    with lineage.open(home / "lineage.db") as graph:
        (found,) = graph.find(type="TrainingJob", name=f"{name}-aws-training-job")
    return found


def processes_of(folder: Path) -> list[int]:
    """Find the processes that were started for a job's folder."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("processes are found through /proc")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(folder) in words and (entry / "stat").read_text().split()[2] != "Z":
                found.append(int(entry.name))
    return found


def eventually(check: Callable[[], Any], *, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


@pytest.fixture
def start_endless(home: Path, make_job: MakeJob) -> Iterator[Callable[..., RunningJob]]:
    """Start a job that does not end by itself, and return when it trains."""
    started: list[RunningJob] = []

    def start(*, stop_grace_s: float = 20, **fields: Any) -> RunningJob:
        begun = threading.Event()

        def watch(progress: Progress) -> None:
            if progress.done:
                begun.set()

        job = make_job(hyper_parameters=ENDLESS, **fields)
        running = submit(home, job, on_progress=watch, stop_grace_s=stop_grace_s)
        started.append(running)
        assert begun.wait(20)
        return running

    yield start
    for running in started:
        running.stop()
        running.wait()


@pytest.fixture
def endless(start_endless: Callable[..., RunningJob]) -> RunningJob:
    return start_endless()


# -- a job that completes ---------------------------------------------------------------------


@pytest.fixture
def completed(home: Path, make_job: MakeJob) -> tuple[JobResult, list[Progress]]:
    seen: list[Progress] = []
    return train(home, make_job(), on_progress=seen.append), seen


def test_a_job_completes_with_model_metrics_and_lineage(
    completed: tuple[JobResult, list[Progress]],
    home: Path,
    flight_files: dict[str, Path],
    later_flights: pa.Table,
) -> None:
    result, progress = completed
    assert result.status is TrainingJobStatus.COMPLETED
    assert result.check() is result
    assert result.metrics["validation:auc"] > 0.7
    assert result.model == home / "artifacts" / "models" / result.digest
    assert json.loads(json.dumps(result.to_json()))["status"] == "Completed"

    # What it told on the way.
    states = list(dict.fromkeys(step.status for step in progress))
    assert states == [
        *(SecondaryStatus.DOWNLOADING, SecondaryStatus.TRAINING),
        *(SecondaryStatus.UPLOADING, SecondaryStatus.COMPLETED),
    ]
    assert (progress[-1].done, progress[-1].total) == (20, 20)
    assert progress[-1].metrics == result.metrics

    # What the registry knows.
    with TrainingJobs(home) as jobs:
        known = jobs.describe("flights-1")
        assert known.status is TrainingJobStatus.COMPLETED
        assert known.model_digest == result.digest
        assert {m.name: m.value for m in known.final_metrics} == result.metrics
        assert (known.threads, known.device) == (1, "cpu")
        log = list(jobs.logs("flights-1"))
        assert len(jobs.metrics("flights-1")) == 40
    assert log[0].startswith("[0]#011train-auc:")
    percents = [
        line.split()[-2] for line in log if line.startswith("#progress_metric: host=algo-1")
    ]
    assert percents == [str(percent) for percent in range(10, 101, 10)]
    assert log[-1].startswith("#quality_metric: host=algo-1, validation auc <score>=")

    # The model, by folder, job name and digest.
    scores = load_model(result.model).predict(later_flights)
    assert load_model("flights-1", home=home).predict(later_flights).equals(scores)
    assert load_model(result.digest, home=home).predict(later_flights).equals(scores)

    # The job folder.
    folder = home / "jobs" / "flights-1"
    assert (folder / "input" / "data" / "train" / "train.parquet").samefile(flight_files["train"])
    assert (folder / "model").resolve() == result.model
    with tarfile.open(folder / "model.tar.gz") as tar:
        assert tar.getnames() == ["inputs.json", "manifest.json", "xgboost-model"]
    assert not (folder / "output" / "failure").exists()
    assert processes_of(folder) == []

    # Its lineage.
    job = component(home)
    assert job.state == "Completed"
    assert job.properties["metrics"] == result.metrics
    assert job.properties["parameters"]["num_round"] == 20
    assert job.properties["libraries"].keys() == {"xgboost"}
    assert (job.properties["threads"], job.properties["device"]) == (1, "cpu")
    assert next(iter(job.properties["feature_importance"])) in ("wind", "delay", "origin")
    with lineage.open(home / "lineage.db") as graph:
        (model,) = graph.find(type="Model")
        walk = graph.query(model, "ascendants")
    assert model.source_uri == result.model.as_uri()
    assert model.content_hash == result.digest
    assert {entity.type for entity in walk.entities} == {"Model", "TrainingJob", "DataSet", "Image"}
    hashes = {e.source_uri: e.content_hash for e in walk.entities if e.type == "DataSet"}
    assert hashes == {
        path.as_uri(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in flight_files.values()
    }


def test_the_same_job_gives_the_same_digest_with_any_number_of_threads(
    home: Path, make_job: MakeJob
) -> None:
    digests = {
        train(home, make_job(f"flights-{threads}", threads=threads)).check().digest
        for threads in (1, 2)
    }
    assert len(digests) == 1
    with lineage.open(home / "lineage.db") as graph:
        (model,) = graph.find(type="Model")
        makers = graph.query(model, "ascendants", depth=1, types=["TrainingJob"])
    assert len(makers) == 2


def test_a_model_that_was_altered_is_not_loaded(
    completed: tuple[JobResult, list[Progress]], home: Path
) -> None:
    path = completed[0].model
    assert path is not None
    (path / "inputs.json").chmod(0o644)
    (path / "inputs.json").write_text("[]")
    for source in (path, "flights-1", completed[0].digest):
        with pytest.raises(ModelAltered, match=r"inputs\.json was altered"):
            load_model(source, home=home)


def test_the_process_gets_its_threads_and_variables(
    home: Path, make_job: MakeJob, endless: RunningJob
) -> None:
    (process,) = processes_of(home / "jobs" / "flights-1")
    raw = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    variables = dict(entry.decode().split("=", 1) for entry in raw if b"=" in entry)
    assert variables["OMP_NUM_THREADS"] == "1"
    assert variables["SM_HP_NUM_ROUND"] == "10000000"
    assert variables["SM_CHANNEL_TRAIN"] == str(home / "jobs/flights-1/input/data/train")
    assert variables["TRAINING_JOB_NAME"] == "flights-1"
    with TrainingJobs(home) as jobs:
        assert jobs.running() == {"flights-1": 1}


def test_the_process_does_not_get_the_secrets_of_the_store(
    home: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []
    popen = subprocess.Popen

    def look(command: Any, **options: Any) -> Any:
        seen.append(dict(options["env"]))
        return popen(command, **options)

    monkeypatch.setattr("training.jobs.host.subprocess.Popen", look)
    monkeypatch.setenv("FEATURELINE_MASTER_KEY_FILE", "/nowhere")
    monkeypatch.setenv("FEATURELINE_TOKEN", "flk_secret")

    train(home, make_job(environment={"STAGE": "test"})).check()

    assert seen[0]["STAGE"] == "test"
    assert not {"FEATURELINE_MASTER_KEY_FILE", "FEATURELINE_TOKEN"} & set(seen[0])


def test_csv_without_names_and_fastfile(home: Path, tmp_path: Path, make_job: MakeJob) -> None:
    folder = tmp_path / "csv"
    folder.mkdir()
    for part in range(2):
        lines = [f"{(i + part) % 2},{(i + part) % 2 * 3.5},{'ab'[i % 2]}" for i in range(50)]
        (folder / f"part-{part}.csv").write_text("\n".join(lines) + "\n")
    channel = Channel(channel_name="train", path=str(folder), input_mode="FastFile")
    result = train(home, make_job(channels=[channel])).check()
    assert load_model(result.model).inputs.names == ("f0", "f1")
    assert (home / "jobs/flights-1/input/data/train/part-0.csv").is_symlink()


def test_relative_paths_are_those_of_the_caller(
    home: Path, tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    running = submit(
        "home", make_job(channels=[Channel(channel_name="train", path="train.parquet")])
    )
    monkeypatch.chdir("/")
    assert running.wait().status is TrainingJobStatus.COMPLETED
    assert (home / "artifacts" / "models").is_dir()


def test_a_job_that_names_no_threads_gets_its_share_of_the_cores(
    home: Path, make_job: MakeJob, endless: RunningJob
) -> None:
    result = train(home, make_job("flights-2", threads=0)).check()
    with TrainingJobs(home) as jobs:
        threads = jobs.describe("flights-2").threads
    assert threads == max(1, available_cores() // 2)
    assert result.digest


def test_hyperparameters_that_are_sagemakers_own_are_no_trouble(
    home: Path, make_job: MakeJob
) -> None:
    own = {"_tuning_objective_metric": "validation:auc", "sagemaker_region": "eu-central-1"}
    train(home, make_job(hyper_parameters=own)).check()
    assert "_tuning_objective_metric" not in component(home).properties["parameters"]


def test_environment_and_tags_go_with_the_job(home: Path, make_job: MakeJob) -> None:
    job = make_job(environment={"STAGE": "test"}, tags={"team": "ops"})
    train(home, job).check()
    assert component(home).properties["tags"] == {"team": "ops"}


# -- refused before anything is started -------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "expected"),
    [
        ({"hyper_parameters": {"eta": 3}}, InvalidHyperparameter, "eta: expected a number in"),
        ({"hyper_parameters": {"rate_drop": 0.5}}, InvalidHyperparameter, "only with booster=dart"),
        ({"channels": [Channel(channel_name="test", path="x")]}, InvalidJob, "no channel 'test'"),
        ({"channels": [Channel(channel_name="validation", path="x")]}, InvalidJob, "'train' is re"),
    ],
)
def test_a_job_that_cannot_be_run_is_refused(
    home: Path, make_job: MakeJob, change: dict[str, Any], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        train(home, make_job(**change))
    assert not home.exists()


def test_an_unknown_algorithm_is_refused(home: Path, make_job: MakeJob) -> None:
    job = TrainingJob.from_json(
        make_job().to_json() | {"AlgorithmSpecification": {"AlgorithmName": "xgbost"}}
    )
    with pytest.raises(AlgorithmNotFound, match="did you mean 'xgboost'"):
        train(home, job)


def test_a_name_is_used_once(
    completed: tuple[JobResult, list[Progress]], home: Path, make_job: MakeJob
) -> None:
    with pytest.raises(TrainingJobExists):
        train(home, make_job())


# -- jobs that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "label", "expected"),
    [
        ({"late": [0, 3], "w": [1, 2]}, "late", "InvalidData: train: label column 'late': binary:"),
        ({"late": [0, 1], "w": [1, 2]}, "lat", "InvalidData: train: label column 'lat' is missing"),
        ({"late": [0, 1], "w": [[1], [2]]}, "late", "InvalidData: train: column 'w' is tokens"),
    ],
)
def test_bad_data_fails_with_a_reason_that_says_where(
    home: Path, tmp_path: Path, make_job: MakeJob, table: Any, label: str, expected: str
) -> None:
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table(table), path)
    channel = Channel(channel_name="train", path=str(path), label=label)
    result = train(home, make_job(channels=[channel]))
    assert result.status is TrainingJobStatus.FAILED
    assert result.failure_reason.startswith(expected)
    assert result.model is None
    with pytest.raises(TrainingJobFailed, match="'flights-1' is Failed: InvalidData"):
        result.check()
    job = component(home)
    assert job.state == "Failed"
    assert expected in str(job.properties["failure_reason"])
    with TrainingJobs(home) as jobs:
        assert jobs.describe("flights-1").failure_reason == result.failure_reason
    with pytest.raises(ModelNotFound, match="'flights-1' is Failed and has no model"):
        load_model("flights-1", home=home)


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ({"path": "/nothing/at/all.csv"}, "train: /nothing/at/all.csv does not exist"),
        ({"dataset": "ab" * 32}, f"train: dataset '{'ab' * 32}' has no file"),
    ],
)
def test_data_that_is_not_there_fails(
    home: Path, make_job: MakeJob, channel: dict[str, str], expected: str
) -> None:
    result = train(home, make_job(channels=[Channel(channel_name="train", **channel)]))
    assert result.status is TrainingJobStatus.FAILED
    assert result.failure_reason.startswith(expected)
    assert processes_of(home / "jobs" / "flights-1") == []


def test_a_broken_file_fails_with_the_readers_reason(
    home: Path, tmp_path: Path, make_job: MakeJob
) -> None:
    path = tmp_path / "broken.parquet"
    path.write_bytes(b"PAR1 but not really PAR1")
    result = train(home, make_job(channels=[Channel(channel_name="train", path=str(path))]))
    assert result.failure_reason.startswith("train: 'broken.parquet' cannot be read as application")


@pytest.mark.skipif(cuda_device_count() > 0, reason="here the device is there")
def test_a_device_that_is_not_there_is_refused_at_once(home: Path, make_job: MakeJob) -> None:
    job = replace(make_job(), resource_config=ResourceConfig(threads=1, device="cuda"))
    with pytest.raises(DeviceUnavailable, match="device 'cuda' was asked for and this machine has"):
        train(home, job)
    assert not (home / "jobs" / "flights-1").exists()


def test_a_killed_process_fails_with_its_signal(home: Path, endless: RunningJob) -> None:
    (process,) = processes_of(home / "jobs" / "flights-1")
    os.kill(process, signal.SIGKILL)
    result = endless.wait(20)
    assert result.status is TrainingJobStatus.FAILED
    assert "ended by signal SIGKILL (9); the usual cause is that memory ran out" in (
        result.failure_reason
    )
    assert "its last line: " in result.failure_reason
    assert component(home).state == "Failed"


def test_a_reason_is_at_most_1024_characters(home: Path, make_job: MakeJob, tmp_path: Path) -> None:
    names = {f"column_{i:04}_{'x' * 20}": [1] for i in range(200)}
    path = tmp_path / "wide.parquet"
    pq.write_table(pa.table(names), path)
    channel = Channel(channel_name="train", path=str(path), label="late")
    result = train(home, make_job(channels=[channel]))
    assert len(result.failure_reason) == 1024
    assert result.failure_reason.startswith("InvalidData: train: label column 'late' is missing")


def test_a_job_whose_lineage_cannot_be_written_fails(home: Path, make_job: MakeJob) -> None:
    home.mkdir()
    (home / "lineage.db").write_bytes(b"this is no lineage file" * 100)
    result = train(home, make_job())
    assert result.status is TrainingJobStatus.FAILED
    assert "lineage.db" in result.failure_reason
    assert result.model is None
    assert not (home / "jobs" / "flights-1" / "input").exists()


def test_a_job_whose_end_cannot_be_recorded_fails(home: Path, make_job: MakeJob) -> None:
    graph = lineage.Graph(lineage.MemoryStore())

    class Embedded:
        """A store that is closed while the job runs."""

        def __init__(self) -> None:
            self.home = home
            self.graph = graph

    def close(progress: Progress) -> None:
        if progress.done == 5:
            graph.close()

    result = train(Embedded(), make_job(), on_progress=close)
    assert result.status is TrainingJobStatus.FAILED
    assert "could not be recorded, so the job fails" in result.failure_reason
    assert (result.model, result.digest) == (None, "")
    with TrainingJobs(home) as jobs:
        assert jobs.describe("flights-1").model_artifacts is None


def test_a_failing_progress_callback_fails_the_job(home: Path, make_job: MakeJob) -> None:
    def fail(progress: Progress) -> None:
        if progress.status is SecondaryStatus.TRAINING:
            raise ZeroDivisionError("in the callback")

    result = train(home, make_job(hyper_parameters=ENDLESS), on_progress=fail)
    assert result.status is TrainingJobStatus.FAILED
    assert result.failure_reason == "ZeroDivisionError: in the callback"
    assert processes_of(home / "jobs" / "flights-1") == []


# -- jobs that are stopped --------------------------------------------------------------------


def test_a_stopped_job_ends_without_a_model(home: Path, endless: RunningJob) -> None:
    with pytest.raises(TimeoutError, match="'flights-1' still runs after 0 s"):
        endless.wait(0)
    endless.stop()
    result = endless.wait(20)
    assert endless.is_done
    assert result.status is TrainingJobStatus.STOPPED
    assert result.failure_reason == "the job was stopped by request"
    assert result.model is None
    assert result.metrics["train:error"] < 0.5
    job = component(home)
    assert job.state == "Stopped"
    assert job.properties["stop_reason"] == "the job was stopped by request"
    with TrainingJobs(home) as jobs:
        states = [t.status.value for t in jobs.describe("flights-1").secondary_status_transitions]
    assert states == ["Starting", "Downloading", "Training", "Stopping", "Stopped"]


def test_another_process_stops_a_job_through_the_registry(home: Path, endless: RunningJob) -> None:
    with TrainingJobs(home) as jobs:
        jobs.stop("flights-1")
        eventually(lambda: jobs.describe("flights-1").status is TrainingJobStatus.STOPPED)


def test_a_stopped_job_may_keep_its_model(home: Path, make_job: MakeJob) -> None:
    job = make_job(
        hyper_parameters={**ENDLESS, "save_model_on_termination": "true"}, max_runtime_s=1
    )
    result = train(home, job)
    assert result.status is TrainingJobStatus.STOPPED
    assert result.failure_reason == "the job ran longer than MaxRuntimeInSeconds=1"
    assert result.model is not None
    assert load_model(result.model).inputs.names
    with TrainingJobs(home) as jobs:
        known = jobs.describe("flights-1")
    assert known.secondary_status is SecondaryStatus.MAX_RUNTIME_EXCEEDED
    with lineage.open(home / "lineage.db") as graph:
        (model,) = graph.find(type="Model")
    assert model.content_hash == result.digest


def test_a_fit_that_does_not_heed_a_stop_is_left(
    home: Path, start_endless: Callable[..., RunningJob]
) -> None:
    running = start_endless(stop_grace_s=3600)
    (process,) = processes_of(home / "jobs" / "flights-1")
    os.kill(process, signal.SIGSTOP)
    running.stop()
    assert running.wait(20).status is TrainingJobStatus.STOPPED
    assert processes_of(home / "jobs" / "flights-1") == []


@pytest.mark.parametrize("end", ["whole", "grace"])
def test_a_checkpoint_that_is_kept_beyond_the_job_is_waited_for(
    home: Path, tmp_path: Path, start_endless: Callable[..., RunningJob], end: str
) -> None:
    running = start_endless(
        stop_grace_s=3600 if end == "whole" else 1,
        checkpoint_config=CheckpointConfig(path=str(tmp_path / "kept")),
    )
    root = home / "jobs" / "flights-1"
    (process,) = processes_of(root)
    os.kill(process, signal.SIGSTOP)
    for own in list((root / "checkpoints").glob(".*.part")):
        own.unlink()  # it was halted while it wrote one
    part = root / "checkpoints" / ".one.part"
    part.write_text("half of it")
    running.stop()
    if end == "whole":
        with pytest.raises(TimeoutError):
            running.wait(1)
        part.replace(part.with_name("one"))
    assert running.wait(20).status is TrainingJobStatus.STOPPED
    assert (tmp_path / "kept" / "one").is_file() == (end == "whole")
    assert not part.exists()


def test_a_job_is_stopped_while_its_data_is_read(home: Path, make_job: MakeJob) -> None:
    job = make_job()
    large = Path(str(job.input_data_config[0].path)).with_name("large.csv")
    with large.open("wb") as file:
        file.truncate(1 << 40)  # no bytes of it are on the disk, and reading it takes an hour
    running = submit(home, replace(job, input_data_config=[Channel.parse(f"train={large}")]))
    with TrainingJobs(home) as jobs:
        eventually(lambda: jobs.describe("flights-1").secondary_status.value == "Downloading")
    running.stop()
    assert running.wait(20).status is TrainingJobStatus.STOPPED
    with TrainingJobs(home) as jobs:
        states = [t.status.value for t in jobs.describe("flights-1").secondary_status_transitions]
    assert states == ["Starting", "Downloading", "Stopping", "Stopped"]


def test_a_job_stopped_before_it_began(home: Path, make_job: MakeJob) -> None:
    running = submit(home, make_job(hyper_parameters=ENDLESS))
    running.stop()
    result = running.wait(20)
    assert result.status is TrainingJobStatus.STOPPED
    assert processes_of(home / "jobs" / "flights-1") == []


# -- programs that end ------------------------------------------------------------------------


PROGRAM = """
import sys
from training import TrainingJob, submit, train
job = TrainingJob.from_json(__import__("json").loads(sys.argv[2]))
begun = lambda progress: progress.done == 1 and print("begun", flush=True)
{call}
"""


@pytest.fixture
def program(home: Path, make_job: MakeJob) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(call: str) -> subprocess.Popen[bytes]:
        job = json.dumps(make_job(hyper_parameters=ENDLESS).to_json())
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(call=textwrap.dedent(call)), str(home), job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert len(processes_of(home / "jobs" / "flights-1")) == 1
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_an_interrupt_stops_the_job_and_leaves_no_process(
    home: Path, program: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    process = program("train(sys.argv[1], job, on_progress=begun)")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert errors.strip().endswith(b"KeyboardInterrupt")
    assert processes_of(home / "jobs" / "flights-1") == []
    with TrainingJobs(home) as jobs:
        assert jobs.describe("flights-1").status is TrainingJobStatus.STOPPED
    assert component(home).state == "Stopped"


def test_a_program_that_ends_stops_its_jobs(
    home: Path, program: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    process = program("submit(sys.argv[1], job, on_progress=begun)\nsys.stdin.readline()")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors.decode()
    assert processes_of(home / "jobs" / "flights-1") == []
    assert component(home).state == "Stopped"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_that_is_killed_leaves_no_process_and_the_job_has_failed(
    home: Path, program: Callable[[str], subprocess.Popen[bytes]], number: int
) -> None:
    process = program("train(sys.argv[1], job, on_progress=begun)")
    process.send_signal(number)
    process.wait(20)
    eventually(lambda: not processes_of(home / "jobs" / "flights-1"))
    with TrainingJobs(home) as jobs:
        known = jobs.describe("flights-1")
    assert known.status is TrainingJobStatus.FAILED
    assert "the process that ran this job ended before the job did" in known.failure_reason
    job = component(home)
    assert job.state == "Failed"
    assert "ended before the job did" in str(job.properties["failure_reason"])


# -- loading ----------------------------------------------------------------------------------


def test_a_model_that_is_not_there(
    home: Path, tmp_path: Path, completed: tuple[JobResult, list[Progress]]
) -> None:
    with pytest.raises(ModelNotFound, match="holds no model"):
        load_model(tmp_path)
    with pytest.raises(ModelNotFound, match="there is no home"):
        load_model("flights-1", home=tmp_path / "other")
    with pytest.raises(TrainingJobNotFound, match="did you mean 'flights-1'"):
        load_model("flights-2", home=home)


def test_the_home_is_found_by_its_variable(
    home: Path, completed: tuple[JobResult, list[Progress]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURELINE_HOME", str(home))
    assert load_model("flights-1").inputs.names
