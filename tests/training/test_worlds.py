"""Fits in several processes: each algorithm finds what it finds in one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.case import case_of
from tests.training.flights import make_full_flights
from tests.training.world_process import FITS, RESUMED, fit, in_processes
from training import (
    Channel,
    ResourceConfig,
    TrainingJob,
    train,
)
from training.algorithms import find_algorithm
from training.data import Dataset, read_dataset
from training.errors import InvalidData, InvalidJob, TrainingStopped
from training.inputs import Inputs
from training.jobs.folder import JobFolder
from training.jobs.link import Linked, Meeting
from training.jobs.sharing import agreed, part_of
from training.run import MemorySink, Run
from training.world import HostLost

TWO = ResourceConfig(threads=1, device="cpu", instance_count=2)
# Bins of histograms depend on which rows are together.
TOLERANCE = {"xgboost": 0.02}


def test_two_processes_find_what_one_finds_also_after_a_stop(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("xgboost")
    spread = in_processes(tmp_path)
    for (name, more), (answers, metrics) in zip(FITS, spread[: len(FITS)], strict=True):
        alone, alone_metrics = fit(name, more)
        assert set(metrics) == set(alone_metrics), name
        if name == "kmeans":
            # Each has moved centres of its own, of which the best are kept.
            assert metrics["train:msd"] == pytest.approx(alone_metrics["train:msd"], rel=0.03)
            continue
        expected, got = np.array(alone, np.float64), np.array(answers, np.float64)
        tolerance = TOLERANCE.get(name, 1e-4)
        np.testing.assert_allclose(got, expected, atol=tolerance, err_msg=f"{name} {more}")
    # A fit that was stopped and has gone on is the undisturbed one.
    for fitted, resumed in zip(RESUMED, spread[len(FITS) :], strict=True):
        assert resumed == spread[FITS.index(fitted)], fitted


# -- jobs -------------------------------------------------------------------------------------


@pytest.fixture
def linear(tmp_path: Path) -> TrainingJob:
    """Linear Learner on two hosts, of which one has two files and the other one."""
    pytest.importorskip("torch")
    path = tmp_path / "flights"
    path.mkdir()
    for seed in (1, 2, 3):
        flights = make_full_flights(200, seed=seed).drop_columns(["origin"])
        pq.write_table(flights, path / f"{seed}.parquet")
    return TrainingJob(
        training_job_name="linear-1",
        algorithm_name="linear-learner",
        hyper_parameters={
            "predictor_type": "binary_classifier",
            "num_models": 1,
            "epochs": 3,
        },
        input_data_config=[
            Channel(
                channel_name="train", path=str(path), label="late", distribution="ShardedByS3Key"
            )
        ],
        resource_config=TWO,
    )


def test_a_job_of_torch_on_two_hosts_fits_all_their_rows(home: Path, linear: TrainingJob) -> None:
    found = train(home, linear).check()
    folder = JobFolder(home / "jobs" / "linear-1")
    for host, names in (("algo-1", ["1.parquet", "3.parquet"]), ("algo-2", ["2.parquet"])):
        train_files = folder.host(host).channel("train").iterdir()
        assert sorted(file.name for file in train_files) == names
        resources = json.loads((folder.host(host).config / "resourceconfig.json").read_text())
        assert resources["current_host"] == host
        assert resources["hosts"] == ["algo-1", "algo-2"]
    (channel,) = linear.input_data_config
    data = read_dataset(Path(str(channel.path)), channel="train", label="late")
    sink = MemorySink()
    find_algorithm("linear-learner").of(linear.hyper_parameters).fit(
        data, Run(threads=1, sink=sink)
    )
    assert found.metrics == pytest.approx(sink.metrics, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("lda", "SageMaker trains lda on one CPU")],
)
def test_an_algorithm_of_one_host_refuses_more(
    home: Path, tmp_path: Path, name: str, reason: str
) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(case_of(name).train(), path)
    job = TrainingJob(
        training_job_name="more-1",
        algorithm_name=name,
        hyper_parameters=case_of(name).values,
        input_data_config=[Channel(channel_name="train", path=str(path))],
        resource_config=TWO,
    )
    with pytest.raises(InvalidJob, match=f"{name}: InstanceCount=2, .* one host: {reason}"):
        train(home, job)
    assert not (home / "jobs" / "more-1").exists()


# -- which rows -------------------------------------------------------------------------------


def test_parts_are_all_rows_once_and_queries_are_not_cut() -> None:
    table = pa.table({"label": np.zeros(60), "x": np.arange(60)})
    data = Dataset.of(table)
    rows = [part_of(data, rank, 7).features["x"].to_pylist() for rank in range(7)]
    assert list(itertools.chain.from_iterable(rows)) == list(range(60))
    asked = replace(data, groups=np.arange(60) % 7)
    parts = [set(part_of(asked, rank, 3).groups.tolist()) for rank in range(3)]
    assert sorted(query for part in parts for query in part) == list(range(7))
    with pytest.raises(InvalidData, match="train: 8 hosts need as many queries, and there are 7"):
        part_of(asked, 0, 8)
    with pytest.raises(InvalidData, match="train: 61 hosts need as many rows, and there are 60"):
        part_of(data, 0, 61)


def test_hosts_agree_on_words_or_say_which_columns_differ() -> None:
    channel = Channel(channel_name="train", path="x")
    one = Inputs.of(pa.table({"sky": ["wet"], "wind": [1]}))
    two = Inputs.of(pa.table({"sky": ["dry"], "wind": [2.5]}))
    assert agreed([one, two], channel).columns[0].categories == ("dry", "wet")
    three = Inputs.of(pa.table({"sky": ["dry"], "rain": [2.5]}))
    with pytest.raises(
        InvalidData, match=r"algo-1 and algo-2 do not fit .*'wind' .* got column 'r"
    ):
        agreed([one, three], channel)


# -- the link ---------------------------------------------------------------------------------


def linked(meeting: Meeting, size: int) -> list[Linked]:
    with ThreadPoolExecutor(size) as pool:
        orders = [meeting.order(rank) for rank in range(size)]
        # A process inherits the listener; here it stays the meeting's.
        orders[0]["listener"] = os.dup(meeting.descriptor)
        return list(pool.map(lambda order: Linked.join(order, lambda: False), orders))


def test_values_are_gathered_in_order_and_a_stranger_is_sent_away() -> None:
    with contextlib.closing(Meeting(3)) as meeting:
        port = meeting.order(1)["port"]
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(bytes(36))
            worlds = linked(meeting, 3)
            assert stranger.recv(1) == b""
    with ThreadPoolExecutor(3) as pool:
        large = np.arange(100_000)
        found = list(pool.map(lambda world: world.gather((world.rank, large)), worlds))
    assert [[rank for rank, _ in values] for values in found] == [[0, 1, 2]] * 3
    assert np.array_equal(found[2][1][1], large)
    worlds[1].close()
    with pytest.raises(HostLost, match="algo-2 has ended"):
        worlds[0].gather(None)
    for world in worlds:
        world.close()


def test_a_stop_ends_the_wait_for_the_others() -> None:
    with contextlib.closing(Meeting(2)) as meeting:
        order = meeting.order(0) | {"listener": os.dup(meeting.descriptor)}
        with pytest.raises(TrainingStopped, match="stopped before all hosts had begun"):
            Linked.join(order, lambda: True)
        with pytest.raises(TrainingStopped, match="stopped before all hosts had begun"):
            Linked.join(meeting.order(1), lambda: True)
