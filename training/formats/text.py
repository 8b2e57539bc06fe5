"""Tables written as CSV, and values written as JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from training.encoding import is_number
from training.errors import InvalidData

__all__ = ["flattened", "rows_to_csv", "to_csv", "to_json"]

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def flattened(table: pa.Table) -> pa.Table:
    """Write vectors as a column for each number."""
    names, columns = [], []
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_fixed_size_list(field.type):
            for place in range(field.type.list_size):
                names.append(f"{field.name}[{place}]")
                columns.append(pc.list_element(column, place))
        elif pa.types.is_nested(field.type):
            raise InvalidData(
                f"column {field.name!r} is {field.type}, and text/csv holds one value a field",
                column=field.name,
            )
        else:
            names.append(field.name)
            columns.append(column)
    return pa.table(columns, names=names)


def to_csv(table: pa.Table) -> bytes:
    """Write rows without a header; a list is one field of JSON."""
    # A row of one empty field would be a blank line to Arrow's writer.
    is_plain = table.num_columns > 1 or not table.column(0).null_count
    if is_plain and all(
        is_number(kind) and not pa.types.is_boolean(kind) for kind in table.schema.types
    ):
        out = io.BytesIO()
        pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(include_header=False))
        return out.getvalue()
    return rows_to_csv(zip(*(column.to_pylist() for column in table.columns), strict=True))


def rows_to_csv(rows: Iterable[Sequence[Any]]) -> bytes:
    """Write rows of differing length."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([_field(value) for value in row])
    return out.getvalue().encode()


def _field(value: Any) -> Any:
    if isinstance(value, list | dict):
        return to_json(value).decode()
    return value


def to_json(value: Any) -> bytes:
    """Write a value; numbers that JSON has no word for are null."""
    try:
        return _ENCODER.encode(value).encode()
    except ValueError:
        return _ENCODER.encode(_plain(value)).encode()


def _plain(value: Any) -> Any:
    """Replace what JSON has no word for by null."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
