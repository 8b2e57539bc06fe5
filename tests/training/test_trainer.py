"""The loop of torch algorithms: exact resume, several processes, early stopping, refusals."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
scipy_sparse = pytest.importorskip("scipy.sparse")

from tests.training import trainer_process as example  # noqa: E402
from training.device import Device, cuda_device_count  # noqa: E402
from training.engine.source import Sampled, SparseRows  # noqa: E402
from training.engine.trainer import EarlyStopping  # noqa: E402
from training.errors import FitFailed, TrainingStopped  # noqa: E402
from training.run import MemorySink, Run  # noqa: E402


def weights(module: Any) -> list[np.ndarray[Any, Any]]:
    return [tensor.detach().cpu().numpy() for tensor in module.state_dict().values()]


def same(first: Any, second: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def after(asked: int) -> Callable[[], bool]:
    numbers = iter(range(1_000_000))
    return lambda: next(numbers) >= asked


def test_it_learns_and_reports() -> None:
    sink = MemorySink()
    _, history = example.fit(Run(threads=1, sink=sink))
    losses = [value for name, value, _ in sink.rows if name == "train:loss"]
    assert losses[-1] < 0.2 * losses[0]
    assert history.steps == sink.done[0] == sink.done[1] == example.EPOCHS * 4
    assert sink.metrics["validation:mse"] < 1
    assert any("epoch=0, train loss <loss>=" in line for line in sink.lines)


@pytest.mark.parametrize("step", [0, 1, 3, 4, 10, 18])
def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(step: int, tmp_path: Path) -> None:
    undisturbed, history = example.fit(Run(threads=1))
    with pytest.raises(TrainingStopped, match=f"after step {step + 1} of 20; the job's checkpoint"):
        example.fit(Run(threads=1, checkpoints=tmp_path, should_stop=after(step)))
    resumed, again = example.fit(Run(threads=1, checkpoints=tmp_path))
    assert same(undisturbed, resumed)
    assert again.epochs == history.epochs


def test_a_fit_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    undisturbed, _ = example.fit(Run(threads=1))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.training.trainer_process", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    give_up = time.monotonic() + 60
    while not list(tmp_path.glob("checkpoint.pt")):
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.01)
    time.sleep(random.random() * 0.3)
    process.kill()
    process.wait()
    sink = MemorySink()
    resumed, _ = example.fit(Run(threads=1, checkpoints=tmp_path, sink=sink))
    assert "going on from a checkpoint" in sink.lines[0]
    assert same(undisturbed, resumed)


def test_a_batch_in_parts_is_the_batch() -> None:
    whole, _ = example.fit(Run(threads=1), dropout=0.0)
    parts, _ = example.fit(Run(threads=1), dropout=0.0, accumulate=3)
    for one, other in zip(weights(whole), weights(parts), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_another_seed_gives_another_model() -> None:
    assert not same(example.fit(Run(threads=1))[0], example.fit(Run(threads=1, seed=1))[0])


def test_early_stopping_keeps_the_best_weights() -> None:
    stopping = EarlyStopping(metric="train:loss", patience=2, tolerance=0.9)
    module, history = example.fit(Run(threads=1), stopping=stopping)
    assert history.waited == 2
    assert len(history.epochs) == history.best_epoch + 3 < example.EPOCHS
    best, _ = example.fit(Run(threads=1), epochs=history.best_epoch + 1, of=example.EPOCHS)
    assert same(module, best)


@pytest.mark.parametrize("clip", [{"clip_norm": 1e-3}, {"clip_value": 1e-3}])
def test_gradients_are_clipped(clip: dict[str, float]) -> None:
    largest: list[float] = []

    def watch(module: Any) -> None:
        gradients = torch.cat([p.grad.reshape(-1) for p in module.parameters()])
        largest.append(float(gradients.norm() if "clip_norm" in clip else gradients.abs().max()))

    example.fit(Run(threads=1), epochs=1, watch=watch, **clip)
    assert largest == pytest.approx([1e-3] * 4, rel=1e-3)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    with pytest.raises(FitFailed, match="the loss is nan in epoch 0; use a smaller learning rate"):
        example.fit(Run(threads=1), scale=float("nan"))


def test_the_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingStopped):
        example.fit(Run(threads=1, checkpoints=tmp_path, should_stop=lambda: True))
    with pytest.raises(FitFailed, match="is of another fit \\(seed: 0, now 7\\); remove it"):
        example.fit(Run(threads=1, checkpoints=tmp_path, seed=7))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(FitFailed, match="cannot be read as a checkpoint"):
        example.fit(Run(threads=1, checkpoints=tmp_path))


def test_torch_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    expected = torch.rand(1, generator=torch.Generator().manual_seed(5)).item()
    example.fit(Run(threads=1))
    assert torch.rand(1).item() == expected
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_mixed_precision_learns_too() -> None:
    sink = MemorySink()
    example.fit(Run(threads=1, sink=sink, precision="bf16"))
    assert sink.metrics["validation:mse"] < 1.5


@pytest.mark.skipif(not cuda_device_count(), reason="there is no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_it_learns_on_cuda(precision: Any) -> None:
    sink = MemorySink()
    example.fit(Run(threads=1, sink=sink, precision=precision, device=Device("cuda", 0)))
    assert sink.metrics["validation:mse"] < 1.5


def test_sparse_rows_are_taken_as_they_are() -> None:
    matrix = scipy_sparse.random(20, 7, density=0.3, format="csr", random_state=0, dtype=np.float32)
    source = SparseRows(matrix, np.arange(20.0))
    rows = np.array([5, 0, 19, 5])
    indices, offsets, values, labels = source.take(rows)
    table = torch.eye(7)
    taken = torch.nn.functional.embedding_bag(
        indices, table, offsets, per_sample_weights=values, mode="sum"
    )
    np.testing.assert_allclose(taken.numpy(), matrix[rows].toarray(), atol=1e-7)
    assert labels.tolist() == [5, 0, 19, 5]


def test_a_sample_is_other_rows_in_each_epoch() -> None:
    matrix = scipy_sparse.eye(20, format="csr", dtype=np.float32)
    source = Sampled(SparseRows(matrix, np.arange(20.0)), 0.3)
    assert (len(source), source.count(4)) == (6, 2)
    epochs = [
        np.concatenate(list(source.batches(4, np.random.default_rng([0, epoch]))))
        for epoch in (0, 0, 1)
    ]
    assert all(len(set(rows.tolist())) == 6 for rows in epochs)
    assert (epochs[0] == epochs[1]).all()
    assert set(epochs[0].tolist()) != set(epochs[2].tolist())
    assert source.take(epochs[2])[-1].tolist() == epochs[2].tolist()
    assert len(Sampled(source, 0)) == 1
