"""Between replays as values and their protobuf messages."""

from __future__ import annotations

from training.jobs.job import SecondaryStatus
from training.jobs.result import Progress
from training.replaying import ReplayReport, ReplayStep
from training.v1 import training_pb2 as pb

__all__ = [
    "progress_from_message",
    "progress_to_message",
    "report_from_message",
    "report_to_message",
]


def progress_to_message(seen: Progress) -> pb.ReplayModelResponse:
    """Write how far a replay is."""
    return pb.ReplayModelResponse(
        progress=pb.ReplayModelResponse.Progress(
            job=seen.job,
            status=seen.status.value,
            done=seen.done,
            total=seen.total,
            metrics=dict(seen.metrics),
        )
    )


def progress_from_message(message: pb.ReplayModelResponse.Progress) -> Progress:
    """Read how far a replay is."""
    return Progress(
        job=message.job,
        status=SecondaryStatus(message.status),
        done=message.done,
        total=message.total,
        metrics=dict(message.metrics),
    )


def report_to_message(report: ReplayReport) -> pb.ReplayModelResponse:
    """Write what came of a replay."""
    return pb.ReplayModelResponse(
        report=pb.ReplayModelResponse.Report(
            model=report.model,
            digest=report.digest,
            job=report.job,
            verdict=report.verdict,
            steps=[pb.ReplayModelResponse.Step(**vars(step)) for step in report.steps],
            reason=report.reason,
            recorded=report.recorded,
        )
    )


def report_from_message(message: pb.ReplayModelResponse.Report) -> ReplayReport:
    """Read what came of a replay."""
    return ReplayReport(
        message.model,
        message.digest,
        message.job,
        message.verdict,
        tuple(
            ReplayStep(step.name, step.verdict, step.expected, step.got, step.note)
            for step in message.steps
        ),
        message.reason,
        message.recorded,
    )
