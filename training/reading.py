"""Answers the calls that read on in a job: its logs, its metrics, its report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, TypeVar, final

from training import convert_reading
from training.errors import InvalidJob, TrainingUnavailable
from training.jobs.following import LOOK_S
from training.jobs.metricfile import MetricReader
from training.jobs.registry import TrainingJobs
from training.v1 import training_pb2 as pb

__all__ = ["JobReading"]

T = TypeVar("T")
Work = Callable[[Callable[[], T]], Awaitable[T]]

_AT_ONCE: Final = 16
"""Most pieces that one look takes: what a reader behind does not fetch is not read."""
_PART_BYTES: Final = 65_536


@final
class JobReading:
    """Reads for callers; a reader waits on the event loop, and takes a thread only to look.

    Args:
        jobs: of the home.
        closing: set when the server ends: nobody is followed any more.
    """

    def __init__(self, jobs: TrainingJobs, closing: asyncio.Event) -> None:
        self._jobs = jobs
        self._closing = closing

    async def logs(
        self, request: pb.ReadTrainingJobLogsRequest, work: Work[object]
    ) -> AsyncIterator[pb.ReadTrainingJobLogsResponse]:
        """Yield the pieces of a job's logs.

        Args:
            request: what is asked for.
            work: runs a function in a thread, and turns its errors into the call's end.
        """
        name = request.training_job_name
        reader = await _done(work, lambda: self._jobs.log_reader(name, dict(request.offsets)))
        async for piece in self._follow(name, reader.read, work, follow=request.follow):
            yield convert_reading.piece_to_message(piece)

    async def metrics(
        self, request: pb.ReadTrainingJobMetricsRequest, work: Work[object]
    ) -> AsyncIterator[pb.ReadTrainingJobMetricsResponse]:
        """Yield the values of a job's metrics; arguments as for `logs`."""
        name = request.training_job_name
        reader = await _done(work, lambda: self._metric_reader(name, request.offset))
        with reader:

            def read() -> Iterator[pb.ReadTrainingJobMetricsResponse]:
                for batch in reader.read():
                    yield from convert_reading.values_to_messages(batch, reader.offset)

            async for message in self._follow(name, read, work, follow=request.follow):
                yield message

    async def report(
        self, request: pb.ReadTrainingJobReportRequest, work: Work[object]
    ) -> AsyncIterator[pb.ReadTrainingJobReportResponse]:
        """Yield the parts of a job's report; arguments as for `logs`."""
        path = await _done(work, lambda: self._jobs.report(request.training_job_name))
        offset = 0
        while True:

            def part(offset: int = offset) -> bytes:
                with path.open("rb") as file:
                    file.seek(offset)
                    return file.read(_PART_BYTES)

            data = await _done(work, part)
            if not data:
                return
            offset += len(data)
            yield pb.ReadTrainingJobReportResponse(data=data)

    def _metric_reader(self, name: str, offset: int) -> MetricReader:
        if offset < 0:
            raise InvalidJob(f"offset: expected 0 or more values, got {offset}", field="offset")
        self._jobs.has_ended(name)  # that there is such a job
        return MetricReader(self._jobs.folder(name).metrics, offset)

    async def _follow(
        self,
        name: str,
        read: Callable[[], Iterable[T]],
        work: Work[object],
        *,
        follow: bool,
    ) -> AsyncIterator[T]:
        while True:
            # Asked before reading: what is written before the end is read.
            is_over = not follow or await _done(work, lambda: self._jobs.has_ended(name))
            left = iter(read())

            def some(left: Iterator[T] = left) -> list[T]:
                return list(islice(left, _AT_ONCE))

            while pieces := await _done(work, some):
                for piece in pieces:
                    yield piece
            if is_over:
                return
            if self._closing.is_set():
                await _done(work, _end)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), LOOK_S)


def _end() -> None:
    raise TrainingUnavailable(
        "the server is shutting down; read on from the last offset, another one may answer"
    )


async def _done(work: Work[object], function: Callable[[], T]) -> T:
    found: T = await work(function)  # type: ignore[assignment]
    return found
