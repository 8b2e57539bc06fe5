"""A job's channels as what its algorithm fits on: in memory, or in parts where they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from training.algorithm import Algorithm, Model
from training.data import Dataset, kind_of, read_dataset
from training.errors import TrainingError
from training.formats import files_of
from training.formats.parts import table_bytes
from training.jobs.budget import memory_bytes
from training.jobs.folder import JobFolder
from training.jobs.job import Channel, TrainingJob
from training.run import Run, Sink
from training.streaming import Stream

__all__ = ["Loaded", "load"]

_NAMES: Final = ("train", "validation", "test")
_PROGRAM_BYTES: Final = 128 << 20
"""What a process has without any data: the interpreter and its libraries."""
_COPIES: Final = 2.5
"""How often a table is in memory while it becomes a matrix, at most."""
_STREAM_BYTES: Final = 250 << 20
"""What a fit on streams has in memory in any case: the program, and sketches of the columns."""
_ROW_BYTES: Final = 100
"""What a row of a stream keeps in memory: label, answer, gradient, place in the tree."""
_PARTS: Final = 64
_PART_BYTES: Final = (1 << 20, 128 << 20)


@final
@dataclass(frozen=True, eq=False)
class Loaded:
    """The channels of a job.

    Attributes:
        train: what to learn from.
        validation: what to measure on, of the same kind; None: nothing.
        test: what to measure the model on; None: nothing.
    """

    train: Dataset | Stream
    validation: Dataset | Stream | None
    test: Dataset | None

    def fit(self, algorithm: Algorithm, run: Run) -> Model:
        """Fit on what was loaded."""
        train, validation = self.train, self.validation
        if isinstance(train, Stream):
            assert not isinstance(validation, Dataset)
            return algorithm.fit_stream(train, run, validation=validation)
        assert not isinstance(validation, Stream)
        return algorithm.fit(train, run, validation=validation)

    def shown(self, rows: int) -> Dataset | None:
        """Return the first rows that were not learned from, with their labels; None: none."""
        data = self.test or self.validation
        if data is None or data.target is None:
            return None
        return data.head(rows)


def load(
    folder: JobFolder, job: TrainingJob, algorithm: Algorithm, sink: Sink, scratch: Path
) -> Loaded:
    """Read the channels of a job.

    Args:
        folder: of the job.
        job: what was asked for.
        algorithm: that of the job.
        sink: told where the data does not fit into memory.
        scratch: a folder for what is written then.
    """
    channels = {channel.channel_name: channel for channel in job.input_data_config}
    budget = _budget(job)
    fitted = [channels[name] for name in _NAMES[:2] if name in channels]
    data = _bytes(folder, fitted, algorithm, budget) if algorithm.streams else 0
    if not data or _PROGRAM_BYTES + _COPIES * data <= budget:
        train = _read(folder, channels["train"], algorithm)
        validation, test = (
            _read(folder, channels[name], algorithm, like=train) if name in channels else None
            for name in _NAMES[1:]
        )
        return Loaded(train, validation, test)
    sink.log(
        f"the data would take about {data / 1e6:.0f} MB and the job has {budget / 1e6:.0f} MB of "
        "memory: it stays on disk, which takes longer"
    )
    low, high = _PART_BYTES
    part_bytes = min(max(budget // _PARTS, low), high)
    opened: list[Stream] = []
    for channel in fitted:
        like = opened[0] if opened else None
        opened.append(
            Stream.open(
                folder=scratch,
                part_bytes=part_bytes,
                **_how(folder, channel, algorithm, like),
            )
        )
    least = _STREAM_BYTES + _ROW_BYTES * sum(len(stream) for stream in opened)
    if least > budget:
        sink.log(
            f"a fit on {sum(len(stream) for stream in opened):,} rows takes about "
            f"{least / 1e6:.0f} MB of memory even so"
        )
    test = (
        _read(folder, channels["test"], algorithm, like=opened[0]) if "test" in channels else None
    )
    return Loaded(opened[0], opened[1] if len(opened) > 1 else None, test)


def _budget(job: TrainingJob) -> int:
    """Return the bytes of memory that a job may take: what is set aside, else the machine's."""
    asked = job.resource_config
    # Our algorithms compute in one process, which has what all hosts would have had.
    return (asked.memory_mb * asked.instance_count << 20) or memory_bytes()


def _bytes(
    folder: JobFolder, channels: Sequence[Channel], algorithm: Algorithm, budget: int
) -> int:
    """Estimate how large the channels are in memory; 0 where they are small beyond doubt."""
    found = 0
    for channel in channels:
        name = channel.channel_name
        try:
            files = files_of(folder.channel(name), channel=name)
            kind = kind_of(files, channel.content_type, channel=name, reading=algorithm.reading())
            size = sum(file.stat().st_size for file in files)
        except (TrainingError, OSError):
            # Reading them says what is wrong.
            return 0
        # Parquet tells its size at once, and may be packed as tightly as one likes.
        if "parquet" in kind.base or size * _PARTS >= budget:
            found += table_bytes(files, kind)
    return found


def _read(
    folder: JobFolder,
    channel: Channel,
    algorithm: Algorithm,
    *,
    like: Dataset | Stream | None = None,
) -> Dataset:
    return read_dataset(
        labels=algorithm.labels, text=algorithm.text, **_how(folder, channel, algorithm, like)
    )


def _how(
    folder: JobFolder, channel: Channel, algorithm: Algorithm, like: Dataset | Stream | None
) -> Mapping[str, Any]:
    """Return how a channel is read, in memory or not."""
    return {
        "path": folder.channel(channel.channel_name),
        "channel": channel.channel_name,
        "content_type": channel.content_type,
        "label": channel.label or (like.label or None if like else None),
        "features": channel.features,
        "inputs": like.inputs if like else None,
        "reading": algorithm.reading(),
        "intervals": algorithm.intervals,
        "beside": algorithm.beside(),
    }
