"""Records as columns of an Arrow table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from training.errors import InvalidData
from training.formats.column import features_column, label_column, role_field
from training.formats.recordio.framing import HEADER_BYTES, Frames, refused
from training.formats.recordio.parse import TEXTS, Records
from training.formats.tensor import Tensors, joined

__all__ = ["table_of"]

_COLUMNS: Final = {("features", "values"): "features", ("label", "values"): "label"}
_Name = tuple[str, str]


def table_of(parts: Sequence[Records], frames: Frames) -> pa.Table:
    """Make one table of the records of consecutive frames.

    Raises:
        InvalidData: the records do not fit together; the message names the one that differs.
    """
    counts = _counts(parts, len(frames))
    fields: list[pa.Field] = []
    columns: list[Any] = []
    for name in _names([part.tensors for part in parts]):
        tensors = joined(
            [
                part.tensors.get(name) or _absent(parts, name, count)
                for part, count in zip(parts, counts, strict=True)
            ]
        )
        field, column = _column(name, tensors, frames)
        fields.append(field)
        columns.append(column)
    for name in _names([part.blobs for part in parts]):
        column = pa.chunked_array(
            [
                part.blobs.get(name, pa.nulls(count, pa.binary()))
                for part, count in zip(parts, counts, strict=True)
            ]
        )
        fields.append(pa.field(_column_name(name), pa.binary()))
        columns.append(column)
    for text in TEXTS.values():
        if any(text in part.texts for part in parts):
            column = pa.chunked_array(
                [
                    part.texts.get(text, pa.nulls(count, pa.string()))
                    for part, count in zip(parts, counts, strict=True)
                ]
            )
            fields.append(role_field(text, pa.string()))
            columns.append(column)
    names = [field.name for field in fields]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidData(
            f"records have two values that would be column {twice!r}: give them other keys",
            column=twice,
        )
    return pa.table(columns, schema=pa.schema(fields))


def _counts(parts: Sequence[Records], total: int) -> list[int]:
    """Return how many records each part has; one without anything has what is left."""
    counts: list[int] = []
    for part in parts:
        found = [len(tensors.counts) for tensors in part.tensors.values()]
        found += [len(column) for column in (*part.texts.values(), *part.blobs.values())]
        counts.append(found[0] if found else total - sum(counts))
    return counts


def _names(maps: Sequence[Mapping[_Name, Any]]) -> list[_Name]:
    """Return all names: features before labels, `values` first, then in order of the name."""
    names = {name for names in maps for name in names}
    return sorted(names, key=lambda name: (name[0], name[1] != "values", name[1]))


def _column_name(name: _Name) -> str:
    return _COLUMNS.get(name, name[1])


def _absent(parts: Sequence[Records], name: _Name, count: int) -> Tensors:
    dtype = next(part.tensors[name].values.dtype for part in parts if name in part.tensors)
    return Tensors.absent(count, dtype)


def _column(name: _Name, tensors: Tensors, frames: Frames) -> tuple[pa.Field, pa.Array]:
    def refuse(row: int, expected: str, got: str) -> InvalidData:
        return refused(row + 1, int(frames.starts[row]) - HEADER_BYTES, expected, got)

    column, where = _column_name(name), f"{name[0]}[{name[1]!r}]"
    if name[0] == "label":
        return label_column(column, tensors, refuse, where=where)
    tokens = name[1] != "values"
    return features_column(column, tensors, refuse, where=where, tokens=tokens)
