"""Augmented manifests: JSON lines of which chosen attributes are read, and files they refer to.

An attribute whose name ends in `-ref` is a URI and stands for the bytes there; any other stands for
its text. As a table, texts are read as JSON again, a column at a time: so an attribute is the same
column whether it comes from the manifest or through a pipe.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from training.errors import InvalidData, nearest
from training.formats.instance import instances_to_table
from training.formats.packed import read_bytes
from training.formats.recordio.framing import find_frames, framed

__all__ = [
    "Entry",
    "Fetch",
    "is_reference",
    "manifest_stream",
    "path_of",
    "read_entries",
    "read_frames",
    "read_manifest",
    "refused_line",
]

Fetch = Callable[[str], bytes]
"""Returns the bytes behind a URI."""

_REFERENCE: Final = "-ref"
_MOST_ATTRIBUTES: Final = 16


@final
@dataclass(frozen=True)
class Entry:
    """One line of a manifest.

    Attributes:
        number: of the line, from 1.
        values: its attributes, all of them.
    """

    number: int
    values: Mapping[str, Any]

    def pieces(self, attributes: Sequence[str], fetch: Fetch) -> list[bytes]:
        """Return what attributes stand for, in the order they are named.

        Raises:
            InvalidData: a reference cannot be read; the message has the line.
        """
        return [
            self._fetched(name, fetch) if is_reference(name) else _text(self.values[name]).encode()
            for name in attributes
        ]

    def reference(self, name: str) -> str:
        """Return the URI that an attribute holds.

        Raises:
            InvalidData: it is none; the message has the line.
        """
        uri = self.values[name]
        if not isinstance(uri, str):
            raise refused_line(self.number, f"{name!r}: expected a URI, got {uri!r}")
        return uri

    def _fetched(self, name: str, fetch: Fetch) -> bytes:
        uri = self.reference(name)
        try:
            return fetch(uri)
        except OSError as error:
            raise refused_line(self.number, f"{name!r}: {uri!r} cannot be read: {error}") from error


def is_reference(attribute: str) -> bool:
    """Whether an attribute is a URI that stands for the bytes there."""
    return attribute.endswith(_REFERENCE)


def path_of(uri: str, folder: Path) -> Path:
    """Return the file that a reference of a manifest in this folder means.

    Raises:
        OSError: it is neither a path nor a `file:` URI.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise OSError(f"{parts.scheme}: is not a scheme that is read here; use a path or file:")
    # A path may hold what a URI would write with per cent signs.
    return folder / (unquote(parts.path) if parts.scheme else uri)


def read_entries(path: Path, attributes: Sequence[str]) -> list[Entry]:
    """Read the lines of a manifest, plain or compressed with gzip; blank ones are passed over.

    Raises:
        InvalidData: a line lacks an attribute or is no object, or there is none; the message has
            the line.
    """
    names = list(attributes)
    if not 1 <= len(names) <= _MOST_ATTRIBUTES or len(set(names)) < len(names) or "" in names:
        raise InvalidData(
            f"AttributeNames: expected 1 to {_MOST_ATTRIBUTES} different names, got "
            f"{', '.join(names) or 'none'}"
        )
    lines = enumerate(read_bytes(path).splitlines(), 1)
    entries = [_entry(number, line, names) for number, line in lines if line.strip()]
    if not entries:
        raise InvalidData("expected lines of JSON, got none")
    return entries


def read_manifest(
    path: Path,
    attributes: Sequence[str],
    *,
    fetch: Fetch | None = None,
    numbers: Sequence[int] = (),
) -> pa.Table:
    """Read attributes of an augmented manifest as columns, in the order they are named.

    An attribute whose name ends in `-ref` is a URI, and its column has the bytes there; others
    become columns as in JSON lines, and words that are numbers become numbers where a column has
    no others. Attributes that are not named are passed over.

    Args:
        path: the manifest, plain or compressed with gzip.
        attributes: 1 to 16 names.
        fetch: reads a URI; None: paths and `file:` URIs, relative ones from the manifest's folder.
        numbers: what errors call the lines; none: as they are counted.

    Raises:
        InvalidData: a line lacks an attribute or is no object, or a file cannot be read; the
            message has the line.
    """
    fetch = fetch or _fetch_from(path.parent)
    entries = read_entries(path, attributes)
    if numbers:
        entries = [Entry(n, e.values) for n, e in zip(numbers, entries, strict=True)]
    rows = [(entry.number, entry.pieces(attributes, fetch)) for entry in entries]
    return _table(rows, attributes)


def read_frames(lines: Iterable[tuple[int, bytes]], attributes: Sequence[str]) -> pa.Table:
    """Read what a pipe brought of a manifest's lines, each attribute a frame; see `read_manifest`.

    Args:
        lines: the number of each line, and its frames.
        attributes: the names, in the order of the frames.

    Raises:
        InvalidData: a line has not a frame for each attribute, or they do not fit together.
    """
    rows = []
    for number, data in lines:
        frames = find_frames(data)
        if len(frames) != len(attributes):
            raise refused_line(
                number, f"expected {len(attributes)} frames of RecordIO, got {len(frames)}"
            )
        rows.append((number, [frames.payload(place) for place in range(len(frames))]))
    if not rows:
        raise InvalidData("expected lines of a manifest, got none")
    return _table(rows, attributes)


def manifest_stream(
    path: Path,
    attributes: Sequence[str],
    *,
    wrapped: bool = False,
    fetch: Fetch | None = None,
) -> Iterator[bytes]:
    """Give the attributes of each line as bytes, in the order they are named, as a pipe has them.

    A reference gives the bytes behind it, text itself, and other values their JSON.

    Args:
        path: the manifest.
        attributes: 1 to 16 names.
        wrapped: whether each attribute is a RecordIO frame of its own; else nothing is between.
        fetch: see `read_manifest`.

    Raises:
        InvalidData: see `read_manifest`.
    """
    fetch = fetch or _fetch_from(path.parent)
    for entry in read_entries(path, attributes):
        for piece in entry.pieces(attributes, fetch):
            yield framed([piece]) if wrapped else piece


def refused_line(number: int, problem: str) -> InvalidData:
    """Return the error of a line."""
    return InvalidData(f"line {number}: {problem}", line=number)


def _entry(number: int, line: bytes, names: Sequence[str]) -> Entry:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise refused_line(number, f"expected a JSON object: {error}") from error
    if not isinstance(values, dict):
        raise refused_line(number, f"expected a JSON object, got {type(values).__name__}")
    for name in names:
        if name not in values:
            raise refused_line(
                number,
                f"attribute {name!r} is missing{nearest(name, values)}; the line has "
                f"{', '.join(values)}",
            )
    return Entry(number, values)


def _table(rows: Sequence[tuple[int, list[bytes]]], attributes: Sequence[str]) -> pa.Table:
    def refuse(row: int, expected: str, got: str) -> InvalidData:
        return refused_line(rows[row][0], f"expected {expected}, got {got}")

    read: dict[str, list[Any]] = {}
    for place, name in enumerate(attributes):
        if not is_reference(name):
            texts = [pieces[place].decode() for _, pieces in rows]
            read[name] = _values(name, texts, refuse)
    instances = [
        dict(zip(read, values, strict=True)) for values in zip(*read.values(), strict=True)
    ]
    table = instances_to_table(instances, refuse) if read else pa.table({})
    fields, columns = [], []
    for place, name in enumerate(attributes):
        if name in read:
            fields.append(table.schema.field(name))
            columns.append(table[name])
        else:
            fields.append(pa.field(name, pa.binary()))
            columns.append(pa.array([pieces[place] for _, pieces in rows], pa.binary()))
    return pa.table(columns, schema=pa.schema(fields))


def _values(name: str, texts: list[str], refuse: Callable[[int, str, str], Any]) -> list[Any]:
    """Read a column's texts as JSON, or leave them words where at least half are no JSON."""
    values: list[Any] = []
    words: list[int] = []
    for row, text in enumerate(texts):
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except ValueError:
            value = text
        if isinstance(value, str):
            words.append(row)
        values.append(value)
    nulls = values.count(None)
    known = len(texts) - nulls
    if not words:
        return values
    if (known - len(words)) * 2 > known:
        expected = f"{name!r} to be no word, as in {known - len(words)} of {known} lines"
        raise refuse(words[0], expected, repr(texts[words[0]]))
    return [None if value is None else text for value, text in zip(values, texts, strict=True)]


def _no_constant(word: str) -> Any:
    raise ValueError(word)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fetch_from(folder: Path) -> Fetch:
    def fetch(uri: str) -> bytes:
        return path_of(uri, folder).read_bytes()

    return fetch
