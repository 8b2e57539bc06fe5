"""Between what a job has written and the protobuf messages it is read by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from training.jobs.budget import Budget
from training.jobs.following import LogPiece
from training.jobs.metricfile import METRIC_SCHEMA
from training.v1 import training_pb2 as pb

__all__ = [
    "budget_from_message",
    "budget_to_message",
    "piece_from_message",
    "piece_to_message",
    "values_from_message",
    "values_to_messages",
]

_ROWS: Final = 1024


def piece_to_message(piece: LogPiece) -> pb.ReadTrainingJobLogsResponse:
    """Write a piece of a log."""
    return pb.ReadTrainingJobLogsResponse(host=piece.host, data=piece.data, offset=piece.offset)


def piece_from_message(message: Any) -> LogPiece:
    """Read a piece of a log."""
    return LogPiece(message.host, message.data, message.offset)


def values_to_messages(
    batch: pa.RecordBatch, offset: int
) -> Iterator[pb.ReadTrainingJobMetricsResponse]:
    """Write values of metrics, at most 1,024 a message.

    Args:
        batch: columns as in `METRIC_SCHEMA`.
        offset: how many values there were up to the batch's end.
    """
    first = offset - len(batch)
    for start in range(0, len(batch), _ROWS):
        part = batch.slice(start, _ROWS)
        columns = (
            *(part[name].to_pylist() for name in ("host", "step", "epoch", "name", "value")),
            part["time"].cast(pa.int64()).to_pylist(),
        )
        yield pb.ReadTrainingJobMetricsResponse(
            values=[
                pb.MetricValue(
                    host=host, step=step, epoch=epoch, name=name, value=value, time_us=at
                )
                for host, step, epoch, name, value, at in zip(*columns, strict=True)
            ],
            offset=first + start + len(part),
        )


def values_from_message(message: Any, job: str) -> pa.RecordBatch:
    """Read values of a job's metrics."""
    return pa.RecordBatch.from_pylist(
        [
            {
                "job": job,
                "host": value.host,
                "step": value.step if value.HasField("step") else None,
                "epoch": value.epoch if value.HasField("epoch") else None,
                "name": value.name,
                "value": value.value,
                "time": value.time_us,
            }
            for value in message.values
        ],
        METRIC_SCHEMA,
    )


def budget_to_message(budget: Budget) -> pb.TrainingBudget:
    """Write a budget."""
    return pb.TrainingBudget(cores=budget.cores, memory_mb=budget.memory_mb, gpus=budget.gpus)


def budget_from_message(message: Any) -> Budget:
    """Read a budget."""
    return Budget(cores=message.cores, memory_mb=message.memory_mb, gpus=message.gpus)
