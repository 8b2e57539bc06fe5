"""The gRPC service training.v1.Training: jobs run by the serving process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, final

from training import convert, convert_reading, convert_replay
from training.calls import answered, page_size
from training.errors import InvalidJob
from training.home import Store, home_of
from training.jobs.registry import TrainingJobs
from training.jobs.runner import RunningJob, submit
from training.kept_model import LeavingModel
from training.reading import JobReading
from training.replaying import Replayable, replay
from training.v1 import training_pb2 as pb
from training.v1 import training_pb2_grpc

__all__ = ["TrainingService"]

Reply = TypeVar("Reply")

_REPLAYS = 2


@final
class TrainingService(training_pb2_grpc.TrainingServicer):
    """Answers training calls on a `grpc.aio` server.

    The jobs run in processes of their own, under this process. Calls about a job may go to any
    server of the same home. An error ends the call with its status, and with its class in the
    trailing metadata; `training.connect` raises it again.

    Args:
        store_or_home: an embedded feature store, or its home folder.
        threads: most calls at work at once.
        scripts: whether jobs may run programs of this machine. They run with the rights of this
            process, so whoever may create jobs may then do what it may.
        replayable: the store whose models can be trained again; None: none can.
        caller: says who makes the call at hand, for the record; None: the user of the process.
    """

    def __init__(
        self,
        store_or_home: Store | str | Path,
        *,
        threads: int = 4,
        scripts: bool = False,
        replayable: Replayable | None = None,
        caller: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._replayable = replayable
        self._caller = caller
        self._scripts = scripts
        self._store_or_home = store_or_home
        self._jobs = TrainingJobs(home_of(store_or_home), scripts=scripts)
        self._jobs.settle()  # those that an earlier server, or this machine's last boot, has left
        self._closing = asyncio.Event()
        self._reading = JobReading(self._jobs, self._closing)
        self._running: set[RunningJob] = set()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="training")
        # A replay takes a thread until its job ends: others wait for their turn, not other calls.
        self._replays = ThreadPoolExecutor(_REPLAYS, thread_name_prefix="replay")

    async def CreateTrainingJob(  # noqa: D102 - the proto file says what it promises
        self, request: pb.CreateTrainingJobRequest, context: Any
    ) -> pb.CreateTrainingJobResponse:
        return await self._answer(context, lambda: self._create(request))

    async def DescribeTrainingJob(  # noqa: D102
        self, request: pb.DescribeTrainingJobRequest, context: Any
    ) -> pb.DescribeTrainingJobResponse:
        return await self._answer(context, lambda: self._describe(request))

    async def ReadTrainingJobLogs(  # noqa: D102
        self, request: pb.ReadTrainingJobLogsRequest, context: Any
    ) -> AsyncIterator[pb.ReadTrainingJobLogsResponse]:
        async for message in self._reading.logs(request, partial(self._answer, context)):
            yield message

    async def ReadTrainingJobMetrics(  # noqa: D102
        self, request: pb.ReadTrainingJobMetricsRequest, context: Any
    ) -> AsyncIterator[pb.ReadTrainingJobMetricsResponse]:
        async for message in self._reading.metrics(request, partial(self._answer, context)):
            yield message

    async def ReadTrainingJobReport(  # noqa: D102
        self, request: pb.ReadTrainingJobReportRequest, context: Any
    ) -> AsyncIterator[pb.ReadTrainingJobReportResponse]:
        async for message in self._reading.report(request, partial(self._answer, context)):
            yield message

    async def DescribeTrainingBudget(  # noqa: D102
        self, request: pb.DescribeTrainingBudgetRequest, context: Any
    ) -> pb.TrainingBudget:
        return await self._answer(
            context, lambda: convert_reading.budget_to_message(self._jobs.budget())
        )

    async def UpdateTrainingBudget(  # noqa: D102
        self, request: pb.UpdateTrainingBudgetRequest, context: Any
    ) -> pb.TrainingBudget:
        return await self._answer(context, lambda: self._update_budget(request))

    async def ListTrainingJobs(  # noqa: D102
        self, request: pb.ListTrainingJobsRequest, context: Any
    ) -> pb.ListTrainingJobsResponse:
        return await self._answer(context, lambda: self._list(request))

    async def StopTrainingJob(  # noqa: D102
        self, request: pb.StopTrainingJobRequest, context: Any
    ) -> pb.StopTrainingJobResponse:
        return await self._answer(context, lambda: self._stop(request))

    async def ReplayModel(  # noqa: D102
        self, request: pb.ReplayModelRequest, context: Any
    ) -> AsyncIterator[pb.ReplayModelResponse]:
        loop = asyncio.get_running_loop()
        said: asyncio.Queue[pb.ReplayModelResponse | None] = asyncio.Queue()
        started: list[RunningJob] = []
        is_gone = threading.Event()

        def say(message: pb.ReplayModelResponse | None) -> None:
            loop.call_soon_threadsafe(said.put_nowait, message)

        def begun(job: RunningJob) -> None:
            started.append(job)
            self._running.add(job)
            if is_gone.is_set():
                job.stop()

        asked = copy_context()  # it knows who calls
        kept = self._place_for_a_model() if request.keep else None

        def retrain() -> pb.ReplayModelResponse:
            try:
                keep = None if kept is None else kept.folder
                return self._replay(request.model, say, begun, keep)
            finally:
                if kept is not None and is_gone.is_set():
                    kept.remove()

        work = partial(asked.run, retrain)
        replaying = asyncio.ensure_future(self._answer(context, work, self._replays))
        replaying.add_done_callback(lambda done: said.put_nowait(None))
        try:
            while (message := await said.get()) is not None:
                yield message
            report = await replaying
            if kept is not None:
                while (piece := await self._answer(context, kept.next)) is not None:
                    yield piece
                kept.remove()
            yield report
        finally:
            # A caller that is gone wants no report. The job ends, and the record says so.
            is_gone.set()
            replaying.cancel()
            for job in started:
                job.stop()
            if kept is not None:
                kept.remove()

    def end_streams(self) -> None:
        """Let the calls that follow a job end where they are; called on the event loop."""
        self._closing.set()

    def close(self) -> None:
        """Stop the jobs that this process runs, wait for their end, and let the threads go."""
        running = list(self._running)
        for job in running:
            job.stop()
        for job in running:
            job.wait()
        self._threads.shutdown()
        self._replays.shutdown()
        self._jobs.close()

    async def _answer(
        self, context: Any, work: Callable[[], Reply], threads: ThreadPoolExecutor | None = None
    ) -> Reply:
        return await answered(context, threads or self._threads, work)

    def _create(self, request: pb.CreateTrainingJobRequest) -> pb.CreateTrainingJobResponse:
        self._running = {job for job in self._running if not job.is_done}
        asked = convert.job_from_message(request)
        job = submit(self._store_or_home, asked, scripts=self._scripts)
        self._running.add(job)
        return pb.CreateTrainingJobResponse(training_job_name=job.name)

    def _describe(self, request: pb.DescribeTrainingJobRequest) -> pb.DescribeTrainingJobResponse:
        known = self._jobs.describe(request.training_job_name)
        return pb.DescribeTrainingJobResponse(description=convert.description_to_message(known))

    def _update_budget(self, request: pb.UpdateTrainingBudgetRequest) -> pb.TrainingBudget:
        names = ("cores", "memory_mb", "gpus")
        changes = {name: getattr(request, name) for name in names if request.HasField(name)}
        if changes:
            self._jobs.set_budget(replace(self._jobs.budget(), **changes))
        return convert_reading.budget_to_message(self._jobs.budget())

    def _list(self, request: pb.ListTrainingJobsRequest) -> pb.ListTrainingJobsResponse:
        size = page_size(request.max_results)
        found = self._jobs.list(
            name_contains=request.name_contains,
            status=request.status_equals or None,
            limit=size + 1,
            after=request.next_token,
        )
        page = found[:size]
        return pb.ListTrainingJobsResponse(
            descriptions=[convert.description_to_message(known) for known in page],
            next_token=page[-1].job.training_job_name if len(found) > size else "",
        )

    def _stop(self, request: pb.StopTrainingJobRequest) -> pb.StopTrainingJobResponse:
        self._jobs.stop(request.training_job_name)
        return pb.StopTrainingJobResponse()

    def _place_for_a_model(self) -> LeavingModel | None:
        """Where a model waits; without a store nothing is trained again, and the call says so."""
        store = self._replayable
        return None if store is None else LeavingModel(store.home / "tmp")

    def _replay(
        self,
        model: str,
        say: Callable[[pb.ReplayModelResponse], None],
        begun: Callable[[RunningJob], None],
        keep: Path | None,
    ) -> pb.ReplayModelResponse:
        if self._replayable is None:
            raise InvalidJob(
                "this server keeps training jobs alone, and no datasets to train again with; ask "
                "the server of a home, as `featureline serve` starts it",
                field="model",
            )
        report = replay(
            self._replayable,
            model,
            keep=keep,
            on_progress=lambda seen: say(convert_replay.progress_to_message(seen)),
            on_job=begun,
            scripts=self._scripts,
            actor=self._caller(),
        )
        return convert_replay.report_to_message(report)
