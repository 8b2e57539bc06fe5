"""XGBoost on rows that do not fit into the job's memory."""

from __future__ import annotations

import re
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost

import training
from tests.training.flights import make_flights
from training.algorithms.tabular.boosting import external
from training.algorithms.tabular.boosting.learner import XGBoost
from training.algorithms.tabular.boosting.matrix import options_of
from training.algorithms.tabular.boosting.model import XGBoostModel
from training.algorithms.unsupervised.lda import LDA
from training.data import read_dataset
from training.errors import FitFailed, InvalidHyperparameter, InvalidJob, TrainingStopped
from training.run import MemorySink, Run
from training.streaming import Stream

CLASSIFY = {"num_round": 8, "objective": "binary:logistic", "max_depth": 4, "eval_metric": "auc"}
PART_BYTES = 8_000


def raw(model: XGBoostModel) -> bytes:
    return bytes(model.booster.save_raw("ubj"))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("flights")
    found = {}
    for seed, name in enumerate(("train", "validation")):
        found[name] = folder / f"{name}.parquet"
        pq.write_table(make_flights(2_000, seed=seed), found[name], row_group_size=300)
    return found


def streams(paths: dict[str, Path], folder: Path, *, part_bytes: int = PART_BYTES) -> list[Stream]:
    opened: list[Stream] = []
    for channel, path in paths.items():
        inputs = opened[0].inputs if opened else None
        opened.append(
            Stream.open(
                path,
                channel=channel,
                folder=folder,
                part_bytes=part_bytes,
                label="late",
                inputs=inputs,
            )
        )
    return opened


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"subsample": 0.6, "colsample_bynode": 0.6, "max_bin": 32},
        {"booster": "dart", "rate_drop": 0.3},
        {"tree_method": "hist", "grow_policy": "lossguide", "max_leaves": 9},
        {"sampling_method": "gradient_based", "subsample": 0.5, "eval_metric": "accuracy,logloss"},
        {"num_round": 60, "eta": 0.6, "early_stopping_rounds": 3},
    ],
    ids=lambda values: ",".join(values) or "plain",
)
def test_a_model_is_the_one_of_memory(
    paths: dict[str, Path], tmp_path: Path, values: dict[str, Any]
) -> None:
    algorithm = XGBoost.of({**CLASSIFY, **values})
    train = read_dataset(paths["train"], channel="train", label="late")
    held = read_dataset(
        paths["validation"], channel="validation", label="late", inputs=train.inputs
    )
    sinks = [MemorySink(), MemorySink()]
    expected = algorithm.fit(train, Run(threads=1, sink=sinks[0]), validation=held)
    parts, more = streams(paths, tmp_path)
    assert len(parts.bounds) > 5
    run = Run(threads=1, sink=sinks[1], scratch=tmp_path)
    got = algorithm.fit_stream(parts, run, validation=more)
    assert raw(got) == raw(expected)
    assert sinks[1].rows == sinks[0].rows
    assert list(tmp_path.iterdir()) == []


def test_a_column_of_many_values_gets_the_librarys_merged_bins(tmp_path: Path) -> None:
    """Sketches of parts are merged: the library promises equal rank errors, not equal bins."""
    random = np.random.default_rng(0)
    columns = {f"x{n}": random.normal(size=40_000) for n in range(4)}
    late = (columns["x0"] * columns["x1"] + random.normal(size=40_000) > 0).astype(float)
    pq.write_table(pa.table({"late": late, **columns}), tmp_path / "train.parquet")
    (parts,) = streams({"train": tmp_path / "train.parquet"}, tmp_path, part_bytes=200_000)
    assert len(parts.bounds) > 5
    algorithm = XGBoost.of(CLASSIFY)
    got = algorithm.fit_stream(parts, Run(threads=1, scratch=tmp_path))

    class Parts(xgboost.DataIter):
        def reset(self) -> None:
            self.left = iter(parts.parts())

        def next(self, input_data: Any) -> bool:
            part = next(self.left, None)
            if part is not None:
                options = options_of(part)
                options.pop("enable_categorical")
                input_data(**options)
            return part is not None

    values = {name: value for name, value in CLASSIFY.items() if name != "num_round"}
    plain = xgboost.train({**values, "nthread": 1}, xgboost.QuantileDMatrix(Parts(), nthread=1), 8)
    asked = next(parts.parts())
    expected = plain.predict(xgboost.DMatrix(asked.features))
    score = got.predict(asked.features)["score"].to_numpy()
    assert np.abs(score - expected).max() <= 1e-6


def test_intervals_queries_and_weights_go_with_their_parts(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    table = pq.read_table(paths["train"])
    count = len(table)
    more = {
        "qid": np.arange(count) // 7,
        "weight": np.arange(count) % 3 + 0.5,
        "until": np.where(np.arange(count) % 4 == 0, np.inf, 5.0),
    }
    for name, values in more.items():
        table = table.append_column(name, pa.array(values))
    since = pa.compute.add(table["late"].cast(pa.float64()), 1)
    table = table.append_column("since", since)
    pq.write_table(table, tmp_path / "train.parquet")
    features = ["wind", "delay", "seats"]
    for values, label in (
        ({"objective": "rank:ndcg", "eval_metric": "ndcg@5"}, "late"),
        ({"csv_weights": 1}, "late"),
        ({"objective": "survival:aft", "eval_metric": "aft-nloglik"}, "since+until"),
    ):
        algorithm = XGBoost.of({**CLASSIFY, **values})
        how = {
            "channel": "train",
            "label": label,
            "features": features,
            "beside": algorithm.beside(),
            "intervals": algorithm.intervals,
        }
        expected = algorithm.fit(read_dataset(tmp_path / "train.parquet", **how), Run(threads=1))
        stream = Stream.open(
            tmp_path / "train.parquet", folder=tmp_path, part_bytes=PART_BYTES, **how
        )
        assert len(stream.bounds) > 5
        got = algorithm.fit_stream(stream, Run(threads=1, scratch=tmp_path))
        assert raw(got) == raw(expected)


def test_sparse_rows_stay_sparse(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    lines = []
    for n in range(400):
        places = sorted(random.choice(50, 5, replace=False))
        lines.append(f"{n % 2} " + " ".join(f"{at}:{random.normal():.4f}" for at in places))
    path = tmp_path / "a.libsvm"
    path.write_text("\n".join(lines))
    algorithm = XGBoost.of(CLASSIFY)
    expected = algorithm.fit(read_dataset(path, channel="train"), Run(threads=1))
    (tmp_path / "parts").mkdir()
    stream = Stream.open(path, channel="train", folder=tmp_path / "parts", part_bytes=2_000)
    assert len(stream.bounds) > 4
    assert raw(algorithm.fit_stream(stream, Run(threads=1, scratch=tmp_path))) == raw(expected)


def test_a_checkpoint_is_gone_on_from(paths: dict[str, Path], tmp_path: Path) -> None:
    algorithm = XGBoost.of({**CLASSIFY, "subsample": 0.7})
    kept = tmp_path / "kept"
    parts, _ = streams(paths, tmp_path)
    asked = iter([False] * 3)
    stopped = Run(
        threads=1, scratch=tmp_path, checkpoints=kept, should_stop=lambda: next(asked, True)
    )
    with pytest.raises(TrainingStopped, match="stopped after round 4 of 8"):
        algorithm.fit_stream(parts, stopped)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    resumed = algorithm.fit_stream(parts, Run(threads=1, scratch=tmp_path, checkpoints=kept))
    assert raw(resumed) == raw(algorithm.fit_stream(parts, Run(threads=1, scratch=tmp_path)))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"booster": "gblinear", "max_depth": None}, "booster=gblinear reads whole columns"),
        ({"tree_method": "exact"}, "tree_method=exact sorts whole columns; use tree_method=hist"),
        ({"tree_method": "approx"}, "tree_method=approx sorts whole columns"),
        ({"process_type": "update", "updater": "prune"}, "updater changes trees in memory"),
        ({"_kfold": 3}, "_kfold takes rows from anywhere"),
    ],
)
def test_what_needs_all_rows_is_refused(
    paths: dict[str, Path], tmp_path: Path, values: dict[str, Any], reason: str
) -> None:
    given = {k: v for k, v in {**CLASSIFY, **values}.items() if v is not None}
    with pytest.raises(InvalidHyperparameter, match=f"do not fit into the job's memory.*{reason}"):
        XGBoost.of(given).fit_stream(streams(paths, tmp_path)[0], Run(scratch=tmp_path))


def test_other_algorithms_say_that_they_need_all_rows(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    topics = LDA.of({"num_topics": 2, "feature_dim": 3, "mini_batch_size": 10})
    with pytest.raises(InvalidJob, match="lda: the rows do not fit into memory, and it needs"):
        topics.fit_stream(streams(paths, tmp_path)[0], Run())


def test_a_full_disk_fails_before_the_library_ends_the_process(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(external.shutil, "disk_usage", lambda path: usage(10_000, 9_000, 1_000))
    with pytest.raises(FitFailed, match=r"the disk of .* is full: expected room for 0\.\d MB more"):
        XGBoost.of(CLASSIFY).fit_stream(
            streams(paths, tmp_path)[0], Run(threads=1, scratch=tmp_path)
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_job_with_little_memory_makes_the_same_model(tmp_path: Path, ending: str) -> None:
    table = make_flights(4_000, seed=3).select(["late", "wind", "delay", "origin"])
    path = tmp_path / f"train.{ending}"
    if ending == "parquet":
        pq.write_table(table, path)
    else:
        rows = ([*row.values()] for row in table.to_pylist())
        path.write_text(
            "\n".join(",".join("" if v is None else str(v) for v in row) for row in rows)
        )
    found = []
    for memory_mb in (0, 1):
        job = training.TrainingJob(
            training_job_name=f"little-{memory_mb}",
            algorithm_name="xgboost",
            hyper_parameters=CLASSIFY,
            input_data_config=[
                training.Channel(
                    channel_name=name,
                    path=str(path),
                    label="late" if ending == "parquet" else None,
                )
                for name in ("train", "validation")
            ],
            resource_config=training.ResourceConfig(threads=1, device="cpu", memory_mb=memory_mb),
        )
        found.append(training.train(tmp_path / "home", job).check())
    assert found[0].digest == found[1].digest
    jobs = tmp_path / "home" / "jobs"
    assert not list(jobs.rglob("scratch"))
    log = (jobs / "little-1" / "training.log").read_text()
    assert re.search(r"the data would take about \d+ MB and the job has 1 MB of memory", log)
    assert "would take about" not in (jobs / "little-0" / "training.log").read_text()


def test_hosts_whose_rows_do_not_fit_into_memory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(make_flights(4_000, seed=3).select(["late", "wind", "delay"]), path)
    job = training.TrainingJob(
        training_job_name="little",
        algorithm_name="xgboost",
        hyper_parameters=CLASSIFY,
        input_data_config=[
            training.Channel(channel_name=name, path=str(path), label="late")
            for name in ("train", "validation")
        ],
        resource_config=training.ResourceConfig(
            threads=1, device="cpu", memory_mb=1, instance_count=2
        ),
    )
    done = training.train(tmp_path / "home", job)
    assert "each of 2 hosts holds its rows in memory" in done.failure_reason
    assert "or set InstanceCount to 1, where rows stay on disk" in done.failure_reason
