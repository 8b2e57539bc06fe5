"""Channels brought to an algorithm as a job brings them, in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import lineage
from training import Channel, ResourceConfig, TrainingJob
from training.data import Dataset
from training.jobs.downloading import Download
from training.jobs.folder import JobFolder
from training.jobs.program import AlgorithmProgram
from training.jobs.reading import ChannelData, read_channel
from training.jobs.sharing import Reading
from training.streaming import Stream
from training.world import World

Bring = Callable[..., dict[str, ChannelData]]


@final
class _Place(World):
    """A process that hears nothing of the others."""

    address = ""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def gather(self, value: Any) -> list[Any]:
        raise AssertionError("rows that are read whole need no word of the others")


def bring(
    folder: Path,
    *channels: Channel,
    algorithm: str = "xgboost",
    values: Mapping[str, Any] | None = None,
    then: Callable[[JobFolder], None] = lambda folder: None,
    rank: int | None = None,
    **fields: Any,
) -> dict[str, ChannelData]:
    """Submit a job as far as its data being read.

    Args:
        folder: an empty one, of the job.
        channels: its channels, `train` first.
        algorithm: that reads them.
        values: its hyperparameters.
        then: called when the data is in place, before it is read.
        rank: of the host that reads all the rows, of several; None: the first one reads its own.
        fields: more of the job.
    """
    job = TrainingJob(
        training_job_name="channels-1",
        algorithm_name=algorithm,
        hyper_parameters={"num_round": 2} if values is None else values,
        input_data_config=channels,
        resource_config=ResourceConfig(**{"threads": 1, "device": "cpu", **fields}),
    )
    program = AlgorithmProgram(job)
    at = JobFolder(folder)
    download = Download(job, at, folder / "home", program.hosts, for_script=False)
    with lineage.Recorder(lineage.Graph(lineage.MemoryStore()), "TrainingJob", "job") as run:
        download.bring(run)
    then(at)
    pipes = download.open_pipes()
    read: dict[str, ChannelData] = {}
    try:
        if rank is not None:
            return _whole(program, at, channels[0], rank)
        for channel in channels:
            read[channel.channel_name] = read_channel(
                at,
                channel,
                job.input_mode(channel),
                program.algorithm,
                like=read["train"].dataset if read else None,
            )
    finally:
        for pipe in pipes:
            pipe.close()
    assert [pipe.error for pipe in pipes] == [""] * len(pipes)
    return read


def _whole(
    program: AlgorithmProgram, root: JobFolder, channel: Channel, rank: int
) -> dict[str, ChannelData]:
    """Read all rows of a channel as one of several hosts does."""
    found: list[ChannelData] = []

    def read(where: JobFolder, given: Channel, like: Dataset | Stream | None) -> ChannelData:
        found.append(read_channel(where, given, "File", program.algorithm, like=like))
        return found[-1]

    host = root.host(program.hosts[rank])
    world = _Place(rank, len(program.hosts))
    Reading(program.algorithm, world, host, root, read).whole(channel)
    return {channel.channel_name: found[0]}
