"""The gRPC service training.v1.BatchTransform: transform jobs run by the serving process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, final

from training.calls import answered, page_size
from training.home import Store, home_of
from training.transforms import convert
from training.transforms.registry import TransformJobs
from training.transforms.runner import RunningTransform, submit_transform
from training.v1 import transform_pb2 as pb
from training.v1 import transform_pb2_grpc

__all__ = ["TransformService"]

Reply = TypeVar("Reply")


@final
class TransformService(transform_pb2_grpc.BatchTransformServicer):
    """Answers calls about transform jobs on a `grpc.aio` server; see `TrainingService`.

    Args:
        store_or_home: an embedded feature store, or its home folder.
        threads: most calls at work at once.
        scripts: whether models may run their own code, with the rights of this process.
    """

    def __init__(
        self, store_or_home: Store | str | Path, *, threads: int = 2, scripts: bool = False
    ) -> None:
        self._scripts = scripts
        self._store_or_home = store_or_home
        self._jobs = TransformJobs(home_of(store_or_home), scripts=scripts)
        self._running: set[RunningTransform] = set()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="transform")

    async def CreateTransformJob(  # noqa: D102 - the proto file says what it promises
        self, request: pb.CreateTransformJobRequest, context: Any
    ) -> pb.CreateTransformJobResponse:
        return await self._answer(context, lambda: self._create(request))

    async def DescribeTransformJob(  # noqa: D102
        self, request: pb.DescribeTransformJobRequest, context: Any
    ) -> pb.DescribeTransformJobResponse:
        return await self._answer(context, lambda: self._describe(request))

    async def ListTransformJobs(  # noqa: D102
        self, request: pb.ListTransformJobsRequest, context: Any
    ) -> pb.ListTransformJobsResponse:
        return await self._answer(context, lambda: self._list(request))

    async def StopTransformJob(  # noqa: D102
        self, request: pb.StopTransformJobRequest, context: Any
    ) -> pb.StopTransformJobResponse:
        return await self._answer(context, lambda: self._stop(request))

    def close(self) -> None:
        """Stop the jobs that this process runs, wait for their end, and let the threads go."""
        running = list(self._running)
        for job in running:
            job.stop()
        for job in running:
            job.wait()
        self._threads.shutdown()
        self._jobs.close()

    async def _answer(self, context: Any, work: Callable[[], Reply]) -> Reply:
        return await answered(context, self._threads, work)

    def _create(self, request: pb.CreateTransformJobRequest) -> pb.CreateTransformJobResponse:
        self._running = {job for job in self._running if not job.is_done}
        asked = convert.job_from_message(request)
        job = submit_transform(self._store_or_home, asked, scripts=self._scripts)
        self._running.add(job)
        return pb.CreateTransformJobResponse(transform_job_name=job.name)

    def _describe(self, request: pb.DescribeTransformJobRequest) -> pb.DescribeTransformJobResponse:
        known = self._jobs.describe(request.transform_job_name)
        return pb.DescribeTransformJobResponse(description=convert.description_to_message(known))

    def _list(self, request: pb.ListTransformJobsRequest) -> pb.ListTransformJobsResponse:
        size = page_size(request.max_results)
        found = self._jobs.list(
            name_contains=request.name_contains,
            status=request.status_equals or None,
            limit=size + 1,
            after=request.next_token,
        )
        page = found[:size]
        return pb.ListTransformJobsResponse(
            descriptions=[convert.description_to_message(known) for known in page],
            next_token=page[-1].job.transform_job_name if len(found) > size else "",
        )

    def _stop(self, request: pb.StopTransformJobRequest) -> pb.StopTransformJobResponse:
        self._jobs.stop(request.transform_job_name)
        return pb.StopTransformJobResponse()
