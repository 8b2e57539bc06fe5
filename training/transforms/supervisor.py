"""Takes one transform job from its start to its end: its share, inputs, answers, lineage."""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import lineage
from featurestore.embedded import EmbeddedStore, open_store
from featurestore.errors import FeatureStoreError
from featurestore.provenance import group_entity
from training import provenance
from training.artifact import Artifact
from training.errors import InvalidData, TrainingError, TrainingJobFailed
from training.formats import content_type_of
from training.home import Store
from training.jobs.budget import Share
from training.jobs.channel import Channel
from training.jobs.claim import Claim
from training.jobs.delivery import SourceFile, deliver, find_files
from training.jobs.environment import SECRETS, gpu_variables, thread_variables
from training.jobs.failure import explain, oom_kills
from training.jobs.folder import HOST
from training.jobs.host import HostProcess
from training.jobs.job import SecondaryStatus
from training.jobs.leftover import note
from training.jobs.script import SCRIPT
from training.run import available_cores
from training.transforms.description import TransformProgress, TransformResult
from training.transforms.groups import store_answers, write_records
from training.transforms.job import TransformJob
from training.transforms.journal import ANSWERS, Part, begin, clear, take_over
from training.transforms.placing import folder_entity, move_file
from training.transforms.registry import TransformJobs
from training.transforms.work import AT

__all__ = ["Order", "Supervisor"]

_DATA: Final = "data"
_LINES: Final = "application/jsonlines"
_LOOK_S: Final = 0.1
_ASK_REGISTRY_S: Final = 0.15
_NOTE_S: Final = 1.0
_REASON_CHARACTERS: Final = 1024
_STOPPED: Final = "the job was stopped by request"
_MOST_NAMED: Final = 20

logger = logging.getLogger(__name__)


class _Stopped(asyncio.CancelledError):
    """A job ends because it was asked to; the recorder knows a cancellation as Stopped."""


@final
@dataclass(frozen=True, kw_only=True)
class Order:
    """A job with all that running it needs.

    Attributes:
        model: as it was found when the job was submitted.
        threads: of each process.
    """

    job: TransformJob
    model: Artifact
    jobs: TransformJobs
    claim: Claim
    store: Store | None
    threads: int
    on_progress: Callable[[TransformProgress], None]

    @property
    def name(self) -> str:
        """The job's name."""
        return self.job.transform_job_name


@final
@dataclass(frozen=True)
class _Input:
    """One input file: where it is, what it is called, its content type."""

    path: Path
    name: str
    content_type: str


@final
class Supervisor:
    """Takes one job from start to end, in a thread of the submitting process.

    Args:
        order: the job.
        stop: set when this process wants it to stop.
    """

    def __init__(self, order: Order, stop: threading.Event) -> None:
        self._order = order
        self._job = order.job
        self._name = order.name
        self._folder = order.jobs.folder(order.name)
        self._stop = stop
        self._asked = self._noted = 0.0
        self._status = SecondaryStatus.STARTING
        self._records = self._files = 0
        self._opened = ExitStack()
        self._digests: dict[str, str] = {}
        self._parts: Mapping[str, Part] = {}

    def run(self) -> TransformResult:
        """Run the job; whatever happens, it ends in a final status."""
        reason, status = "", SecondaryStatus.COMPLETED
        try:
            self._recorded()
        except _Stopped:
            reason, status = _STOPPED, SecondaryStatus.STOPPED
        except (TrainingError, FeatureStoreError, lineage.LineageError) as error:
            if isinstance(error, lineage.LineageError):
                logger.error("transform job %s: %s", self._name, error)
            reason, status = str(error), SecondaryStatus.FAILED
        except Exception as error:
            # The outermost loop of a job: none may stay InProgress for ever.
            logger.exception("transform job %s failed outside of its process", self._name)
            reason, status = f"{type(error).__name__}: {error}", SecondaryStatus.FAILED
        finally:
            self._opened.close()
            self._clear(is_complete=status is SecondaryStatus.COMPLETED)
        reason = reason[:_REASON_CHARACTERS]
        self._move(status, message=reason, failure_reason=reason)
        return self._order.jobs.describe(self._name).result()

    # -- with lineage ---------------------------------------------------------------------------

    def _recorded(self) -> None:
        """Run the job inside its lineage recorder."""
        order, job = self._order, self._job
        if order.store is not None:
            graph = order.store.graph
        else:
            graph = self._opened.enter_context(lineage.open_home(order.jobs.home))
        with lineage.Recorder(
            graph,
            "TransformJob",
            f"{self._name}-aws-transform-job",
            source_uri=self._folder.root.absolute().as_uri(),
            parameters=_parameters(job),
            properties={
                "job": self._name,
                "source_type": "SageMakerTransformJob",
                "model": order.model.digest,
                "threads": order.threads,
                "tags": dict(job.tags),
            },
        ) as run:
            try:
                self._execute(run)
            finally:
                run.property("rows_in", self._records)
                run.property("rows_out", self._records)

    def _execute(self, run: lineage.Recorder) -> None:
        run.input(provenance.model_entity(self._order.model))
        share = self._wait_for_share()
        self._folder.root.mkdir(parents=True, exist_ok=True)
        self._folder.output.mkdir(exist_ok=True)
        self._move(SecondaryStatus.DOWNLOADING)
        inputs = self._bring(run)
        self._check_stop()
        self._go_on(run)
        self._answer(inputs, share)
        self._check_stop()
        self._move(SecondaryStatus.UPLOADING)
        if self._job.transform_output.feature_group is None:
            self._deliver(inputs, run)
        else:
            self._store(inputs, run)

    def _wait_for_share(self) -> Share:
        """Wait until the budget has room for the job."""
        while (share := self._order.jobs.admit(self._name)) is None:
            self._check_stop()
            if self._status is SecondaryStatus.STARTING:
                self._move(
                    SecondaryStatus.PENDING, message="waits for jobs before it to free resources"
                )
            self._stop.wait(_LOOK_S)
        self._check_stop()
        return share

    def _go_on(self, run: lineage.Recorder) -> None:
        """Take over what an earlier job has answered that did not complete."""
        order = self._order
        taken = take_over(order.jobs, self._job, order.model.digest, self._digests)
        begin(self._folder.output, self._digests)
        self._parts = taken.parts
        self._records = sum(part.records for part in taken.parts.values())
        self._files = sum(part.is_whole for part in taken.parts.values())
        if taken.jobs:
            run.property("goes_on_from", list(taken.jobs))
            run.property("taken_over", self._records)

    # -- what goes in ---------------------------------------------------------------------------

    def _bring(self, run: lineage.Recorder) -> list[_Input]:
        """Bring the inputs into the job's folder, and name them in its lineage."""
        asked, target = self._job.transform_input, self._folder.channel(_DATA)
        if asked.feature_group is not None:
            path = target / f"{asked.feature_group}.jsonl"
            write_records(
                self._embedded(),
                asked.feature_group,
                path,
                run,
                version=asked.table_version,
                spill=self._folder.root / "spill",
                check=self._check_stop,
            )
            inputs = [_Input(path, asked.feature_group, _LINES)]
            self._digests = self._digests_of([SourceFile(path, asked.feature_group)])
        else:
            channel = Channel(channel_name=_DATA, path=asked.path, data_type=asked.data_type)
            source = Path(str(asked.path))
            files = list(dict.fromkeys(find_files(channel, source, hidden=False)))
            self._check_stop()
            deliver(
                files,
                target,
                channel=channel,
                input_mode="File",
                copies=False,
                check=self._check_stop,
            )
            # The bytes that are answered, though the source may be replaced meanwhile.
            kept = [SourceFile(target / file.name, file.name) for file in files]
            inputs = [
                _Input(file.path, file.name, self._content_type(Path(file.name))) for file in kept
            ]
            self._digests = self._digests_of(kept)
            provenance.record_channel(run, channel, source, kept, digests=self._digests)
        for one in {one.content_type: one for one in inputs}.values():
            self._check(one)
        return inputs

    def _digests_of(self, files: Sequence[SourceFile]) -> dict[str, str]:
        return {file.name: lineage.file_digest(file.path, check=self._check_stop) for file in files}

    def _content_type(self, path: Path) -> str:
        given = self._job.transform_input.content_type
        # What a script's model reads is the script's own business.
        if given is not None and self._order.model.algorithm == SCRIPT:
            return given
        return str(content_type_of([path], given=given, channel="TransformInput"))

    def _check(self, one: _Input) -> None:
        """Refuse a file that cannot be asked as the job says, before any is."""
        try:
            self._job.cut_of(one.content_type)
            is_script = self._order.model.algorithm == SCRIPT
            self._job.accept_of(one.content_type, any_type=is_script)
        except TrainingError as error:
            raise InvalidData(f"{one.name}: {error.message}") from error

    # -- the answers ----------------------------------------------------------------------------

    def _answer(self, inputs: Sequence[_Input], share: Share) -> None:
        """Run the job's process until its end."""
        order, killed = self._order, oom_kills()
        crowded = order.jobs.cores_in_use() > available_cores()
        device = "cuda" if share.gpus else "cpu"
        process = HostProcess(
            HOST, self._folder, "training.transforms.work", self._variables(share, crowded=crowded)
        )
        note(self._folder.root, [process.number])
        try:
            process.tell(
                {
                    "job": self._job.to_json(),
                    "model": str(order.model.path),
                    "threads": order.threads,
                    "device": device,
                    "records": self._records,
                    "files": [
                        [str(one.path), one.name, one.content_type, asdict(self._part(one))]
                        for one in inputs
                        if not self._part(one).is_whole
                    ],
                }
            )
            process.tell("go")
            sealed = self._follow(process)
        finally:
            status = process.end()
        if status != 0 or not sealed:
            said = self._folder.failure()
            reason = explain(
                status,
                self._folder.last_lines(),
                folder=self._folder.root,
                out_of_memory=oom_kills() > killed,
                said=said,
            )
            raise TrainingJobFailed(reason if said else f"{self._at()}{reason}", name=self._name)

    def _part(self, one: _Input) -> Part:
        return self._parts.get(one.name, Part(file=one.name))

    def _at(self) -> str:
        """Name the request that the process was at when it was killed, as far as it said so."""
        path = self._folder.output / AT
        line = path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else ""
        return f"{line}: " if line else ""

    def _follow(self, process: HostProcess) -> bool:
        """Take what the process reports until it ends; say whether it did everything."""
        sealed = False
        with selectors.DefaultSelector() as selector:
            selector.register(process, selectors.EVENT_READ)
            while process.is_open:
                selector.select(_LOOK_S)
                for kind, values in process.events():
                    sealed = sealed or kind == "sealed"
                    self._take(kind, values)
                self._check_stop()
                if process.status is not None:
                    # A worker may hold the pipe open; the process itself is over.
                    for kind, values in process.events():
                        sealed = sealed or kind == "sealed"
                        self._take(kind, values)
                    break
            while process.status is None:
                self._check_stop()
                time.sleep(_LOOK_S / 10)
        return sealed

    def _take(self, kind: str, values: list[Any]) -> None:
        match kind:
            case "ready":
                self._move(SecondaryStatus.TRANSFORMING, device=values[0])
            case "progress":
                self._count(values[0], self._files)
            case "file":
                self._count(values[1], self._files + 1)

    def _count(self, records: int, files: int) -> None:
        """Say how far the process is, to others now and then."""
        self._records, self._files = records, files
        now = time.monotonic()
        if now > self._noted + _NOTE_S:
            self._noted = now
            self._order.jobs.note(self._name, records=records, files=files)
        self._tell()

    def _variables(self, share: Share, *, crowded: bool) -> dict[str, str]:
        order, job = self._order, self._job
        return (
            {name: value for name, value in os.environ.items() if name not in SECRETS}
            | dict(job.environment)
            | {
                # A model with bytecode of its code in it would be another model.
                "PYTHONDONTWRITEBYTECODE": "1",
                "SM_MODEL_DIR": str(order.model.path),
                "SAGEMAKER_BATCH": "true",
                "SAGEMAKER_BATCH_STRATEGY": job.batch_strategy or "MultiRecord",
                "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(job.max_payload_in_mb),
                "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": str(job.processes),
            }
            | thread_variables(order.threads, crowded=crowded)
            | gpu_variables(job.transform_resources.device, share.gpus, os.environ)
            | ({} if share.gpus else {"CUDA_VISIBLE_DEVICES": ""})
            # The process imports what this one would, third parties' algorithms included.
            | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
        )

    # -- what comes out -------------------------------------------------------------------------

    def _deliver(self, inputs: Sequence[_Input], run: lineage.Recorder) -> None:
        """Move the answers to where they are wanted, each file whole or not at all."""
        folder = Path(str(self._job.transform_output.path))
        made: dict[str, Path] = {}
        for one in inputs:
            name = f"{one.name}.out"
            target = folder / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                move_file(self._folder.output / ANSWERS / name, target, self._name)
            except OSError as error:
                raise TrainingJobFailed(
                    f"{target} cannot be written: {error.strerror}; S3OutputPath is a folder that "
                    "this process may write to",
                    name=self._name,
                ) from error
            made[name] = target
        outputs: list[Any] = [folder_entity(folder, made)]
        if len(made) <= _MOST_NAMED:
            outputs += [lineage.as_artifact(path) for path in made.values()]
        for output in outputs:
            self._record_output(run, output)

    def _store(self, inputs: Sequence[_Input], run: lineage.Recorder) -> None:
        """Store the answers in the feature group."""
        output = self._job.transform_output
        files = [(self._folder.output / ANSWERS / f"{one.name}.out", one.name) for one in inputs]
        stored = store_answers(
            self._embedded(),
            output,
            files,
            self._folder.output / "records" / "records.parquet",
            check=self._check_stop,
        )
        run.property("key", stored.key)
        run.property("already", stored.already)
        # What the load of the feature store has read.
        run.output(lineage.artifact("DataSet", stored.source))
        self._record_output(run, group_entity(str(output.feature_group)))

    def _record_output(self, run: lineage.Recorder, output: Any) -> None:
        made = run.output(output)
        model = provenance.model_entity(self._order.model)
        run.columns(
            made,
            [
                lineage.ColumnEdge(model, column["name"], "", "INDIRECT", "TRANSFORMATION")
                for column in self._order.model.inputs
            ],
        )

    # -- its standing ---------------------------------------------------------------------------

    def _embedded(self) -> EmbeddedStore:
        """The feature store of the home: the one that the job was given, or opened for it."""
        store = self._order.store
        if isinstance(store, EmbeddedStore):
            return store
        return self._opened.enter_context(open_store(self._order.jobs.home))

    def _check_stop(self) -> None:
        """End the job when this process or, through the registry, another one asked for it."""
        now = time.monotonic()
        if not self._stop.is_set() and now > self._asked + _ASK_REGISTRY_S:
            self._asked = now
            if self._order.jobs.is_stop_requested(self._name):
                self._stop.set()
        if self._stop.is_set():
            self._move(SecondaryStatus.STOPPING, message=_STOPPED)
            raise _Stopped

    def _move(
        self,
        status: SecondaryStatus,
        *,
        message: str = "",
        device: str | None = None,
        failure_reason: str = "",
    ) -> None:
        self._status = status
        self._order.jobs.move(
            self._name,
            status,
            message=message,
            device=device,
            failure_reason=failure_reason,
            records=self._records,
            files=self._files,
            digest=self._order.model.digest,
        )
        self._tell()

    def _tell(self) -> None:
        self._order.on_progress(
            TransformProgress(
                job=self._name, status=self._status, records=self._records, files=self._files
            )
        )

    def _clear(self, *, is_complete: bool) -> None:
        """Leave the log, the reason and the answers to go on from, and nothing else."""
        for place in (
            self._folder.root / "input",
            self._folder.root / "spill",
            self._folder.output / "records",
        ):
            shutil.rmtree(place, ignore_errors=True)
        clear(self._folder.output, is_complete=is_complete)


def _parameters(job: TransformJob) -> dict[str, Any]:
    body = job.to_json()
    left_out = ("TransformJobName", "ModelName", "Tags", "Environment")
    return {name: value for name, value in body.items() if name not in left_out}
