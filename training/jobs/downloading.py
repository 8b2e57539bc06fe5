"""Brings a job's channels to its hosts and names them in its lineage."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

import lineage
from training import provenance
from training.artifact import MANIFEST, Artifact, ModelStore
from training.errors import InvalidData
from training.jobs.channel import Channel
from training.jobs.delivery import SourceFile, deliver, find_files, share_out, unpack_archive
from training.jobs.folder import JobFolder
from training.jobs.job import TrainingJob
from training.jobs.piping import Pipe

__all__ = ["Download"]

MODEL: Final = "model"


@final
class Download:
    """The channels of one job.

    Args:
        job: what was asked for.
        folder: the job's.
        home: that the job runs in.
        hosts: that get the data.
        for_script: whether a program of the user's reads it: that may write to its files, reads
            any kind of file, and is given pipes. Our algorithms read in place what it would pipe,
            and find a model unpacked.
    """

    def __init__(
        self,
        job: TrainingJob,
        folder: JobFolder,
        home: Path,
        hosts: Sequence[str],
        *,
        for_script: bool,
    ) -> None:
        self._job = job
        self._folder = folder
        self._home = home
        self._hosts = hosts
        self._for_script = for_script
        self._piped: dict[Channel, list[SourceFile]] = {}

    def bring(self, run: lineage.Recorder) -> dict[str, dict[str, Any]]:
        """Bring everything; return what the lineage says of each channel.

        Raises:
            InvalidData: something is not there or cannot be read.
        """
        return {
            channel.channel_name: self._bring(channel, run)
            for channel in self._job.input_data_config
        }

    def open_pipes(self) -> list[Pipe]:
        """Begin to feed the channels in Pipe mode; the caller closes the pipes."""
        return [
            Pipe(
                self._folder.host(host).channel(channel.channel_name),
                channel,
                lambda epoch, place=place, channel=channel, files=files: share_out(  # type: ignore[misc]
                    files, channel, len(self._hosts), epoch=epoch
                )[place],
            )
            for channel, files in self._piped.items()
            for place, host in enumerate(self._hosts)
        ]

    def _bring(self, channel: Channel, run: lineage.Recorder) -> dict[str, Any]:
        source = self._source(channel)
        if channel.channel_name == MODEL and not self._for_script:
            return self._bring_model(channel, source, run)
        files = find_files(channel, source, hidden=self._for_script)
        mode = self._job.input_mode(channel)
        if mode == "Pipe" and self._for_script:
            self._piped[channel] = self._pin(channel, files)
        else:
            mode = "FastFile" if mode == "Pipe" else mode
            shares = share_out(files, channel, len(self._hosts))
            for host, share in zip(self._hosts, shares, strict=True):
                deliver(
                    share,
                    self._folder.host(host).channel(channel.channel_name),
                    channel=channel,
                    input_mode=mode,
                    copies=self._for_script,
                )
        return provenance.record_channel(run, channel, source, files)

    def _pin(self, channel: Channel, files: Sequence[SourceFile]) -> list[SourceFile]:
        """Keep the bytes that the first epoch reads for those that follow."""
        kept = self._folder.root / "input" / "piped" / channel.channel_name
        plain = replace(channel, compression="None")
        deliver(files, kept, channel=plain, input_mode="File", copies=False)
        return [SourceFile(kept / file.name, file.name) for file in files]

    def _bring_model(self, channel: Channel, source: Path, run: lineage.Recorder) -> dict[str, Any]:
        """Give a fit the model it goes on from: a model's folder, or its `model.tar.gz`."""
        target = self._folder.channel(channel.channel_name)
        if source.is_dir() and (source / MANIFEST).is_file():
            shutil.copytree(source, target)
        else:
            (archive, *more) = find_files(channel, source, hidden=False)
            if more:
                raise InvalidData(
                    f"{channel.channel_name}: {source} is no model's folder, and it has more files "
                    "than one model.tar.gz",
                    channel=channel.channel_name,
                    path=str(source),
                )
            target.mkdir(parents=True, exist_ok=True)
            unpack_archive(archive.path, target, channel=channel.channel_name)
        found = Artifact.read(target)
        stored = ModelStore.of(self._home).path(found.digest)
        where = stored if stored.is_dir() else source.absolute()
        return provenance.record_model(run, replace(found, path=where))

    def _source(self, channel: Channel) -> Path:
        """Return where a channel's data is."""
        if channel.path is not None:
            return Path(channel.path).absolute()
        if channel.channel_name == MODEL:
            return ModelStore.of(self._home).path(str(channel.dataset))
        path = self._home / "artifacts" / "datasets" / f"{channel.dataset}.parquet"
        if not path.is_file():
            raise InvalidData(
                f"{channel.channel_name}: dataset {channel.dataset!r} has no file {path}; write it "
                "there with Dataset.write, or give the path of the file it was written to",
                channel=channel.channel_name,
                path=str(path),
            )
        return path
