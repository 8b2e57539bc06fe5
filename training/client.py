"""The training jobs of a server, over gRPC, in the words of `TrainingJobs` and `submit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, final

import grpc
import pyarrow as pa

from lineage.errors import InvalidLogin as LineageInvalidLogin
from lineage.wire.channel import ClientTls, Login
from lineage.wire.handshake import why_unreachable
from training import convert, convert_reading, convert_replay
from training.errors import (
    AccessDenied,
    InternalError,
    InvalidLogin,
    TrainingError,
    TrainingUnavailable,
    Unauthenticated,
)
from training.jobs.budget import Budget
from training.jobs.description import TrainingJobDescription
from training.jobs.following import LogPiece, log_lines
from training.jobs.job import TrainingJob, TrainingJobStatus
from training.jobs.metricfile import METRIC_SCHEMA
from training.jobs.result import JobResult, Progress
from training.kept_model import ArrivingModel
from training.replaying import ReplayReport
from training.transforms.client import TransformClient
from training.v1 import training_pb2 as pb
from training.v1 import training_pb2_grpc

__all__ = ["TrainingClient", "connect"]

Reply = TypeVar("Reply")

_AGAIN_S: Final = 0.5


def connect(
    target: str,
    *,
    token: str | None = None,
    tls: ClientTls | None = None,
    plaintext_token: bool = False,
    timeout_s: float = 30.0,
) -> TrainingClient:
    """Return the training jobs of the server at `target` (`host:port`).

    Connects with the first call.

    Args:
        target: address of the server.
        token: as `featureline token create` printed it; None: `$FEATURELINE_TOKEN`, if set.
        tls: None: as `$FEATURELINE_TLS_CA`, `_CERT` and `_KEY` say, else plaintext.
        plaintext_token: send the token in plaintext to other machines, too; see
            `featurestore.connect`.
        timeout_s: for each call, in seconds.

    Raises:
        InvalidLogin: the token or the files of TLS cannot be used, or the token would travel to
            another machine in clear text.
    """
    try:
        login = Login.of(token, tls, plaintext_token=plaintext_token)
        channel = login.channel(target)
    except LineageInvalidLogin as error:
        raise InvalidLogin(str(error)) from error
    return TrainingClient(channel, target=target, login=login, timeout_s=timeout_s)


@final
class TrainingClient:
    """Training jobs somewhere else; the paths of channels and models are the server's.

    Raises the errors of the embedded calls, and TrainingUnavailable when no server answers.

    Attributes:
        transforms: the transform jobs of the same server.

    Args:
        channel: closed by `close`.
        target: where it leads, for messages.
        login: what made the channel, and each call carries.
        timeout_s: for each call, in seconds.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        target: str,
        login: Login,
        timeout_s: float,
    ) -> None:
        self._channel = channel
        self._target = target
        self._timeout_s = timeout_s
        self._login = login
        self._stub = training_pb2_grpc.TrainingStub(channel)
        self.transforms = TransformClient(channel, self._call)

    def submit(self, job: TrainingJob) -> str:
        """Start a job on the server and return its name."""
        reply: pb.CreateTrainingJobResponse = self._call(
            self._stub.CreateTrainingJob, convert.job_to_message(job)
        )
        return reply.training_job_name

    def describe(self, name: str) -> TrainingJobDescription:
        """Return what is known of a job; see `TrainingJobs.describe`."""
        reply: pb.DescribeTrainingJobResponse = self._call(
            self._stub.DescribeTrainingJob, pb.DescribeTrainingJobRequest(training_job_name=name)
        )
        return convert.description_from_message(reply.description)

    def list(
        self, *, name_contains: str = "", status: TrainingJobStatus | str | None = None
    ) -> Iterator[TrainingJobDescription]:
        """Yield the jobs in the order of their creation; see `TrainingJobs.list`."""
        token = ""
        while True:
            reply: pb.ListTrainingJobsResponse = self._call(
                self._stub.ListTrainingJobs,
                pb.ListTrainingJobsRequest(
                    name_contains=name_contains,
                    status_equals="" if status is None else str(status),
                    next_token=token,
                ),
            )
            yield from map(convert.description_from_message, reply.descriptions)
            token = reply.next_token
            if not token:
                return

    def logs(self, name: str, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines that a job has printed; see `TrainingJobs.logs`.

        A connection that breaks is made again, and reading goes on where it was. Closing the
        iterator ends the call.
        """
        hosts = self.describe(name).job.resource_config.instance_count
        return log_lines(self.log_pieces(name, follow=follow), hosts)

    def log_pieces(
        self, name: str, *, follow: bool = False, offsets: Mapping[str, int] | None = None
    ) -> Iterator[LogPiece]:
        """Yield what a job has printed piece by piece, from where a reader was.

        Args:
            name: of the job.
            follow: go on until it ends.
            offsets: by host, how many bytes of its log to leave out: of its last piece.
        """
        known = dict(offsets or {})

        def asked() -> pb.ReadTrainingJobLogsRequest:
            return pb.ReadTrainingJobLogsRequest(
                training_job_name=name, follow=follow, offsets=known
            )

        for message in self._stream(self._stub.ReadTrainingJobLogs, asked, follow=follow):
            piece = convert_reading.piece_from_message(message)
            known[piece.host] = piece.offset
            yield piece

    def metrics(self, name: str) -> pa.Table:
        """Return every metric a job has reported so far; see `TrainingJobs.metrics`."""
        batches = self._metrics(name, follow=False, offset=0)
        return pa.Table.from_batches(batches, METRIC_SCHEMA)

    def follow_metrics(self, name: str, *, offset: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield the values of a job's metrics as they come; see `TrainingJobs.follow_metrics`."""
        return self._metrics(name, follow=True, offset=offset)

    def _metrics(self, name: str, *, follow: bool, offset: int) -> Iterator[pa.RecordBatch]:
        known = offset

        def asked() -> pb.ReadTrainingJobMetricsRequest:
            return pb.ReadTrainingJobMetricsRequest(
                training_job_name=name, follow=follow, offset=known
            )

        for message in self._stream(self._stub.ReadTrainingJobMetrics, asked, follow=follow):
            known = message.offset
            yield convert_reading.values_from_message(message, name)

    def report(self, name: str) -> bytes:
        """Return the page on how a job's model was measured, as HTML.

        Raises:
            ReportNotFound: it made none, or none yet.
            TrainingJobNotFound: there is no such job.
        """
        asked = pb.ReadTrainingJobReportRequest(training_job_name=name)
        metadata = self._login.call_metadata()
        with self._explained(metadata):
            call = self._stub.ReadTrainingJobReport(
                asked, timeout=self._timeout_s, metadata=metadata
            )
            return b"".join(message.data for message in call)

    def budget(self) -> Budget:
        """Return what the jobs of the server may use at once."""
        reply: pb.TrainingBudget = self._call(
            self._stub.DescribeTrainingBudget, pb.DescribeTrainingBudgetRequest()
        )
        return convert_reading.budget_from_message(reply)

    def set_budget(self, budget: Budget) -> None:
        """Say what the jobs of the server may use at once; see `TrainingJobs.set_budget`."""
        self._call(
            self._stub.UpdateTrainingBudget,
            pb.UpdateTrainingBudgetRequest(
                cores=budget.cores, memory_mb=budget.memory_mb, gpus=budget.gpus
            ),
        )

    def stop(self, name: str) -> None:
        """Ask a job to stop; see `TrainingJobs.stop`."""
        self._call(self._stub.StopTrainingJob, pb.StopTrainingJobRequest(training_job_name=name))

    def wait(
        self,
        name: str,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        poll_s: float = 0.5,
    ) -> JobResult:
        """Wait for the end of a job.

        Args:
            name: of the job.
            on_progress: called when its status or a metric changes.
            poll_s: how often to ask, in seconds.
        """
        seen: Progress | None = None
        while True:
            known = self.describe(name)
            metrics = {metric.name: metric.value for metric in known.final_metrics}
            progress = Progress(job=name, status=known.secondary_status, metrics=metrics)
            if on_progress is not None and progress != seen:
                on_progress(progress)
            seen = progress
            if known.status.is_final:
                return JobResult(
                    job=name,
                    status=known.status,
                    metrics=metrics,
                    model=known.model_artifacts,
                    digest=known.model_digest,
                    failure_reason=known.failure_reason,
                )
            time.sleep(poll_s)

    def replay(
        self,
        model: str,
        *,
        keep: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> ReplayReport:
        """Train a model of the server again; see `training.replay`.

        It takes as long as it takes: `timeout_s` does not count. An interrupt stops it there.

        Args:
            model: uid of the model in the server's lineage, or its digest.
            keep: a new folder here for the model that came out; it needs the permission
                `featureline:ReadModel`.
            on_progress: called with every change of status and every step of the fit.

        Raises:
            InvalidJob: `keep` exists.
        """
        with ExitStack() as opened:
            kept = None if keep is None else opened.enter_context(ArrivingModel(keep))
            request = pb.ReplayModelRequest(model=model, keep=keep is not None)
            metadata = self._login.call_metadata()
            opened.enter_context(self._explained(metadata))
            replies = self._stub.ReplayModel(request, metadata=metadata)
            opened.callback(replies.cancel)
            for reply in replies:
                said = reply.WhichOneof("said")
                if said == "report":
                    if kept is not None:
                        kept.finish()
                    return convert_replay.report_from_message(reply.report)
                if said == "file" and kept is not None:
                    kept.write(reply.file)
                elif said == "progress" and on_progress is not None:
                    on_progress(convert_replay.progress_from_message(reply.progress))
        raise InternalError(f"the training service at {self._target} ended without a report")

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: Callable[..., Reply], request: object) -> Reply:
        metadata = self._login.call_metadata()
        with self._explained(metadata):
            return method(request, timeout=self._timeout_s, metadata=metadata)

    def _stream(
        self, method: Callable[..., Any], asked: Callable[[], object], *, follow: bool
    ) -> Iterator[Any]:
        """Yield the replies of a call, and make it again where a connection broke.

        A call that follows may take as long as the job. One that a server ended because it shuts
        down is made again too: another one of the same home may answer.
        """
        failing_since: float | None = None
        while True:
            metadata = self._login.call_metadata()
            limit = None if follow else self._timeout_s
            call = method(asked(), timeout=limit, metadata=metadata)
            try:
                with self._explained(metadata):
                    for message in call:
                        failing_since = None
                        yield message
                return
            except TrainingUnavailable:
                now = time.monotonic()
                failing_since = failing_since or now
                if not follow or now > failing_since + self._timeout_s:
                    raise
            finally:
                call.cancel()
            time.sleep(_AGAIN_S)

    @contextmanager
    def _explained(self, metadata: Sequence[tuple[str, Any]]) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            failure = _to_error(error, self._target, self._login)
            failure.facts.setdefault("request_id", metadata[0][1])
            raise failure from error


def _to_error(error: Any, target: str, login: Login) -> TrainingError:
    """Return what a failed call means to the caller; its RpcError is a `grpc.Call` too."""
    details = error.details() or ""
    known = convert.error_from_metadata(dict(error.trailing_metadata() or ()), details)
    if known is not None:
        return known
    code = error.code()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return TrainingUnavailable(
            f"no training service answers at {target} ({details}); "
            + (
                why_unreachable(details, target, login.tls)
                or "start one with `featureline serve`, or check the address"
            )
        )
    if code is grpc.StatusCode.UNAUTHENTICATED:  # said by somebody between us and the server
        return Unauthenticated(f"{target}: {details}")
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return AccessDenied(f"{target}: {details}")
    return InternalError(f"the training service at {target}: {code.name}: {details}")
