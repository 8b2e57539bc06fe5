"""The gRPC service training.v1.Training: jobs run by the serving process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, final

import grpc

from featurestore.errors import FeatureStoreError
from lineage.errors import LineageError
from lineage.wire.trailer import fit_text
from training import convert, convert_replay
from training.errors import InvalidJob, TrainingError
from training.home import Store, home_of
from training.jobs.registry import TrainingJobs
from training.jobs.runner import RunningJob, submit
from training.jobs.script import SCRIPT
from training.replaying import Replayable, replay
from training.v1 import training_pb2 as pb
from training.v1 import training_pb2_grpc

__all__ = ["TrainingService"]

Reply = TypeVar("Reply")

_PAGE = 100
_REPLAYS = 2

logger = logging.getLogger(__name__)


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
        self._jobs = TrainingJobs(home_of(store_or_home))
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
        work = partial(asked.run, self._replay, request.model, say, begun)
        replaying = asyncio.ensure_future(self._answer(context, work, self._replays))
        replaying.add_done_callback(lambda done: said.put_nowait(None))
        try:
            while (message := await said.get()) is not None:
                yield message
            yield await replaying
        finally:
            # A caller that is gone wants no report. The job ends, and the record says so.
            is_gone.set()
            replaying.cancel()
            for job in started:
                job.stop()

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
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(threads or self._threads, work)
        except TrainingError as error:
            await context.abort(
                grpc.StatusCode[error.code],
                fit_text(error.message),
                convert.error_to_metadata(error),
            )
            raise AssertionError("abort never returns") from error
        except (FeatureStoreError, LineageError):
            raise  # whoever serves answers these
        except Exception:
            # The outermost frame of a call.
            logger.exception("a training call failed")
            await context.abort(
                grpc.StatusCode.INTERNAL, "the call failed inside the server; its log has the cause"
            )
            raise

    def _create(self, request: pb.CreateTrainingJobRequest) -> pb.CreateTrainingJobResponse:
        self._running = {job for job in self._running if not job.is_done}
        asked = convert.job_from_message(request)
        if asked.algorithm_name == SCRIPT and not self._scripts:
            raise InvalidJob(
                "this server runs no programs of its callers; whoever runs it allows them with "
                "`featureline serve --scripts`",
                field="AlgorithmName",
            )
        job = submit(self._store_or_home, asked)
        self._running.add(job)
        return pb.CreateTrainingJobResponse(training_job_name=job.name)

    def _describe(self, request: pb.DescribeTrainingJobRequest) -> pb.DescribeTrainingJobResponse:
        known = self._jobs.describe(request.training_job_name)
        return pb.DescribeTrainingJobResponse(description=convert.description_to_message(known))

    def _list(self, request: pb.ListTrainingJobsRequest) -> pb.ListTrainingJobsResponse:
        if not 0 <= request.max_results <= _PAGE:
            raise InvalidJob(
                f"max_results: expected 1 to {_PAGE}, got {request.max_results}",
                field="max_results",
            )
        size = request.max_results or _PAGE
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

    def _replay(
        self,
        model: str,
        say: Callable[[pb.ReplayModelResponse], None],
        begun: Callable[[RunningJob], None],
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
            on_progress=lambda seen: say(convert_replay.progress_to_message(seen)),
            on_job=begun,
            scripts=self._scripts,
            actor=self._caller(),
        )
        return convert_replay.report_to_message(report)
