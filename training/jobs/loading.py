"""A job's channels as what its algorithm fits on: in memory, or in parts where they do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from training.algorithm import Algorithm, Model
from training.data import Dataset, kind_of
from training.errors import InvalidData, InvalidJob, TrainingError
from training.formats import files_of
from training.formats.joined import Joined
from training.formats.parts import table_bytes
from training.jobs.budget import memory_bytes
from training.jobs.folder import JobFolder
from training.jobs.job import Channel, TrainingJob
from training.jobs.reading import ChannelData, channel_files, read_channel
from training.jobs.sharing import Reading
from training.run import Run, Sink
from training.streaming import Stream
from training.world import ALONE, World

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
        files: by channel, what those in memory were read from.
    """

    train: Dataset | Stream
    validation: Dataset | Stream | None
    test: Dataset | None
    files: Mapping[str, Joined]

    def located(self, error: InvalidData) -> InvalidData:
        """Return an error that names a channel's row with the file's name and row beside."""
        joined = self.files.get(str(error.facts.get("channel", "")))
        return error if joined is None else joined.located(error)

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
    folder: JobFolder,
    job: TrainingJob,
    algorithm: Algorithm,
    sink: Sink,
    scratch: Path,
    *,
    world: World = ALONE,
    root: JobFolder | None = None,
) -> Loaded:
    """Read the channels of a job, as this process of it needs them.

    Several processes hold their rows in memory.

    Raises:
        InvalidJob: those of several processes do not fit there.

    Args:
        folder: of the job.
        job: what was asked for.
        algorithm: that of the job.
        sink: told where the data does not fit into memory.
        scratch: a folder for what is written then.
        world: the processes of the fit.
        root: folder of the job; None: that of its only host.
    """
    channels = {channel.channel_name: channel for channel in job.input_data_config}
    modes = {name: job.input_mode(channel) for name, channel in channels.items()}

    def read(where: JobFolder, channel: Channel, like: Dataset | Stream | None) -> ChannelData:
        return read_channel(where, channel, modes[channel.channel_name], algorithm, like=like)

    reading = Reading(algorithm, world, folder, root or folder, read)
    budget = _budget(job)
    fitted = [channels[name] for name in _NAMES[:2] if name in channels]
    data = _bytes(folder, fitted, modes, algorithm, budget) if algorithm.streams else 0
    if world.size > 1:
        _check_share(world, fitted, data, budget)
        data = 0
    if not data or _PROGRAM_BYTES + _COPIES * data <= budget:
        train = reading.rows(channels["train"])
        validation, test = None, None
        if "validation" in channels:
            validation = reading.rows(channels["validation"], like=train)
        if "test" in channels and world.is_first:
            test = reading.whole(channels["test"], like=train)
        return Loaded(train, validation, test, reading.files)
    sink.log(
        f"the data would take about {data / 1e6:.0f} MB and the job has {budget / 1e6:.0f} MB of "
        "memory: it stays on disk, which takes longer"
    )
    low, high = _PART_BYTES
    part_bytes = min(max(budget // _PARTS, low), high)
    opened: list[Stream] = []
    for channel in fitted:
        like = opened[0] if opened else None
        name = channel.channel_name
        opened.append(
            Stream.open(
                channel_files(folder, channel, modes[name], scratch),
                folder=scratch,
                part_bytes=part_bytes,
                channel=name,
                content_type=channel.content_type,
                label=channel.label or (like.label or None if like else None),
                features=channel.features,
                inputs=like.inputs if like else None,
                labels=algorithm.labels,
                reading=algorithm.reading(),
                intervals=algorithm.intervals,
                beside=algorithm.beside(),
            )
        )
    least = _STREAM_BYTES + _ROW_BYTES * sum(len(stream) for stream in opened)
    if least > budget:
        sink.log(
            f"a fit on {sum(len(stream) for stream in opened):,} rows takes about "
            f"{least / 1e6:.0f} MB of memory even so"
        )
    test = reading.whole(channels["test"], like=opened[0]) if "test" in channels else None
    return Loaded(opened[0], opened[1] if len(opened) > 1 else None, test, reading.files)


def _check_share(world: World, channels: Sequence[Channel], data: int, budget: int) -> None:
    """Refuse several hosts whose rows do not fit into memory: they are on disk on one host alone.

    A host that has all files reads them before its share is cut.

    Raises:
        InvalidJob: some host's rows take more than it has.
    """
    takes = max(world.gather(data))
    if takes and _PROGRAM_BYTES + _COPIES * takes > budget:
        names = " and ".join(channel.channel_name for channel in channels)
        raise InvalidJob(
            f"{names}: each of {world.size} hosts holds its rows in memory, the files it reads "
            f"take about {_COPIES * takes / 1e6:.0f} MB there, and it has {budget / 1e6:.0f} MB; "
            "spread the files with S3DataDistributionType=ShardedByS3Key, set a larger MemoryInMB, "
            "or set InstanceCount to 1, where rows stay on disk",
            field="ResourceConfig",
        )


def _budget(job: TrainingJob) -> int:
    """Return the bytes of memory that a host may take: what is set aside, else the machine's."""
    return (job.resource_config.memory_mb << 20) or memory_bytes()


def _bytes(
    folder: JobFolder,
    channels: Sequence[Channel],
    modes: Mapping[str, str],
    algorithm: Algorithm,
    budget: int,
) -> int:
    """Estimate how large the channels are in memory; 0 where they are small beyond doubt.

    Lines of augmented manifests and single records are read into memory whatever they take.
    """
    found = 0
    for channel in channels:
        name = channel.channel_name
        if channel.is_augmented or channel.is_wrapped:
            return 0
        kept = folder.piped(name) if modes[name] == "Pipe" else folder.channel(name)
        try:
            files = files_of(kept, channel=name)
            kind = kind_of(files, channel.content_type, channel=name, reading=algorithm.reading())
            algorithm.check_input(name, input_mode=modes[name], content_type=kind.base)
            size = sum(file.stat().st_size for file in files)
        except (TrainingError, OSError):
            # Reading them says what is wrong.
            return 0
        # Parquet tells its size at once, and may be packed as tightly as one likes.
        if "parquet" in kind.base or size * _PARTS >= budget:
            found += table_bytes(files, kind)
    return found
