"""Brings a job's channels to its hosts and names them in its lineage."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, final

import lineage
from training import provenance
from training.artifact import MANIFEST, Artifact, ModelStore
from training.errors import InvalidData
from training.formats.manifest import Entry
from training.formats.recordio.framing import framed
from training.jobs.augmented import Augmented
from training.jobs.channel import Channel
from training.jobs.delivery import (
    SourceFile,
    deliver,
    find_files,
    open_source,
    share_out,
    unpack_archive,
)
from training.jobs.folder import JobFolder
from training.jobs.job import TrainingJob
from training.jobs.piping import Part, Pipe
from training.jobs.program import MODEL

__all__ = ["Download"]


@final
class Download:
    """The channels of one job.

    Args:
        job: what was asked for.
        folder: the job's.
        home: that the job runs in.
        hosts: that get the data.
        for_script: whether a program of the user's reads it: that may write to its files, and reads
            any kind of file. Our algorithms are told the order of their files, and find a model
            unpacked.
        check: called often while data is brought; what it raises ends that.
    """

    def __init__(
        self,
        job: TrainingJob,
        folder: JobFolder,
        home: Path,
        hosts: Sequence[str],
        *,
        for_script: bool,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._job = job
        self._folder = folder
        self._home = home
        self._hosts = hosts
        self._for_script = for_script
        self._check = check
        self._piped: dict[Channel, Callable[[int], list[list[Part]]]] = {}

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
                lambda epoch, parts=parts, place=place: parts(epoch)[place],  # type: ignore[misc]
                listing=None
                if self._for_script
                else self._folder.host(host).listing(channel.channel_name),
            )
            for channel, parts in self._piped.items()
            for place, host in enumerate(self._hosts)
        ]

    def _bring(self, channel: Channel, run: lineage.Recorder) -> dict[str, Any]:
        source = self._source(channel)
        if channel.channel_name == MODEL and not self._for_script:
            return self._bring_model(channel, source, run)
        if channel.is_augmented:
            augmented = Augmented.read(channel, source)
            self._bring_lines(channel, augmented)
            return provenance.record_channel(
                run, channel, source, augmented.sources, check=self._check
            )
        files = find_files(channel, source, hidden=self._for_script)
        if self._job.input_mode(channel) == "Pipe":
            read = self._pin(channel, files)
            self._piped[channel] = self._parts(channel, read)
        else:
            read = self._bring_files(channel, files)
        return provenance.record_channel(run, channel, source, read, check=self._check)

    def _bring_files(self, channel: Channel, files: list[SourceFile]) -> list[SourceFile]:
        """Bring files; return those whose bytes the job reads, for the lineage."""
        mode = self._job.input_mode(channel)
        linked: dict[SourceFile, SourceFile] = {}
        for host, share in zip(
            self._hosts, share_out(files, channel, len(self._hosts)), strict=True
        ):
            folder = self._folder.host(host)
            place = folder.channel(channel.channel_name)
            linked |= {file: SourceFile(place / file.name, file.name) for file in share}
            names = deliver(
                share,
                place,
                channel=channel,
                input_mode=mode,
                copies=self._for_script,
                check=self._check,
            )
            stamps = [_stamp(place / name) if mode == "FastFile" else None for name in names]
            self._list(channel, folder, list(zip(names, stamps, strict=True)))
        if self._for_script or mode == "FastFile" or channel.compression != "None":
            return files
        # A link holds on to what it was made of, when somebody replaces the source meanwhile.
        return [linked[file] for file in files]

    def _bring_lines(self, channel: Channel, augmented: Augmented) -> None:
        """Bring the lines of an augmented manifest, and what they refer to."""
        mode, hosts = self._job.input_mode(channel), len(self._hosts)
        if mode == "Pipe":
            kept = augmented.deliver(
                augmented.entries,
                self._kept(channel),
                channel=channel,
                input_mode="File",
                copies=False,
            )
            self._piped[channel] = lambda epoch: [
                [Part(str(entry.number), partial(_line, kept, entry, channel)) for entry in share]
                for share in share_out(kept.entries, channel, hosts, epoch=epoch)
            ]
            return
        for host, share in zip(
            self._hosts, share_out(augmented.entries, channel, hosts), strict=True
        ):
            folder = self._folder.host(host)
            augmented.deliver(
                share,
                folder.channel(channel.channel_name),
                channel=channel,
                input_mode=mode,
                copies=self._for_script,
            )
            self._list(channel, folder, [(augmented.name, [entry.number for entry in share])])

    def _list(self, channel: Channel, folder: JobFolder, files: list[tuple[str, Any]]) -> None:
        """Tell an algorithm's process in which order the files come, with a fact on each."""
        if not self._for_script:
            listing = folder.listing(channel.channel_name)
            listing.parent.mkdir(parents=True, exist_ok=True)
            listing.write_text(json.dumps(files), encoding="utf-8")

    def _parts(
        self, channel: Channel, files: Sequence[SourceFile]
    ) -> Callable[[int], list[list[Part]]]:
        opened = _framed if channel.is_wrapped else open_source
        return lambda epoch: [
            [Part(file.name, partial(opened, file, channel)) for file in share]
            for share in share_out(files, channel, len(self._hosts), epoch=epoch)
        ]

    def _pin(self, channel: Channel, files: Sequence[SourceFile]) -> list[SourceFile]:
        """Keep the bytes that the first epoch reads for those that follow."""
        kept = self._kept(channel)
        plain = replace(channel, compression="None")
        deliver(files, kept, channel=plain, input_mode="File", copies=False, check=self._check)
        return [SourceFile(kept / file.name, file.name) for file in files]

    def _kept(self, channel: Channel) -> Path:
        return self._folder.piped(channel.channel_name)

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


def _stamp(path: Path) -> list[int]:
    """What changes when somebody writes to a file that is read in place."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _framed(file: SourceFile, channel: Channel) -> Any:
    with open_source(file, channel) as source:
        return io.BytesIO(framed([source.read()]))


def _line(augmented: Augmented, entry: Entry, channel: Channel) -> Any:
    return io.BytesIO(augmented.line(entry, channel))
