"""Augmented manifests: JSON lines of which chosen attributes are read, and files they refer to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from training.errors import InvalidData, nearest
from training.formats.instance import instances_to_table
from training.formats.packed import read_bytes
from training.formats.recordio.framing import framed

__all__ = ["Fetch", "manifest_stream", "read_manifest"]

Fetch = Callable[[str], bytes]
"""Returns the bytes behind a URI."""

_REFERENCE: Final = "-ref"
_MOST_ATTRIBUTES: Final = 16


def read_manifest(path: Path, attributes: Sequence[str], *, fetch: Fetch | None = None) -> pa.Table:
    """Read attributes of an augmented manifest as columns, in the order they are named.

    An attribute whose name ends in `-ref` is a URI, and its column has the bytes there; others
    become columns as in JSON lines. Attributes that are not named are passed over.

    Args:
        path: the manifest, plain or compressed with gzip.
        attributes: 1 to 16 names.
        fetch: reads a URI; None: paths and `file:` URIs, relative ones from the manifest's folder.

    Raises:
        InvalidData: a line lacks an attribute or is no object, or a file cannot be read; the
            message has the line.
    """
    lines = list(_lines(path, attributes))
    fetch = fetch or _fetch_from(path.parent)

    def refuse(row: int, expected: str, got: str) -> InvalidData:
        return _refused(lines[row][0], f"expected {expected}, got {got}")

    plain = [name for name in attributes if not name.endswith(_REFERENCE)]
    values = [{name: entry[name] for name in plain} for _, entry in lines]
    table = instances_to_table(values, refuse) if plain else pa.table({})
    fields, columns = [], []
    for name in attributes:
        if name in plain:
            fields.append(table.schema.field(name))
            columns.append(table[name])
        else:
            found = [_fetched(fetch, entry[name], number, name) for number, entry in lines]
            fields.append(pa.field(name, pa.binary()))
            columns.append(pa.array(found, pa.binary()))
    return pa.table(columns, schema=pa.schema(fields))


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
    for number, entry in _lines(path, attributes):
        for name in attributes:
            value = entry[name]
            if name.endswith(_REFERENCE):
                piece = _fetched(fetch, value, number, name)
            else:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                piece = text.encode()
            yield framed([piece]) if wrapped else piece


def _lines(path: Path, attributes: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the objects of a manifest with the numbers of their lines."""
    names = list(attributes)
    if not 1 <= len(names) <= _MOST_ATTRIBUTES or len(set(names)) < len(names) or "" in names:
        raise InvalidData(
            f"AttributeNames: expected 1 to {_MOST_ATTRIBUTES} different names, got "
            f"{', '.join(names) or 'none'}"
        )
    count = 0
    for number, line in enumerate(read_bytes(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise _refused(number, f"expected a JSON object: {error}") from error
        if not isinstance(entry, dict):
            raise _refused(number, f"expected a JSON object, got {type(entry).__name__}")
        for name in names:
            if name not in entry:
                raise _refused(
                    number,
                    f"attribute {name!r} is missing{nearest(name, entry)}; the line has "
                    f"{', '.join(entry)}",
                )
        count += 1
        yield number, entry
    if not count:
        raise InvalidData("expected lines of JSON, got none")


def _fetched(fetch: Fetch, uri: Any, number: int, name: str) -> bytes:
    if not isinstance(uri, str):
        raise _refused(number, f"{name!r}: expected a URI, got {uri!r}")
    try:
        return fetch(uri)
    except OSError as error:
        raise _refused(number, f"{name!r}: {uri!r} cannot be read: {error}") from error


def _fetch_from(folder: Path) -> Fetch:
    def fetch(uri: str) -> bytes:
        parts = urlsplit(uri)
        if parts.scheme not in ("", "file"):
            raise OSError(f"{parts.scheme}: is not a scheme that is read here; use a path or file:")
        # A path may hold what a URI would write with per cent signs.
        return (folder / (unquote(parts.path) if parts.scheme else uri)).read_bytes()

    return fetch


def _refused(number: int, problem: str) -> InvalidData:
    return InvalidData(f"line {number}: {problem}", line=number)
