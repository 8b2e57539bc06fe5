"""Metrics as an Arrow stream, metrics from a log, and logs that are followed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa

from training.jobs.execution import MetricDefinition
from training.jobs.following import LogReader, follow_logs, log_lines
from training.jobs.logscan import LogMetric, LogScanner
from training.jobs.metricfile import METRIC_SCHEMA, MetricWriter, read_metrics


def test_metrics_are_readable_while_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.arrows"
    assert read_metrics(path).schema == METRIC_SCHEMA
    with MetricWriter(path, "job-1", every_s=600) as writer:
        writer.add("loss", 0.5, host="algo-1", micros=1, step=0)
        writer.flush()
        writer.add("loss", 0.25, host="algo-2", micros=2, epoch=1)
        writer.flush(due=True)
        assert read_metrics(path)["value"].to_pylist() == [0.5]
    table = read_metrics(path)
    assert table.schema == METRIC_SCHEMA
    assert table.drop(["time"]).to_pylist()[1] == {
        "job": "job-1",
        "host": "algo-2",
        "step": None,
        "epoch": 1,
        "name": "loss",
        "value": 0.25,
    }
    # Any reader of Arrow reads the file.
    with pa.ipc.open_stream(path) as stream:
        assert stream.read_all().equals(table)


def test_a_stream_that_was_cut_off_gives_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.arrows"
    with MetricWriter(path, "job-1") as writer:
        for value in range(3):
            writer.add("loss", value, host="algo-1", micros=value)
            writer.flush()
    whole = path.read_bytes()
    lengths = set()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        lengths.add(len(read_metrics(path)))
    assert lengths == {0, 1, 2, 3}


def test_metrics_are_found_in_whole_lines_that_come_in_parts(tmp_path: Path) -> None:
    log = tmp_path / "training.log"
    definitions = [
        MetricDefinition(name="loss", regex=r"train loss <loss>=(\S+)"),
        MetricDefinition(name="accuracy", regex=r"accuracy=(\S+)"),
    ]
    scanner = LogScanner(log, definitions)
    assert list(scanner.scan()) == []
    log.write_text("#quality_metric: host=algo-2, epoch=3, train loss <loss>=0.4")
    assert list(scanner.scan()) == []
    with log.open("a") as file:
        file.write("1\nEpoch[7] Validation-accuracy=0.77 \nloss of nothing\naccuracy=nan\n")
    assert list(scanner.scan()) == [
        LogMetric("loss", 0.41, "algo-2", 3),
        LogMetric("accuracy", 0.77, None, 7),
    ]
    with log.open("a") as file:
        file.write("accuracy=0.9")
    assert list(scanner.scan()) == []
    assert list(scanner.scan(final=True)) == [LogMetric("accuracy", 0.9)]
    assert list(scanner.scan(final=True)) == []


def test_a_log_is_followed_to_the_end(tmp_path: Path) -> None:
    logs = {"algo-1": tmp_path / "1", "algo-2": tmp_path / "2"}
    parts = iter([("1", "one\ntw"), ("2", "other\n"), ("1", "o\nlast")])
    calls = itertools.count()

    def has_ended() -> bool:
        if (part := next(parts, None)) is not None:
            with (tmp_path / part[0]).open("a") as file:
                file.write(part[1])
        return next(calls) == 3

    pieces = follow_logs(LogReader(logs), has_ended, look_s=0)
    assert list(log_lines(pieces, hosts=2)) == [
        *("algo-1: one", "algo-2: other", "algo-1: two", "algo-1: last")
    ]
