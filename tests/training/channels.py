"""Channels brought to an algorithm as a job brings them, in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lineage
from training import Channel, ResourceConfig, TrainingJob
from training.jobs.downloading import Download
from training.jobs.folder import HOST, JobFolder
from training.jobs.program import AlgorithmProgram
from training.jobs.reading import ChannelData, read_channel

Bring = Callable[..., dict[str, ChannelData]]


def bring(
    folder: Path,
    *channels: Channel,
    algorithm: str = "xgboost",
    values: Mapping[str, Any] | None = None,
    then: Callable[[JobFolder], None] = lambda folder: None,
    **fields: Any,
) -> dict[str, ChannelData]:
    """Submit a job as far as its data being read.

    Args:
        folder: an empty one, of the job.
        channels: its channels, `train` first.
        algorithm: that reads them.
        values: its hyperparameters.
        then: called when the data is in place, before it is read.
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
    download = Download(job, at, folder / "home", (HOST,), for_script=False)
    with lineage.Recorder(lineage.Graph(lineage.MemoryStore()), "TrainingJob", "job") as run:
        download.bring(run)
    then(at)
    pipes = download.open_pipes()
    read: dict[str, ChannelData] = {}
    try:
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
