"""Mixed precision as an option of a job: computed with, or refused before anything is started."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.training.case import case_of
from training import Channel, ResourceConfig, TrainingJob, script_hyperparameters, train
from training.algorithms import find_algorithm, list_algorithms
from training.device import cuda_device_count
from training.errors import DeviceUnavailable, InvalidJob
from training.run import MemorySink, Run


def job_of(
    folder: Path, name: str, *, precision: str, device: str = "cpu", **more: object
) -> TrainingJob:
    case = case_of(name)
    path = folder / "train.parquet"
    pq.write_table(case.train(), path)
    return TrainingJob(
        training_job_name="precise-1",
        algorithm_name=name,
        hyper_parameters={**case.values, **more},
        input_data_config=[Channel(channel_name="train", path=str(path), label=case.label)],
        resource_config=ResourceConfig(threads=1, device=device, precision=precision),
    )


@pytest.mark.parametrize(
    "name", [name for name in list_algorithms() if not find_algorithm(name).float32_only]
)
def test_a_mixed_precision_changes_little_but_something(name: str) -> None:
    pytest.importorskip("torch")
    case = case_of(name)
    data = case.dataset(case.train())
    plain = case.algorithm.fit(data, Run(threads=1))
    mixed = case.algorithm.fit(data, Run(threads=1, precision="bf16"))
    later = case.later()
    assert case.answers(plain, later) != case.answers(mixed, later)
    assert case.quality(mixed, later) == pytest.approx(case.quality(plain, later), abs=0.05)


def test_a_job_computes_in_the_precision_that_it_asks_for(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    case = case_of("linear-learner")
    sink = MemorySink()
    data = case.dataset(case.train())
    case.algorithm.fit(data, Run(threads=1, precision="bf16", sink=sink))
    result = train(home, job_of(tmp_path, "linear-learner", precision="bf16")).check()
    loss = "train:objective_loss"
    assert result.metrics[loss] == sink.metrics[loss]


@pytest.mark.parametrize(
    ("name", "more", "reason"),
    [
        ("xgboost", {}, "it computes in float32 alone: it does not train by torch's products"),
        ("factorization-machines", {}, "its pairs are small differences of large sums"),
        (
            "linear-learner",
            {"optimizer": "lbfgs", "mini_batch_size": 1000},
            "and optimizer=lbfgs do not go together",
        ),
    ],
)
def test_who_cannot_use_a_precision_refuses_it(
    home: Path, tmp_path: Path, name: str, more: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidJob, match=f"{name}: Precision=bf16.*{reason}"):
        train(home, job_of(tmp_path, name, precision="bf16", **more))
    assert not (home / "jobs" / "precise-1").exists()


def test_fp16_needs_a_cuda_device(home: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidJob, match="Precision=fp16 needs a CUDA device, and this job comput"):
        train(home, job_of(tmp_path, "linear-learner", precision="fp16"))


def test_a_script_chooses_its_precision_itself(home: Path, tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.touch()
    job = TrainingJob(
        training_job_name="precise-1",
        algorithm_name="script",
        hyper_parameters=script_hyperparameters(program),
        input_data_config=[Channel(channel_name="train", path=str(program))],
        resource_config=ResourceConfig(threads=1, device="cpu", precision="bf16"),
    )
    with pytest.raises(InvalidJob, match="a program decides itself how it computes"):
        train(home, job)


def test_who_computes_on_the_cpu_alone_takes_no_other_device(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.device.cuda_device_count", lambda: 1)
    job = job_of(tmp_path, "randomcutforest", precision="float32", device="cuda")
    with pytest.raises(DeviceUnavailable, match="'cuda' was asked for, and it computes on the CPU"):
        train(home, job)


@pytest.mark.skipif(cuda_device_count() == 0, reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_cuda_device_computes_in_both(precision: str) -> None:
    pytest.importorskip("torch")
    from training.device import Device

    case = case_of("linear-learner")
    run = Run(threads=1, device=Device("cuda", 0), precision=precision)  # type: ignore[arg-type]
    model = case.algorithm.fit(case.dataset(case.train()), run)
    assert case.quality(model, case.later()) > case.baseline
