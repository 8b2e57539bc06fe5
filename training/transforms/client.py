"""The transform jobs of a server, over gRPC, in the words of `TransformJobs`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, final

import grpc

from training.jobs.job import TrainingJobStatus
from training.transforms import convert
from training.transforms.description import (
    TransformJobDescription,
    TransformProgress,
    TransformResult,
)
from training.transforms.job import TransformJob
from training.v1 import transform_pb2 as pb
from training.v1 import transform_pb2_grpc

__all__ = ["TransformClient"]

Reply = TypeVar("Reply")


@final
class TransformClient:
    """Transform jobs somewhere else; see `TrainingClient.transforms`.

    The paths of models, inputs and answers are the server's.

    Args:
        channel: of the training client.
        call: makes a call, and raises the errors of the embedded ones.
    """

    def __init__(
        self, channel: grpc.Channel, call: Callable[[Callable[..., Any], object], Any]
    ) -> None:
        self._call = call
        self._stub = transform_pb2_grpc.BatchTransformStub(channel)

    def submit(self, job: TransformJob) -> str:
        """Start a job on the server and return its name."""
        reply: pb.CreateTransformJobResponse = self._call(
            self._stub.CreateTransformJob, convert.job_to_message(job)
        )
        return reply.transform_job_name

    def describe(self, name: str) -> TransformJobDescription:
        """Return what is known of a job; see `TransformJobs.describe`."""
        reply: pb.DescribeTransformJobResponse = self._call(
            self._stub.DescribeTransformJob,
            pb.DescribeTransformJobRequest(transform_job_name=name),
        )
        return convert.description_from_message(reply.description)

    def list(
        self, *, name_contains: str = "", status: TrainingJobStatus | str | None = None
    ) -> Iterator[TransformJobDescription]:
        """Yield the jobs in the order of their creation; see `TransformJobs.list`."""
        token = ""
        while True:
            reply: pb.ListTransformJobsResponse = self._call(
                self._stub.ListTransformJobs,
                pb.ListTransformJobsRequest(
                    name_contains=name_contains,
                    status_equals="" if status is None else str(status),
                    next_token=token,
                ),
            )
            yield from map(convert.description_from_message, reply.descriptions)
            token = reply.next_token
            if not token:
                return

    def stop(self, name: str) -> None:
        """Ask a job to stop; see `TransformJobs.stop`."""
        self._call(self._stub.StopTransformJob, pb.StopTransformJobRequest(transform_job_name=name))

    def wait(
        self,
        name: str,
        *,
        on_progress: Callable[[TransformProgress], None] | None = None,
        poll_s: float = 0.5,
    ) -> TransformResult:
        """Wait for the end of a job.

        Args:
            name: of the job.
            on_progress: called when its status or the number of records changes.
            poll_s: how often to ask, in seconds.
        """
        seen: TransformProgress | None = None
        while True:
            known = self.describe(name)
            progress = TransformProgress(
                job=name, status=known.secondary_status, records=known.records, files=known.files
            )
            if on_progress is not None and progress != seen:
                on_progress(progress)
            seen = progress
            if known.status.is_final:
                return known.result()
            time.sleep(poll_s)
