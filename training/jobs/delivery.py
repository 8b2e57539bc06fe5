"""Brings a channel's files to the hosts of a job: found, shared out, linked, copied or unpacked."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, final

from training.errors import InvalidData
from training.formats import files_of
from training.jobs.channel import Channel

__all__ = [
    "SourceFile",
    "deliver",
    "find_files",
    "link",
    "open_source",
    "share_out",
    "unpack_archive",
]

_CHUNK = 1 << 20
_T = TypeVar("_T")


@final
@dataclass(frozen=True)
class SourceFile:
    """One file of a channel.

    Attributes:
        path: where it is.
        name: its path below the channel's folder.
    """

    path: Path
    name: str


def find_files(channel: Channel, source: Path, *, hidden: bool) -> list[SourceFile]:
    """List the files of a channel in the order of their names, or in that of its manifest.

    Args:
        channel: what they are for.
        source: a file, a folder or a manifest.
        hidden: whether names that begin with a dot or an underscore belong to the data.

    Raises:
        InvalidData: nothing is there, or the manifest cannot be read.
    """
    name = channel.channel_name
    if channel.data_type == "ManifestFile":
        return _listed(source, name)
    if not (hidden and source.is_dir()):
        paths = files_of(source, channel=name)
    else:
        paths = sorted(file for file in source.rglob("*") if file.is_file())
        if not paths:
            raise InvalidData(f"{name}: folder {source} is empty", channel=name, path=str(source))
    if source.is_file():
        return [SourceFile(source, source.name)]
    return [SourceFile(path, path.relative_to(source).as_posix()) for path in paths]


def share_out(
    files: Sequence[_T], channel: Channel, hosts: int, *, epoch: int = 0
) -> list[list[_T]]:
    """Give each host its files, or its lines of an augmented manifest.

    With a seed their order is drawn anew for each epoch. Sharded ones go round the hosts, so that
    shares differ by one at most; a host may get none.

    >>> files = [SourceFile(Path(name), name) for name in "abc"]
    >>> channel = Channel(channel_name="train", path="x", distribution="ShardedByS3Key")
    >>> [[file.name for file in share] for share in share_out(files, channel, 2)]
    [['a', 'c'], ['b']]
    """
    ordered = list(files)
    if channel.shuffle_seed is not None:
        random.Random(f"{channel.shuffle_seed}/{epoch}").shuffle(ordered)
    if channel.distribution == "FullyReplicated":
        return [ordered] * hosts
    return [ordered[host::hosts] for host in range(hosts)]


def deliver(
    files: Sequence[SourceFile],
    target: Path,
    *,
    channel: Channel,
    input_mode: str,
    copies: bool,
    check: Callable[[], None] = lambda: None,
) -> list[str]:
    """Bring files into a channel's folder.

    File: hard links, so the job keeps the bytes even when the source is replaced; copies where a
    program may write, or where the file system has no links. FastFile: links to the source.
    Compressed files are unpacked in either mode, and lose the ending `.gz`. One that is listed
    twice is there once.

    Args:
        files: to bring.
        target: the channel's folder; made when absent.
        channel: of the job.
        input_mode: File or FastFile.
        copies: whether a program may write to them.
        check: called before each file; what it raises ends the work.

    Returns:
        the names below the folder, in the order of the files, one that is listed twice included.

    Raises:
        InvalidData: a file cannot be read, or is not compressed as the channel says, or two would
            have one name.
    """
    target.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    delivered: dict[str, SourceFile] = {}
    for file in files:
        check()
        is_packed = channel.compression == "Gzip"
        name = file.name.removesuffix(".gz") if is_packed else file.name
        names.append(name)
        known = delivered.setdefault(name, file)
        if known is not file:
            if known == file:
                continue
            raise InvalidData(
                f"{channel.channel_name}: {known.path} and {file.path} would both be {name!r} in "
                "the job; rename one",
                channel=channel.channel_name,
                path=str(file.path),
            )
        to = target / name
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            if is_packed:
                with open_source(file, channel) as packed, to.open("wb") as plain:
                    shutil.copyfileobj(packed, plain, _CHUNK)
            else:
                link(file.path, to, input_mode=input_mode, copies=copies)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(file, channel, error) from error
    return names


def link(source: Path, to: Path, *, input_mode: str, copies: bool) -> None:
    """Put one file where a job reads it; see `deliver`."""
    if input_mode == "FastFile":
        to.symlink_to(source.resolve())
        return
    if not copies:
        try:
            # A link to a link would share its target's name, not its bytes.
            os.link(source.resolve(), to)
        except OSError:
            copies = True
    if copies:
        shutil.copyfile(source, to)


def open_source(file: SourceFile, channel: Channel) -> Any:
    """Open a file for reading bytes, unpacked when the channel is compressed."""
    if channel.compression == "Gzip":
        return gzip.open(file.path, "rb")
    return file.path.open("rb")


def unpack_archive(archive: Path, target: Path, *, channel: str) -> None:
    """Unpack a `tar.gz`; entries that would leave the folder are refused.

    Raises:
        InvalidData: it is no such archive.
    """
    try:
        with tarfile.open(archive, "r:*") as tar:
            tar.extractall(target, filter="data")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InvalidData(
            f"{channel}: {archive} cannot be unpacked as a tar.gz archive: {error}",
            channel=channel,
            path=str(archive),
        ) from error


def _listed(manifest: Path, channel: str) -> list[SourceFile]:
    """Read `[{"prefix": FOLDER}, NAME, NAME…]`."""

    def refuse(problem: str) -> InvalidData:
        return InvalidData(
            f"{channel}: manifest {manifest} {problem}; expected a JSON list: "
            '{"prefix": FOLDER}, then the names of files below it',
            channel=channel,
            path=str(manifest),
        )

    try:
        body = json.loads(manifest.read_text(encoding="utf-8"))
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise refuse(f"is not JSON: {error}") from error
    if not isinstance(body, list) or not body:
        raise refuse("is no list")
    prefix, names = "", body
    if isinstance(body[0], dict):
        prefix, names = str(body[0].get("prefix", "")).removeprefix("file://"), body[1:]
    files = []
    for place, name in enumerate(names, 1):
        if not isinstance(name, str) or ".." in PurePosixPath(name).parts or name.startswith("/"):
            raise refuse(f"has {name!r} as entry {place}")
        # As SageMaker does it the prefix is put before the name, slash or not.
        path = manifest.parent / f"{prefix}{name}"
        if not path.is_file():
            raise refuse(f"names {path}, which is not there")
        files.append(SourceFile(path, name))
    if not files:
        raise refuse("names no file")
    return files


def _unreadable(file: SourceFile, channel: Channel, error: Exception) -> InvalidData:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InvalidData(
        f"{channel.channel_name}: {file.path} cannot be read: {why}",
        channel=channel.channel_name,
        path=str(file.path),
    )
