"""Readers by content type: which there are, and which one a file's ending means.

A reader is a function from one file, or the bytes of one, to one Arrow table. Its entry in
`READERS` is all there is to register; endings map onto content types in `ENDINGS`. A reader's
module loads when a file needs it: a job's process starts without the formats that it does not read.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import final

import pyarrow as pa

from training.errors import InvalidData
from training.formats.packed import Source

__all__ = [
    "ENDINGS",
    "READERS",
    "ContentType",
    "content_type_of",
    "files_of",
    "read_file",
    "read_source",
]

READERS: Mapping[str, tuple[str, str]] = {
    "text/csv": ("csv", "read"),
    "text/libsvm": ("libsvm", "read"),
    "application/jsonlines": ("jsonlines", "read"),
    "application/json": ("jsonlines", "read_document"),
    "application/x-recordio-protobuf": ("recordio_protobuf", "read"),
    "application/x-parquet": ("columnar", "read_parquet"),
    "application/vnd.apache.arrow.file": ("columnar", "read_arrow"),
}
"""Of each content type, the module of this package and its function."""

ENDINGS: Mapping[str, str] = {
    ".csv": "text/csv",
    ".csv.gz": "text/csv",
    ".libsvm": "text/libsvm",
    ".libsvm.gz": "text/libsvm",
    ".jsonl": "application/jsonlines",
    ".jsonl.gz": "application/jsonlines",
    ".json": "application/json",
    ".json.gz": "application/json",
    ".pbr": "application/x-recordio-protobuf",
    ".parquet": "application/x-parquet",
    ".arrow": "application/vnd.apache.arrow.file",
}


@final
@dataclass(frozen=True)
class ContentType:
    """A content type: its base in lower case, and the parameters after the semicolons.

    >>> ContentType.parse("text/csv;label_size=0")
    ContentType(base='text/csv', parameters={'label_size': '0'})
    """

    base: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> ContentType:
        """Read a content type as it is written in a channel."""
        base, *rest = text.split(";")
        pairs = (part.partition("=") for part in rest)
        return cls(
            base.strip().lower(),
            {name.strip().lower(): value.strip() for name, _, value in pairs},
        )

    def __str__(self) -> str:
        return ";".join([self.base, *(f"{k}={v}" for k, v in self.parameters.items())])


def files_of(path: Path, *, channel: str) -> list[Path]:
    """List a channel's data files: the file itself, or a folder's files sorted by name.

    Names that begin with a dot or an underscore are markers of other programs and are left out.

    Raises:
        InvalidData: nothing is there.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InvalidData(
            f"{channel}: {path} does not exist; give a file or a folder",
            channel=channel,
            path=str(path),
        )
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise InvalidData(f"{channel}: folder {path} is empty", channel=channel, path=str(path))
    return files


def content_type_of(files: Sequence[PurePath], *, given: str | None, channel: str) -> ContentType:
    """Return the content type of a channel: as given, else by the one ending its files share.

    Raises:
        InvalidData: it is not one that can be read, or the endings say nothing or differ.
    """
    if given:
        content_type = ContentType.parse(given)
        if content_type.base not in READERS:
            raise InvalidData(
                f"{channel}: content type {given!r} cannot be read; allowed are "
                f"{', '.join(sorted(READERS))}",
                channel=channel,
            )
        return content_type
    found = {_by_ending(file): file for file in files}
    if None in found:
        raise InvalidData(
            f"{channel}: the ending of {found[None].name!r} does not tell its content type: name "
            f"it with content_type= (allowed are {', '.join(sorted(READERS))}) or use one of "
            f"{', '.join(ENDINGS)}",
            channel=channel,
            path=str(found[None]),
        )
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise InvalidData(
            f"{channel}: {first.name!r} and {second.name!r} are of different content types; "
            "a folder holds files of one kind",
            channel=channel,
        )
    return ContentType(str(next(iter(found))))


def read_file(file: Path, content_type: ContentType, *, channel: str) -> pa.Table:
    """Read one file as Arrow; see `read_source`."""
    return read_source(file, content_type, name=file.name, channel=channel)


def read_source(source: Source, content_type: ContentType, *, name: str, channel: str) -> pa.Table:
    """Read one file, or the bytes of one, as Arrow.

    Args:
        source: the file or its bytes.
        content_type: one of `READERS`.
        name: what errors call it.
        channel: likewise.

    Raises:
        InvalidData: it is not what its content type says; the message has the reader's reason.
    """
    path = name if isinstance(source, bytes) else str(source)
    try:
        return _reader(content_type.base)(source, content_type.parameters)
    except InvalidData as error:
        facts = {**error.facts, "channel": channel, "path": path}
        raise InvalidData(f"{channel}: {name!r}: {error.message}", **facts) from error
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(
            f"{channel}: {name!r} cannot be read as {content_type}: {error}",
            channel=channel,
            path=path,
        ) from error


def _reader(content_type: str) -> Callable[[Source, Mapping[str, str]], pa.Table]:
    module, name = READERS[content_type]
    found: Callable[[Source, Mapping[str, str]], pa.Table] = getattr(
        importlib.import_module(f"training.formats.{module}"), name
    )
    return found


def _by_ending(file: PurePath) -> str | None:
    name = file.name.lower()
    matches = [ending for ending in ENDINGS if name.endswith(ending)]
    return ENDINGS[max(matches, key=len)] if matches else None
