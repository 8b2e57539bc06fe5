"""The files of a channel as one table, which knows of each row what file it came from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import pyarrow as pa

from training.encoding import SIZE_KEY
from training.errors import InvalidData

__all__ = ["Joined", "join"]

_POSITIONAL: Final = "text/csv"


@final
@dataclass(frozen=True)
class Joined:
    """Files, one behind the other.

    Attributes:
        table: the rows of all.
        names: of the n files.
        ends: n numbers of rows: how many there are up to each file's end.
    """

    table: pa.Table
    names: tuple[str, ...]
    ends: tuple[int, ...]

    def place(self, row: int) -> tuple[str, int]:
        """Return the file of a row (from 0), and which row of the file it is."""
        number = bisect_right(self.ends, row)
        return self.names[number], row - (self.ends[number - 1] if number else 0)

    def located(self, error: InvalidData) -> InvalidData:
        """Return an error that names a row of the table with the file's name and row beside."""
        row = error.facts.get("row")
        if not isinstance(row, int) or not 1 <= row <= len(self.table) or "path" in error.facts:
            return error
        name, inside = self.place(row - 1)
        return InvalidData(
            f"{error.message} ({name!r}, row {inside + 1})",
            **{**error.facts, "path": name, "row": inside + 1},
        )


def join(tables: Sequence[tuple[str, pa.Table]], content_type: str, *, channel: str) -> Joined:
    """Put the tables of n files one behind the other.

    Files may differ in a column's number type and in the order of columns; a column that one file
    lacks is null there. Columns without names, as in CSV, are as many in each file.

    Raises:
        InvalidData: a file does not fit those before it; the message names it and its column.
    """
    names = tuple(name for name, _ in tables)
    ends, rows = [], 0
    for _, table in tables:
        rows += len(table)
        ends.append(rows)
    if len(tables) == 1:
        return Joined(tables[0][1], names, tuple(ends))
    _check(tables, content_type, channel)
    joined = pa.concat_tables([table for _, table in tables], promote_options="permissive")
    return Joined(joined, names, tuple(ends))


def _check(tables: Sequence[tuple[str, pa.Table]], content_type: str, channel: str) -> None:
    """Refuse the first file that does not fit those before it."""
    first, start = tables[0]
    known = {field.name: (first, field) for field in start.schema}
    for name, table in tables[1:]:
        if content_type == _POSITIONAL and table.num_columns != start.num_columns:
            raise _refused(
                channel,
                name,
                f"row 1: expected {start.num_columns} columns as in {first!r}, got "
                f"{table.num_columns}",
                row=1,
            )
        for place, field in enumerate(table.schema):
            before, expected = known.setdefault(field.name, (name, field))
            if field.equals(expected, check_metadata=True):
                continue
            where = f"column {place + 1} ({field.name})"
            both = _merged(expected, field)
            if both is None:
                sample = repr(table[field.name][0].as_py())
                raise _refused(
                    channel,
                    name,
                    f"row 1, {where}: expected {expected.type} as in {before!r}, got "
                    f"{field.type}: {sample[:80]}",
                    row=1,
                    column=field.name,
                )
            sizes = [(one.metadata or {}).get(SIZE_KEY, b"").decode() for one in (expected, field)]
            if sizes[0] != sizes[1]:
                raise _refused(
                    channel,
                    name,
                    f"{where}: expected {sizes[0] or 'no'} dimensions as in {before!r}, got "
                    f"{sizes[1] or 'none said'}",
                    column=field.name,
                )
            # A column of nulls says nothing about its type, so it is no file to point at.
            holder = name if pa.types.is_null(expected.type) else before
            known[field.name] = (holder, both)


def _merged(one: pa.Field, other: pa.Field) -> pa.Field | None:
    """Return the field that holds the values of both; None: they do not go together."""
    are_vectors = _is_vector(one.type) and _is_vector(other.type)
    if are_vectors and one.type.list_size != other.type.list_size:
        return None
    try:
        schemas = [pa.schema([field.remove_metadata()]) for field in (one, other)]
        merged = pa.unify_schemas(schemas, promote_options="permissive").field(0)
    except pa.ArrowException:
        return None
    return merged.with_metadata(one.metadata)


def _is_vector(type: pa.DataType) -> bool:
    """Whether rows are vectors; lists of whole numbers may be the words of a text."""
    return bool(pa.types.is_fixed_size_list(type) and pa.types.is_floating(type.value_type))


def _refused(channel: str, name: str, problem: str, **facts: Any) -> InvalidData:
    return InvalidData(f"{channel}: {name!r}: {problem}", channel=channel, path=name, **facts)
