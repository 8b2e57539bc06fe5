"""Reads the channels of an algorithm's job: from its folder, in place, or through a pipe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final, final

from training.algorithm import Algorithm
from training.data import Dataset, read_sources
from training.errors import FitFailed, InvalidData
from training.formats import ContentType, content_type_of
from training.formats.joined import Joined
from training.formats.manifest import read_frames, read_manifest
from training.formats.packed import Source
from training.jobs.channel import Channel
from training.jobs.folder import JobFolder
from training.jobs.piping import read_parts
from training.streaming import Stream

__all__ = ["ChannelData", "channel_files", "read_channel"]

_RECORDS: Final = "application/x-recordio-protobuf"
_LINES: Final = "application/jsonlines"


@final
@dataclass(frozen=True)
class ChannelData:
    """What a channel has brought.

    Attributes:
        dataset: for the algorithm.
        joined: the files it was read from.
    """

    dataset: Dataset
    joined: Joined


def read_channel(
    folder: JobFolder,
    channel: Channel,
    input_mode: str,
    algorithm: Algorithm,
    *,
    like: Dataset | Stream | None = None,
) -> ChannelData:
    """Read a channel as its algorithm takes it, the files in the order that the job was told.

    A pipe is read for one epoch: an algorithm that passes over its rows several times keeps them
    in memory, and the model is the same as with the files.

    Args:
        folder: the job's.
        channel: what to read.
        input_mode: how it comes.
        algorithm: that asks.
        like: the training data, to encode validation data the same way.

    Raises:
        InvalidData: it cannot be read, or does not fit; the message has the file and the row.
    """
    if channel.is_augmented:
        joined = _read_lines(folder, channel, input_mode)
    else:
        joined = _read_files(folder, channel, input_mode, algorithm)
    try:
        dataset = Dataset.of(
            joined.table,
            label=channel.label or (like.label or None if like else None),
            features=channel.features,
            inputs=like.inputs if like else None,
            channel=channel.channel_name,
            labels=algorithm.labels,
            text=algorithm.text,
            intervals=algorithm.intervals,
            beside=algorithm.beside(),
        )
    except InvalidData as error:
        raise joined.located(error) from None
    return ChannelData(dataset, joined)


def channel_files(
    folder: JobFolder, channel: Channel, input_mode: str, scratch: Path
) -> list[Path]:
    """Return a channel's files in the order they are read, to be read more than once.

    What a pipe brings is written into `scratch` first, a file for each.

    Raises:
        FitFailed: there is no room in the folder.
        InvalidData: the pipe broke.
    """
    name = channel.channel_name
    if input_mode != "Pipe":
        listed = json.loads(folder.listing(name).read_text(encoding="utf-8"))
        return [folder.channel(name) / file for file, _ in listed]
    files = []
    for number, (file, data) in enumerate(read_parts(folder.channel(name), folder.listing(name))):
        # Its name tells its content type by the ending.
        path = scratch / f"{name}-piped-{number:05}-{PurePath(file).name}"
        try:
            path.write_bytes(data)
        except OSError as error:
            raise FitFailed(
                f"{name}: what the pipe brings does not fit into memory, and cannot be written to "
                f"{scratch}: {error}; make room there, or give the job more memory"
            ) from error
        files.append(path)
    return files


def _read_files(
    folder: JobFolder, channel: Channel, input_mode: str, algorithm: Algorithm
) -> Joined:
    name = channel.channel_name
    if input_mode == "Pipe":
        sources: Iterator[tuple[str, Source]] = _piped(folder, channel)
        first = next(sources)
        kind = content_type_of([PurePath(first[0])], given=channel.content_type, channel=name)
        sources = _alike(first, sources, kind, channel)
    else:
        listed = json.loads(folder.listing(name).read_text(encoding="utf-8"))
        files = [PurePath(file) for file, _ in listed]
        kind = content_type_of(files, given=channel.content_type, channel=name)
        sources = _in_place(folder.channel(name), listed, name)
    algorithm.check_input(name, input_mode=input_mode, content_type=kind.base)
    return read_sources(
        sources, kind, channel=name, reading=algorithm.reading(), labels=algorithm.labels
    )


def _piped(folder: JobFolder, channel: Channel) -> Iterator[tuple[str, Source]]:
    name = channel.channel_name
    parts = read_parts(folder.channel(name), folder.listing(name))
    if not channel.is_wrapped:
        yield from parts
        return
    # Each file was one record; together they are what a file of records is.
    data = b"".join(frame for _, frame in parts)
    yield f"{name}.pbr", data


def _alike(
    first: tuple[str, Source],
    rest: Iterator[tuple[str, Source]],
    kind: ContentType,
    channel: Channel,
) -> Iterator[tuple[str, Source]]:
    """Give what a pipe brings as long as it is of one content type."""
    yield first
    for name, source in rest:
        if not channel.content_type:
            # Refuses a file whose ending says something else than that of the first.
            both = [PurePath(first[0]), PurePath(name)]
            content_type_of(both, given=None, channel=channel.channel_name)
        yield name, source


def _in_place(
    folder: Path, listed: list[tuple[str, list[int] | None]], channel: str
) -> Iterator[tuple[str, Source]]:
    """Give files one after the other, each opened when it is asked for.

    Raises:
        InvalidData: one has changed since the job named it in the lineage.
    """
    for name, stamp in listed:
        path = folder / name
        _check_stamp(path, stamp, name, channel)
        yield name, path
        _check_stamp(path, stamp, name, channel)


def _check_stamp(path: Path, stamp: list[int] | None, name: str, channel: str) -> None:
    if stamp is None:
        return
    try:
        stat = path.stat()
    except OSError as error:
        raise InvalidData(
            f"{channel}: {name!r} cannot be read in place any more: {error.strerror}",
            channel=channel,
            path=str(path.resolve()),
        ) from error
    if [stat.st_size, stat.st_mtime_ns] != stamp:
        raise InvalidData(
            f"{channel}: {name!r} was changed while the job read it in place, so it is no longer "
            "what the lineage names; set input_mode=File, or leave it alone until the job has read "
            "it",
            channel=channel,
            path=str(path.resolve()),
        )


def _read_lines(folder: JobFolder, channel: Channel, input_mode: str) -> Joined:
    """Read the lines of an augmented manifest; errors name them as the manifest has them."""
    name = channel.channel_name
    try:
        if input_mode == "Pipe":
            manifest = PurePath(str(channel.path)).name
            parts = read_parts(folder.channel(name), folder.listing(name))
            lines = [(int(number), data) for number, data in parts]
            numbers = [number for number, _ in lines]
            table = read_frames(lines, channel.attributes)
        else:
            [(manifest, numbers)] = json.loads(folder.listing(name).read_text(encoding="utf-8"))
            path = folder.channel(name) / manifest
            table = read_manifest(path, channel.attributes, numbers=numbers)
    except InvalidData as error:
        facts = {**error.facts, "channel": name, "path": manifest}
        raise InvalidData(f"{name}: {manifest!r}: {error.message}", **facts) from error
    names = tuple(f"{manifest} line {number}" for number in numbers)
    return Joined(table, names, tuple(range(1, len(names) + 1)))
