"""What the processes of a job run: an algorithm of ours, or the user's own program."""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final, final

import lineage
from training import provenance
from training.algorithm import Algorithm
from training.algorithms import find_algorithm
from training.artifact import seal_files
from training.device import CPU, Device, resolve_device
from training.errors import DeviceUnavailable, InvalidData, InvalidJob, LibraryMissing
from training.formats import ContentType
from training.jobs.channel import Channel
from training.jobs.environment import algorithm_hyperparameters, arguments
from training.jobs.folder import JobFolder, host_names
from training.jobs.job import TrainingJob
from training.jobs.script import SCRIPT, Script, copy_source
from training.jobs.shape import invalid
from training.transforms.serving import CODE, serves

__all__ = ["MODEL", "AlgorithmProgram", "Program", "ScriptProgram", "find_program"]

MODEL: Final = "model"
"""The channel of a model to go on from."""

_LINES: Final = "application/jsonlines"
_FRAMES: Final = "application/x-recordio"
_RECORDS: Final = "application/x-recordio-protobuf"
_PARQUET: Final = "application/x-parquet"


class Program(ABC):
    """What a job runs, checked before the job is entered.

    Attributes:
        module: what each of its processes starts as.
        reports: whether the process itself says what it did, and seals its model.
    """

    module: ClassVar[str]
    reports: ClassVar[bool]

    @property
    @abstractmethod
    def may_be_left(self) -> bool:
        """Whether its processes may be ended at any moment when a job is asked to stop."""

    @property
    @abstractmethod
    def hosts(self) -> tuple[str, ...]:
        """The hosts that have a process, the first one first."""

    @abstractmethod
    def device(self, job: TrainingJob) -> Device:
        """Find what the job computes on, before it is entered.

        Raises:
            DeviceUnavailable: it asks for a device that is not there, or that is of no use to it.
            InvalidJob: its precision does not go with the device.
        """

    @abstractmethod
    def parameters(self) -> Mapping[str, Any]:
        """The hyperparameters, typed."""

    @abstractmethod
    def libraries(self) -> Mapping[str, str]:
        """The libraries that compute, by PyPI name, with their versions."""

    @abstractmethod
    def order(self, job: TrainingJob, *, threads: int, gpus: int) -> dict[str, Any]:
        """What a process is told first, as JSON values."""

    @abstractmethod
    def prepare(self, folder: JobFolder) -> None:
        """Put what the processes need into the job's folder, before they begin."""

    @abstractmethod
    def record(self, run: lineage.Recorder, folder: JobFolder) -> None:
        """Name the code as an input of the job."""

    @abstractmethod
    def seal(self, folder: JobFolder, metrics: Mapping[str, float]) -> bool:
        """Make what the job left a model artifact; False when there is no model."""


@final
class AlgorithmProgram(Program):
    """An algorithm with its hyperparameters, a process on each host that make one fit."""

    module = "training.jobs.main"
    reports = True

    def __init__(self, job: TrainingJob) -> None:
        self.algorithm: Algorithm = find_algorithm(job.algorithm_name).of(
            algorithm_hyperparameters(job.hyper_parameters)
        )
        self.algorithm.check_channels([c.channel_name for c in job.input_data_config])
        self._count = job.resource_config.instance_count
        self.algorithm.check_hosts(self._count)
        self.algorithm.check_precision(job.resource_config.precision)
        kept = job.checkpoint_config
        interval = None if kept is None else kept.interval_in_seconds
        if interval is not None and not self.algorithm.keeps_checkpoints:
            raise InvalidJob(
                f"{self.algorithm.name}: IntervalInSeconds={interval:g}, and it keeps no "
                "checkpoints: an attempt begins anew, to the same model; leave it out",
                field="IntervalInSeconds",
            )
        for channel in job.input_data_config:
            self._check_input(channel, job.input_mode(channel))
        for library, package in self.algorithm.libraries.items():
            if importlib.util.find_spec(library) is None:
                raise LibraryMissing(
                    f"the algorithm {self.algorithm.name} needs the library {package}: "
                    "pip install 'featureline[training]'",
                    library=library,
                    extra="training",
                )

    def _check_input(self, channel: Channel, input_mode: str) -> None:
        """Refuse what the algorithm cannot read, as far as the channel says it."""
        where = f"channel {channel.channel_name!r}"
        is_shared_out = channel.distribution != "FullyReplicated" and self._count > 1
        if input_mode == "Pipe" and is_shared_out:
            raise invalid(
                f"{where}: an algorithm on several hosts reads what is shared out among them from "
                "files; set input_mode=File, or distribution=FullyReplicated",
                "InputMode",
            )
        kind = ContentType.parse(channel.content_type).base if channel.content_type else None
        if channel.is_augmented:
            if kind not in (None, _LINES, _FRAMES):
                raise invalid(
                    f"{where}: an augmented manifest is read as {_LINES}, in frames as {_FRAMES}, "
                    f"got {channel.content_type!r}",
                    "ContentType",
                )
            if input_mode == "Pipe" and not channel.is_wrapped:
                raise invalid(
                    f"{where}: an algorithm cannot tell where a piped attribute ends; set "
                    "record_wrapper=RecordIO, or input_mode=File",
                    "RecordWrapperType",
                )
            kind = _LINES
        elif channel.is_wrapped and kind != _RECORDS:
            raise invalid(
                f"{where}: an algorithm reads frames of RecordIO as content_type={_RECORDS}, each "
                f"file one record, got {channel.content_type!r}; leave record_wrapper None",
                "RecordWrapperType",
            )
        elif channel.dataset is not None and channel.channel_name != MODEL and kind is None:
            kind = _PARQUET
        self.algorithm.check_input(channel.channel_name, input_mode=input_mode, content_type=kind)

    @property
    def may_be_left(self) -> bool:
        """Its checkpoints are whole at any moment, so only one that ends with a model may not."""
        return not self.algorithm.saves_when_stopped

    @property
    def hosts(self) -> tuple[str, ...]:
        """As many as the job asks for."""
        return host_names(self._count)

    def device(self, job: TrainingJob) -> Device:
        """The device asked for; the CPU for what computes there alone."""
        name = job.resource_config.device
        found = resolve_device(name)
        if self.algorithm.cpu_only and found.kind == "cuda":
            if name != "auto":
                raise DeviceUnavailable(
                    f"{self.algorithm.name}: device {name!r} was asked for, and it computes on the "
                    "CPU alone; use auto or cpu",
                    device=name,
                )
            found = CPU
        if job.resource_config.precision == "fp16" and found.kind == "cpu":
            raise InvalidJob(
                f"{self.algorithm.name}: Precision=fp16 needs a CUDA device, and this job computes "
                "on the CPU; use bf16 or leave it out",
                field="Precision",
            )
        return found

    def parameters(self) -> Mapping[str, Any]:
        """The hyperparameters that were set."""
        return self.algorithm.values()

    def libraries(self) -> Mapping[str, str]:
        """Those that the algorithm names."""
        return provenance.versions(type(self.algorithm))

    def order(self, job: TrainingJob, *, threads: int, gpus: int) -> dict[str, Any]:
        """The job itself."""
        return {"job": job.to_json(), "threads": threads}

    def prepare(self, folder: JobFolder) -> None:
        """Nothing: it is installed."""

    def record(self, run: lineage.Recorder, folder: JobFolder) -> None:
        """Name the algorithm, with its libraries in their versions."""
        provenance.record_algorithm(run, type(self.algorithm))

    def seal(self, folder: JobFolder, metrics: Mapping[str, float]) -> bool:
        """Its process has done that."""
        return True


@final
class ScriptProgram(Program):
    """The user's program, a process on each host."""

    module = "training.jobs.launch"
    reports = False

    def __init__(self, job: TrainingJob) -> None:
        self.script = Script.of(job.hyper_parameters)
        if job.resource_config.precision != "float32":
            raise InvalidJob(
                f"{SCRIPT}: Precision={job.resource_config.precision}, and a program decides "
                "itself how it computes; hand it over as a hyperparameter",
                field="Precision",
            )
        kept = job.checkpoint_config
        if kept is not None and kept.interval_in_seconds is not None:
            raise InvalidJob(
                f"{SCRIPT}: IntervalInSeconds={kept.interval_in_seconds:g}, and a program decides "
                "itself when it writes a checkpoint; hand it over as a hyperparameter",
                field="IntervalInSeconds",
            )
        self._count = job.resource_config.instance_count

    @property
    def may_be_left(self) -> bool:
        """A program has its time to save what it has."""
        return False

    @property
    def hosts(self) -> tuple[str, ...]:
        """As many as the job asks for."""
        return host_names(self._count)

    def device(self, job: TrainingJob) -> Device:
        """The device asked for."""
        return resolve_device(job.resource_config.device)

    def parameters(self) -> Mapping[str, Any]:
        """The program's hyperparameters, decoded."""
        return self.script.hyperparameters

    def libraries(self) -> Mapping[str, str]:
        """Not known: a program says nowhere what it imports. The environment's digest is there."""
        return {}

    def order(self, job: TrainingJob, *, threads: int, gpus: int) -> dict[str, Any]:
        """The program and its arguments."""
        return {
            "program": self.script.program,
            "arguments": arguments(self.script.hyperparameters),
            "device": "cuda" if gpus else "cpu",
            "pythonpath": job.environment.get("PYTHONPATH", os.environ.get("PYTHONPATH", "")),
        }

    def prepare(self, folder: JobFolder) -> None:
        """Bring its source."""
        try:
            self.script.place(folder.code)
        except OSError as error:
            raise InvalidData(
                f"the source {self.script.source} cannot be copied: {error}",
                path=str(self.script.source),
            ) from error

    def record(self, run: lineage.Recorder, folder: JobFolder) -> None:
        """Name the source by the digest of its files."""
        provenance.record_script(run, self.script, folder.code)

    def seal(self, folder: JobFolder, metrics: Mapping[str, float]) -> bool:
        """Take whatever the program left in its model folder, and the code that serves it."""
        if not any(file.is_file() for file in folder.model.rglob("*")):
            return False
        if serves(folder.code) and not (folder.model / CODE).exists():
            copy_source(folder.code, folder.model / CODE)
        seal_files(
            folder.model,
            algorithm=SCRIPT,
            hyperparameters=self.script.hyperparameters,
            inputs=[],
            metrics=metrics,
        )
        return True


def find_program(job: TrainingJob) -> Program:
    """Return what a job runs.

    Raises:
        AlgorithmNotFound, InvalidHyperparameter, InvalidJob, LibraryMissing: it cannot be run.
    """
    return ScriptProgram(job) if job.algorithm_name == SCRIPT else AlgorithmProgram(job)
