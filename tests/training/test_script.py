"""The user's own programs as jobs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featurestore
import lineage
from training import (
    Artifact,
    Channel,
    JobResult,
    MetricDefinition,
    ResourceConfig,
    StoppingCondition,
    TrainingJob,
    TrainingJobs,
    TrainingJobStatus,
    load_model,
    replay,
    submit,
    train,
)
from training.artifact import MANIFEST
from training.errors import InvalidJob, ModelNotFound
from training.jobs.launch import command
from training.jobs.script import Script, script_hyperparameters

SCRIPT = Path(__file__).parent / "scripts" / "train.py"
RunScript = Callable[..., JobResult]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripts") / "home"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    inputs = random.normal(size=(200, 2))
    rows = np.column_stack([inputs @ [1, -2] > 0, inputs])
    np.savetxt(folder / "a.csv", rows[:100], delimiter=",")
    np.savetxt(folder / "_b.csv", rows[100:], delimiter=",")
    return folder


@pytest.fixture
def run_script(home: Path, tmp_path: Path, data: Path) -> RunScript:
    """Run a program that is written for one test."""

    def run(
        text: str,
        name: str,
        *,
        files: dict[str, bytes] | None = None,
        program: str = "train.py",
        values: dict[str, Any] | None = None,
        **fields: Any,
    ) -> JobResult:
        source = tmp_path / "source"
        source.mkdir()
        (source / program).write_text(text)
        for file, content in (files or {}).items():
            (source / file).write_bytes(content)
        return train(
            home,
            TrainingJob(
                training_job_name=name,
                algorithm_name="script",
                hyper_parameters=script_hyperparameters(source / program, source) | (values or {}),
                input_data_config=[
                    Channel(channel_name="train", path=str(data), input_mode="FastFile")
                ],
                resource_config=ResourceConfig(threads=1, device="cpu"),
                **fields,
            ),
        )

    return run


# -- a script that was written for SageMaker --------------------------------------------------


@pytest.fixture(scope="module")
def trained(home: Path, data: Path) -> JobResult:
    job = TrainingJob(
        training_job_name="script-1",
        algorithm_name="script",
        hyper_parameters={
            **script_hyperparameters(SCRIPT),
            "epochs": 5,
            "learning-rate": 0.5,
        },
        input_data_config=[Channel(channel_name="train", path=str(data))],
        metric_definitions=[MetricDefinition(name="train:loss", regex=r"loss=([0-9.]+)")],
        resource_config=ResourceConfig(threads=1, device="cpu"),
    )
    return train(home, job).check()


def test_a_script_written_for_sagemaker_runs_as_it_is(
    home: Path, data: Path, trained: JobResult
) -> None:
    folder = home / "jobs" / "script-1"
    # Files that a script may write to are copies, and none is left out.
    copies = folder / "input" / "data" / "train"
    assert sorted(file.name for file in copies.iterdir()) == ["_b.csv", "a.csv"]
    assert not (copies / "a.csv").samefile(data / "a.csv")
    assert (folder / "code" / "train.py").read_text() == SCRIPT.read_text()

    # What it left became a model artifact and archives.
    assert trained.model == home / "artifacts" / "models" / trained.digest
    artifact = Artifact.read(trained.model)
    # Its code stays with it, since that has the functions that serve it.
    assert (artifact.algorithm, set(artifact.files)) == ("script", {"code/train.py", "weights.npy"})
    assert artifact.hyperparameters == {"epochs": 5, "learning-rate": 0.5}
    assert artifact.metrics == trained.metrics
    weights = np.load(trained.model / "weights.npy")
    assert weights[0] > 0 > weights[1]
    with tarfile.open(folder / "model.tar.gz") as tar:
        assert sorted(tar.getnames()) == ["code/train.py", MANIFEST, "weights.npy"]
    with tarfile.open(folder / "output.tar.gz") as tar:
        assert tar.getnames() == ["environment.json"]
    with pytest.raises(
        ModelNotFound, match=r"was made by a script; read its files \(code/train.py, weights"
    ):
        load_model("script-1", home=home)


def test_its_metrics_are_read_from_its_log(home: Path, trained: JobResult) -> None:
    with TrainingJobs(home) as jobs:
        table = jobs.metrics("script-1")
        known = jobs.describe("script-1")
        log = list(jobs.logs("script-1"))
    losses = [float(line.partition("loss=")[2]) for line in log]
    assert len(losses) == 5
    assert table["value"].to_pylist() == losses
    assert table["epoch"].to_pylist() == [0, 1, 2, 3, 4]
    assert set(table["host"].to_pylist()) == {"algo-1"}
    assert trained.metrics == {"train:loss": losses[-1]}
    body = known.to_json()
    assert body["FinalMetricDataList"][0]["MetricName"] == "train:loss"
    assert body["AlgorithmSpecification"]["MetricDefinitions"][0]["Name"] == "train:loss"


def test_its_lineage_is_recorded_without_asking(home: Path, trained: JobResult) -> None:
    with lineage.open(home / "lineage.db") as graph:
        (model,) = (m for m in graph.find(type="Model") if m.content_hash == trained.digest)
        walk = list(graph.query(model, "ascendants"))
    assert {entity.type for entity in walk} == {"Model", "TrainingJob", "SourceCode", "DataSet"}
    (job,) = (entity for entity in walk if entity.type == "TrainingJob")
    (code,) = (entity for entity in walk if entity.type == "SourceCode")
    assert code.content_hash == lineage.folder_digest(home / "jobs" / "script-1" / "code")
    assert job.properties["parameters"] == {"epochs": 5, "learning-rate": 0.5}
    assert job.properties["metrics"] == trained.metrics
    assert [attempt["number"] for attempt in job.properties["attempts"]] == [1]


def test_it_is_trained_again_from_the_source_that_its_job_keeps(
    home: Path, trained: JobResult
) -> None:
    with featurestore.open(home) as store:
        report = replay(store, trained.digest)
    assert (report.verdict, report.first_difference) == ("equal", None)
    verdicts = {step.name: step.verdict for step in report.steps}
    assert verdicts["code"] == verdicts["parameters"] == verdicts["model"] == "equal"


@pytest.mark.skipif(
    "SAGEMAKER_TRAINING_PYTHON" not in os.environ,
    reason="SAGEMAKER_TRAINING_PYTHON names an interpreter with sagemaker-training 5.1.4",
)
def test_the_same_folder_runs_under_sagemakers_own_toolkit(
    home: Path, tmp_path: Path, trained: JobResult
) -> None:
    ours = home / "jobs" / "script-1"
    theirs = tmp_path / "ml"
    shutil.copytree(ours / "input", theirs / "input")
    for name in ("model", "output/data", "code"):
        (theirs / name).mkdir(parents=True)
    python = Path(os.environ["SAGEMAKER_TRAINING_PYTHON"])
    done = subprocess.run(
        [str(python), "-m", "sagemaker_training.cli.train"],
        env={
            "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
            "SAGEMAKER_BASE_DIR": str(theirs),
            # Its hosts are no names that a machine alone could resolve.
            "SM_STUDIO_LOCAL_MODE": "true",
            "TRAINING_JOB_NAME": "script-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (theirs / "output" / "success").is_file()
    assert trained.model is not None
    assert np.load(theirs / "model" / "weights.npy") == pytest.approx(
        np.load(trained.model / "weights.npy"), rel=1e-12
    )

    def environment(root: Path) -> dict[str, str]:
        text = (root / "output" / "data" / "environment.json").read_text()
        values: dict[str, str] = json.loads(text.replace(str(root), "/opt/ml"))
        return values

    here, there = environment(ours), environment(theirs)
    # It counts all the cores; a job has its share.
    for name in ("SM_NUM_CPUS", "SM_STUDIO_LOCAL_MODE"):
        here.pop(name, None), there.pop(name, None)
    whole, whole_there = (json.loads(e.pop("SM_TRAINING_ENV")) for e in (here, there))
    assert here == there
    own = ("num_cpus", "is_modelparallel_enabled", "is_smddprun_installed")
    for name, value in whole_there.items():
        if name not in (*own, "is_smddpmprun_installed"):
            assert whole[name] == value, name


# -- how a program is run ---------------------------------------------------------------------


def test_a_file_a_package_and_a_command_are_run_each_in_its_way(tmp_path: Path) -> None:
    for name in ("train.py", "run.sh", "setup.py"):
        (tmp_path / name).write_text("")
    assert command(tmp_path, "train.py", ["-b", "1"], "py") == ["py", "train.py", "-b", "1"]
    assert command(tmp_path, "pack.main", ["-b", "1"], "py") == ["py", "-m", "pack.main", "-b", "1"]
    assert command(tmp_path, "run.sh", [], "py")[-1] == "./run.sh"
    assert os.access(tmp_path / "run.sh", os.X_OK)


def test_a_command_gets_arguments_variables_and_the_exit_status_counts(
    run_script: RunScript, home: Path
) -> None:
    text = 'echo "$@" > "$SM_MODEL_DIR/said"; pwd >> "$SM_MODEL_DIR/said"; echo "$STAGE"'
    result = run_script(
        text, "command-1", program="run.sh", values={"flip": "true"}, environment={"STAGE": "here"}
    )
    assert result.check().model is not None
    code = home / "jobs" / "command-1" / "code"
    assert (result.model / "said").read_text() == f"--flip True\n{code}\n"
    with TrainingJobs(home) as jobs:
        assert list(jobs.logs("command-1")) == ["here"]


def test_requirements_are_installed_for_the_job_alone(
    run_script: RunScript, tmp_path: Path
) -> None:
    wheel = tmp_path / "greeting-1.0-py3-none-any.whl"
    info = "greeting-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("greeting.py", "WORD = 'hello'\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    result = run_script(
        "import greeting, numpy; print(greeting.WORD, numpy.__version__)",
        "requirements-1",
        files={
            wheel.name: wheel.read_bytes(),
            # What is here already is not fetched again.
            "requirements.txt": f"./{wheel.name}\nnumpy\n".encode(),
        },
        environment={"PIP_NO_INDEX": "1"},
    )
    result.check()
    assert result.model is None
    missing = subprocess.run([sys.executable, "-c", "import greeting"], capture_output=True)
    assert missing.returncode == 1


# -- how it ends ------------------------------------------------------------------------------


def test_an_exception_is_the_reason_with_its_place_and_a_hint(
    run_script: RunScript, home: Path
) -> None:
    text = (
        "import os\n"
        "open(os.environ['SM_OUTPUT_DATA_DIR'] + '/kept', 'w').close()\n"
        "def main():\n    import nothing_like_this\n"
        "main()\n"
    )
    result = run_script(text, "failed-1")
    assert result.status is TrainingJobStatus.FAILED
    assert result.failure_reason == (
        "ModuleNotFoundError: No module named 'nothing_like_this' (train.py, line 4, in main); "
        "the job's process ended with exit status 1; name nothing_like_this in a "
        "requirements.txt beside the program, or install it"
    )
    # Its output is collected all the same.
    with tarfile.open(home / "jobs" / "failed-1" / "output.tar.gz") as tar:
        assert tar.getnames() == ["kept"]
    with lineage.open(home / "lineage.db") as graph:
        (job,) = graph.find(type="TrainingJob", name="failed-1-aws-training-job")
    assert job.state == "Failed"


def test_the_programs_own_account_of_its_failure_is_taken(run_script: RunScript) -> None:
    text = (
        "import os, sys\n"
        "open(os.environ['SM_OUTPUT_DIR'] + '/failure', 'w').write('the data are too few')\n"
        "sys.exit(3)\n"
    )
    assert run_script(text, "failed-2").failure_reason == "the data are too few"


def test_a_stopped_program_is_told_and_what_it_left_is_collected(run_script: RunScript) -> None:
    text = (
        "import os, signal, sys, time\n"
        "def stop(number, frame):\n"
        "    open(os.environ['SM_MODEL_DIR'] + '/weights', 'w').write('so far')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "time.sleep(60)\n"
    )
    began = time.monotonic()
    result = run_script(
        text, "stopped-1", stopping_condition=StoppingCondition(max_runtime_in_seconds=1)
    )
    assert time.monotonic() < began + 20
    assert result.status is TrainingJobStatus.STOPPED
    assert result.failure_reason == "the job ran longer than MaxRuntimeInSeconds=1"
    assert result.model is not None
    assert (result.model / "weights").read_text() == "so far"


def test_no_process_is_left_behind(home: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '60']).pid)\n"
        "time.sleep(60)\n"
    )
    job = TrainingJob(
        training_job_name="stubborn-1",
        algorithm_name="script",
        hyper_parameters=script_hyperparameters(tmp_path / "train.py"),
        input_data_config=[Channel(channel_name="train", path=str(data))],
        resource_config=ResourceConfig(threads=1, device="cpu"),
    )
    running = submit(home, job, stop_grace_s=0.2)
    with TrainingJobs(home) as jobs:
        child = next(line for line in jobs.logs("stubborn-1", follow=True))
    assert is_alive(int(child))
    running.stop()
    assert running.wait(20).status is TrainingJobStatus.STOPPED
    deadline = time.monotonic() + 10
    while is_alive(int(child)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "state=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return state.stdout.strip() not in ("", "Z")


# -- refused before it is started -------------------------------------------------------------


def archive_of(folder: Path, file: Path) -> Path:
    with tarfile.open(folder / "source.tar.gz", "w:gz") as tar:
        tar.add(file, arcname=file.name)
    return folder / "source.tar.gz"


def test_a_source_is_a_folder_a_file_or_an_archive(tmp_path: Path) -> None:
    for number, source in enumerate((SCRIPT, SCRIPT.parent, archive_of(tmp_path, SCRIPT))):
        values = {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": str(source)}
        code = tmp_path / str(number)
        code.mkdir()
        Script.of(values).place(code)
        assert (code / "train.py").read_text() == SCRIPT.read_text()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "sagemaker_program: a job of algorithm 'script' names its program"),
        ({"sagemaker_program": "a.py"}, "sagemaker_submit_directory: expected the folder or tar"),
        (
            {"sagemaker_program": "a.py", "sagemaker_submit_directory": "s3://bucket/x.tar.gz"},
            "does not exist; copy it to this machine",
        ),
        (
            {"sagemaker_program": "trian.py", "sagemaker_submit_directory": str(SCRIPT.parent)},
            "'trian.py' is not in .*; did you mean 'train.py'",
        ),
        (
            {"sagemaker_program": "../train.py", "sagemaker_submit_directory": str(SCRIPT.parent)},
            "expected a path below sagemaker_submit_directory",
        ),
    ],
)
def test_a_program_that_is_not_there_is_refused(values: dict[str, str], expected: str) -> None:
    with pytest.raises(InvalidJob, match=expected):
        Script.of(values)
