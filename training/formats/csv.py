"""`text/csv` as SageMaker's algorithms take it: no header row, the label first."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from training.encoding import is_number
from training.errors import InvalidData
from training.formats.column import label_column, role_field
from training.formats.packed import Source, open_stream
from training.formats.tensor import Tensors

__all__ = ["LABEL", "decode", "read"]

LABEL: Final = "label"
WEIGHT: Final = "weight"

_MAX_BLOCK_BYTES: Final = 2**30
_RAGGED: Final = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)
_NUMBER: Final = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"


def read(source: Source, parameters: Mapping[str, str]) -> pa.Table:
    """Read a CSV file; its columns are called `label`, `f0`, `f1` and so on.

    With `label_size=0` there is no label column, so that the input columns have the same names
    with and without a label; with `label_size=3` the first three columns are one label vector.
    With `weight_size=1` the column behind the label is the weight of each row, and no input.
    Types are found from the values; an empty field is null, and a column of words is text. A file
    compressed with gzip is unpacked.

    Raises:
        InvalidData: a row has more or fewer fields than the first, or a column is numbers but for
            some fields; the message names the row, counted without blank lines, and the column.
    """
    return _decode(lambda: open_stream(source), parameters)


def decode(data: bytes, parameters: Mapping[str, str]) -> pa.Table:
    r"""Read CSV from memory; see `read`.

    >>> decode(b"1,0.5,wet\n0,,dry\n", {}).to_pydict()
    {'label': [1, 0], 'f0': [0.5, None], 'f1': ['wet', 'dry']}
    """
    return _decode(lambda: io.BytesIO(data), parameters)


def _decode(opened: Callable[[], Any], parameters: Mapping[str, str]) -> pa.Table:
    labels = _count(parameters, "label_size", 1)
    weights = _count(parameters, "weight_size", 0)
    if weights > 1:
        raise InvalidData(f"weight_size: expected 0 or 1, got {weights}")
    table = _table(opened)
    if labels + weights > table.num_columns:
        what = f"{labels} label columns" + (" and a weight" if weights else "")
        raise InvalidData(f"expected {what}, got {table.num_columns} columns")
    names = [_name(place, labels, weights) for place in range(table.num_columns)]
    table = table.rename_columns(names)
    for place, name in enumerate(names):
        _check_numbers(table[name], place, name)
    if weights:
        table = _with_weight(table, labels)
    return _with_vector(table, labels) if labels > 1 else table


def _table(opened: Callable[[], Any]) -> pa.Table:
    try:
        return _read(opened, pyarrow.csv.ReadOptions(autogenerate_column_names=True))
    except pa.ArrowInvalid:
        # The reader decides a type from the first block, and a later block held other values
        # (`1`, then `1.5`): let it see the whole file before it decides. With one thread it knows
        # the number of a row whose fields are too many or too few.
        with opened() as stream:
            data = bytes(stream.read())
        if b"\n" not in data and b"\r" not in data:
            # A single row whose line does not end is none to the reader.
            data += b"\n"
        options = pyarrow.csv.ReadOptions(
            autogenerate_column_names=True,
            block_size=min(max(len(data) * 2, 2**20), _MAX_BLOCK_BYTES),
            use_threads=False,
        )
        try:
            return _read(lambda: io.BytesIO(data), options)
        except pa.ArrowInvalid as error:
            found = _RAGGED.search(str(error))
            if found is None:
                raise
            row, expected, got, text = found.groups()
            raise InvalidData(
                f"row {row}: expected {expected} fields as in row 1, got {got}: {text[:80]!r}",
                row=int(row),
            ) from error


def _read(opened: Callable[[], Any], options: pyarrow.csv.ReadOptions) -> pa.Table:
    with opened() as stream:
        return pyarrow.csv.read_csv(
            stream,
            read_options=options,
            convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True),
        )


def _count(parameters: Mapping[str, str], name: str, default: int) -> int:
    given = parameters.get(name, str(default))
    if not given.isdecimal():
        raise InvalidData(f"{name}: expected a number of columns, got {given!r}")
    return int(given)


def _name(place: int, labels: int, weights: int) -> str:
    if place >= labels + weights:
        return f"f{place - labels - weights}"
    if place >= labels:
        return WEIGHT
    return LABEL if labels == 1 else f"{LABEL}{place}"


def _check_numbers(column: pa.ChunkedArray, place: int, name: str) -> None:
    """Refuse a column of words that is one only because of a few of its fields."""
    if pa.types.is_binary(column.type):
        raise InvalidData(f"column {place + 1} ({name}): expected text in UTF-8", column=name)
    if not pa.types.is_string(column.type):
        return
    numbers = pc.match_substring_regex(column, _NUMBER)
    count, known = pc.sum(numbers).as_py() or 0, len(column) - column.null_count
    if count * 2 <= known:
        return
    row = pc.index(numbers, False).as_py()
    hint = (
        "text/csv has no header row"
        if row == 0
        else "leave the field empty if it is missing; categories that look like numbers can come "
        "as Parquet or JSON lines"
    )
    raise InvalidData(
        f"row {row + 1}, column {place + 1} ({name}): expected a number as in {count} of {known} "
        f"rows, got {column[row].as_py()!r}; {hint}",
        row=row + 1,
        column=name,
    )


def _with_weight(table: pa.Table, place: int) -> pa.Table:
    """Mark a column as the weights of the rows."""
    column = table.column(place)
    if column.null_count or not is_number(column.type):
        row = pc.index(pc.is_null(column), True).as_py() if column.null_count else 0
        raise InvalidData(
            f"row {row + 1}: expected a weight in column {place + 1}, got {column[row].as_py()!r}",
            row=row + 1,
            column=WEIGHT,
        )
    field = role_field(WEIGHT, pa.float64())
    return table.set_column(place, field, column.cast(pa.float64()))


def _with_vector(table: pa.Table, labels: int) -> pa.Table:
    """Make the first columns one label vector."""
    values = np.empty((len(table), labels))
    for place in range(labels):
        column = table.column(place)
        if column.null_count or not is_number(column.type):
            row = pc.index(pc.is_null(column), True).as_py() if column.null_count else 0
            raise InvalidData(
                f"row {row + 1}: expected a number in label column {place + 1}, got "
                f"{column[row].as_py()!r}",
                row=row + 1,
                column=LABEL,
            )
        values[:, place] = column.cast(pa.float64()).to_numpy()
    made, vectors = label_column(LABEL, Tensors.dense(values), _no_row)
    rest = table.select(range(labels, table.num_columns))
    return rest.add_column(0, made, vectors)


def _no_row(row: int, expected: str, got: str) -> InvalidData:
    return InvalidData(f"row {row + 1}: expected {expected}, got {got}", row=row + 1)
