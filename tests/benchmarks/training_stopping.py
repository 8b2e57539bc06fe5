"""How long a job goes on after it was asked to stop.

`python -m tests.benchmarks.training_stopping [NAME …]` prints a table of a long job of each
algorithm, and of a batch transform. They are asked through the registry, as another process would,
at some moments after their data is in place, reading it included.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training import (
    Channel,
    ResourceConfig,
    TrainingJob,
    TrainingJobs,
    TransformInput,
    TransformJob,
    TransformJobs,
    TransformOutput,
    submit,
    submit_transform,
    train,
)

_AFTER_S: Final = (0.1, 1.0, 4.0)
_ALONE: Final = ResourceConfig(threads=1, device="cpu")
_RANDOM: Final = np.random.default_rng(0)


@final
@dataclass(frozen=True)
class _Long:
    """A job of an algorithm that takes longer than anybody waits for it here."""

    rows: Callable[[], pa.Table]
    values: Mapping[str, Any]
    label: str | None = None


def _numbers(*, label: bool, rows: int = 300_000) -> pa.Table:
    matrix = _RANDOM.normal(size=(rows, 30)).astype(np.float32)
    columns = {f"f{place}": matrix[:, place] for place in range(30)}
    wanted = {"y": (matrix[:, 0] + _RANDOM.normal(size=rows) > 0).astype(np.int64)}
    return pa.table(columns | (wanted if label else {}))


def _documents() -> pa.Table:
    counts = _RANDOM.poisson(0.3, size=(5_000, 1_000)).astype(np.float32)
    return pa.table({f"w{place}": counts[:, place] for place in range(1_000)})


def _logins() -> pa.Table:
    users, last = _RANDOM.integers(0, 5_000, 200_000), _RANDOM.integers(0, 250, 200_000)
    addresses = [f"10.{u % 250}.{u // 250}.{n}" for u, n in zip(users, last, strict=True)]
    return pa.table({"entity": [f"u{user}" for user in users], "address": addresses})


def _pairs() -> pa.Table:
    sides = {side: list(_RANDOM.integers(1, 20_000, (20_000, 8))) for side in ("in0", "in1")}
    return pa.table({"label": _RANDOM.integers(0, 2, 20_000), **sides})


_TWO: Final = {"predictor_type": "binary_classifier"}
_WIDTH: Final = {"feature_dim": 30}
_WORDS: Final = {"feature_dim": 1_000}
_LONG: Final[Mapping[str, _Long]] = {
    "linear-learner": _Long(
        lambda: _numbers(label=True),
        {**_TWO, "epochs": 1_000, "early_stopping_patience": 1_000},
        "y",
    ),
    "xgboost": _Long(
        lambda: _numbers(label=True),
        {"num_round": 2_000, "max_depth": 8, "objective": "binary:logistic"},
        "y",
    ),
    "knn": _Long(
        lambda: _numbers(label=True),
        {
            **_WIDTH,
            "k": 5,
            "sample_size": 300_000,
            "predictor_type": "classifier",
            "index_type": "faiss.IVFFlat",
            "faiss_index_ivf_nlists": 4_000,
        },
        "y",
    ),
    "kmeans": _Long(lambda: _numbers(label=False), {**_WIDTH, "k": 100, "epochs": 500}),
    "pca": _Long(
        lambda: _numbers(label=False, rows=600_000),
        {**_WIDTH, "num_components": 10, "mini_batch_size": 2},
    ),
    "factorization-machines": _Long(
        lambda: _numbers(label=True), {**_WIDTH, **_TWO, "num_factors": 64, "epochs": 500}, "y"
    ),
    "randomcutforest": _Long(
        lambda: _numbers(label=False),
        {**_WIDTH, "num_trees": 1_000, "num_samples_per_tree": 2_048},
    ),
    "ipinsights": _Long(_logins, {"num_entity_vectors": 200_000, "vector_dim": 128, "epochs": 500}),
    "lda": _Long(_documents, {**_WORDS, "num_topics": 100, "mini_batch_size": 5_000}),
    "ntm": _Long(
        _documents, {**_WORDS, "num_topics": 50, "epochs": 1_000, "num_patience_epochs": 1_000}
    ),
    "object2vec": _Long(
        _pairs,
        {
            "enc0_max_seq_len": 8,
            "enc0_vocab_size": 20_000,
            "enc0_network": "pooled_embedding",
            "epochs": 100,
            "mini_batch_size": 256,
        },
        "label",
    ),
}


def main(names: Sequence[str]) -> int:
    """Print a table of the named algorithms, or of all and the transform."""
    unknown = set(names) - {*_LONG, "transform"}
    if unknown:
        print(f"expected {', '.join(_LONG)} or transform, got {', '.join(sorted(unknown))}")
        return 2
    print("| job | " + " | ".join(f"asked after {after} s" for after in _AFTER_S) + " |")
    print("| --- |" + " --- |" * len(_AFTER_S))
    with tempfile.TemporaryDirectory() as folder:
        for name in names or [*_LONG, "transform"]:
            measure = _transform if name == "transform" else _training
            took = [measure(name, after, Path(folder)) for after in _AFTER_S]
            print(f"| {name} | " + " | ".join(took) + " |", flush=True)
    return 0


def _training(name: str, after: float, folder: Path) -> str:
    long, path = _LONG[name], folder / f"{name}.parquet"
    if not path.exists():
        pq.write_table(long.rows(), path)
    job = TrainingJob(
        training_job_name=f"{name}-{round(after * 10)}",
        algorithm_name=name,
        hyper_parameters=long.values,
        input_data_config=[Channel(channel_name="train", path=str(path), label=long.label)],
        resource_config=_ALONE,
    )
    with TrainingJobs(folder / "home") as jobs:
        running = submit(folder / "home", job)
        while jobs.describe(running.name).secondary_status.value in ("Starting", "Downloading"):
            time.sleep(0.01)
        return _stopped(lambda: jobs.stop(running.name), running, after)


def _transform(name: str, after: float, folder: Path) -> str:
    home, rows = folder / "home", folder / "asked.parquet"
    if not rows.exists():
        table = _numbers(label=True, rows=1_000_000)
        pq.write_table(table.drop_columns(["y"]), rows)
        pq.write_table(table.slice(0, 2_000), folder / "few.parquet")
        channel = Channel(channel_name="train", path=str(folder / "few.parquet"), label="y")
        values = {"num_round": 300, "objective": "binary:logistic"}
        job = TrainingJob(
            training_job_name="model",
            algorithm_name="xgboost",
            hyper_parameters=values,
            input_data_config=[channel],
            resource_config=_ALONE,
        )
        train(home, job).check()
    asked = TransformJob(
        transform_job_name=f"{name}-{round(after * 10)}",
        model_name="model",
        transform_input=TransformInput(path=str(rows)),
        # Not of the same question, so that none goes on from what another has answered.
        transform_output=TransformOutput(path=str(folder / "answers")),
        environment={"SAGEMAKER_RUN": str(after)},
        transform_resources=_ALONE,
    )
    with TransformJobs(home) as jobs:
        running = submit_transform(home, asked)
        while jobs.describe(running.name).secondary_status.value in ("Starting", "Downloading"):
            time.sleep(0.01)
        return _stopped(lambda: jobs.stop(running.name), running, after)


def _stopped(stop: Callable[[], None], running: Any, after: float) -> str:
    time.sleep(after)
    if running.is_done:
        return "it was done"
    began = time.monotonic()
    stop()
    running.wait()
    return f"{time.monotonic() - began:.2f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
