"""One input column: what kind it is, and how its values are brought into one form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.errors import InvalidData

__all__ = [
    "SIZE_KEY",
    "Input",
    "Kind",
    "by_position",
    "encoded",
    "is_number",
    "is_text",
    "learned",
    "vector_of",
]

Kind = Literal["number", "category", "text", "vector", "sparse", "tokens"]

SIZE_KEY = b"featureline.size"
"""Where the field of a sparse column keeps how many dimensions it has, as text."""


@final
@dataclass(frozen=True)
class Input:
    """One input column.

    Attributes:
        name: the column.
        kind: `number` (integers, floats and booleans pass as they are); `category` (words with a
            code each); `text` (words as they are); `vector` (lists of `size` numbers); `sparse`
            (structs of `indices` and `values` in `size` dimensions); `tokens` (lists of any length
            of whole numbers).
        categories: the known words of a category in code order, sorted by code point.
        size: the dimensions of a vector or a sparse vector; else 1.
    """

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    size: int = 1

    @property
    def width(self) -> int:
        """How many columns of a matrix it takes: a category takes one for each of its words."""
        return len(self.categories) if self.kind == "category" else self.size


def learned(field: pa.Field, column: pa.ChunkedArray, channel: str, text: Kind) -> Input:
    """Say what an input column of training data is.

    Raises:
        InvalidData: its type cannot be an input.
    """
    name = field.name
    if is_number(column.type):
        return Input(name, "number")
    if is_text(column.type):
        if text == "text":
            return Input(name, "text")
        words = pc.unique(column.cast(pa.string())).drop_null().to_pylist()
        return Input(name, "category", tuple(sorted(words)))
    if is_sparse(column.type):
        return Input(name, "sparse", size=_sparse_size(field, column, channel))
    if is_list(column.type) and is_number(column.type.value_type):
        if pa.types.is_fixed_size_list(column.type):
            return Input(name, "vector", size=column.type.list_size)
        if pa.types.is_integer(column.type.value_type):
            return Input(name, "tokens")
        sizes = pc.unique(pc.list_value_length(column)).drop_null().to_pylist()
        if len(sizes) == 1:
            return Input(name, "vector", size=sizes[0])
        found = f"{min(sizes)} to {max(sizes)} numbers" if sizes else "no numbers"
        raise InvalidData(
            f"{channel}: column {name!r} is {column.type} with {found}, and a vector has the "
            "same number in every row: convert it, or name the input columns with features=",
            channel=channel,
            column=name,
        )
    raise InvalidData(
        f"{channel}: column {name!r} is {column.type}, and an input must be a number, a boolean, "
        "text, or a vector: convert it, or name the input columns with features=",
        channel=channel,
        column=name,
    )


def encoded(column: Input, values: pa.ChunkedArray, channel: str) -> pa.ChunkedArray | pa.Array:
    """Bring one column into the form that its kind has.

    Raises:
        InvalidData: the values are of another type, infinite, or a vector of another size.
    """
    if pa.types.is_null(values.type):
        words = column.kind in ("category", "text")
        values = values.cast(pa.string() if words else pa.float64())
    match column.kind:
        case "number":
            return _numbers(column, values, channel)
        case "category":
            return _codes(column, values, channel)
        case "text":
            # Whole numbers are names too, such as those of customers.
            if not is_text(values.type) and not pa.types.is_integer(values.type):
                raise _wrong_type(column, values, "text", channel)
            return values.cast(pa.string())
        case "vector":
            return vector_of(column, values, channel)
        case "sparse":
            return _sparse(column, values, channel)
        case "tokens":
            if is_list(values.type) and not any(len(chunk.flatten()) for chunk in values.chunks):
                # Lists of nothing do not say what they would be of.
                empty: list[list[int] | None] = [
                    None if row is None else [] for row in values.to_pylist()
                ]
                return pa.chunked_array([pa.array(empty, pa.list_(pa.int32()))])
            if not is_list(values.type) or not pa.types.is_integer(values.type.value_type):
                raise _wrong_type(column, values, "lists of whole numbers", channel)
            return values.cast(pa.list_(values.type.value_type))


def by_position(columns: Sequence[Input], table: pa.Table) -> pa.Table:
    """Name a table's columns as a model does, where they differ only in how they are packed.

    A model of n columns takes n columns without names, as CSV has them; a model of n number columns
    takes one vector of n numbers, and a model of one vector takes n number columns, in order. A
    table that fits neither is returned as it is.
    A model of n number columns takes one sparse vector of n dimensions too. A model of n columns of
    words takes n columns of other names, or one of lists of n words.
    """
    kinds = [column.kind for column in columns]
    if set(kinds) == {"text"}:
        return _words_by_position(columns, table)
    unnamed = table.column_names == [f"f{place}" for place in range(len(columns))]
    if unnamed and set(kinds) <= {"number", "category", "text"}:
        return table.rename_columns([column.name for column in columns])
    vectors = [name for name in table.column_names if is_list(table[name].type)]
    if len(vectors) == 1 and set(kinds) == {"number"}:
        kind = table[vectors[0]].type
        if pa.types.is_fixed_size_list(kind) and kind.list_size == len(columns):
            flat = table[vectors[0]].combine_chunks()
            split = [pc.list_element(flat, place) for place in range(len(columns))]
            return pa.table(split, names=[column.name for column in columns])
    thin = [name for name in table.column_names if is_sparse(table[name].type)]
    if len(thin) == 1 and set(kinds) == {"number"}:
        held = table.schema.field(thin[0])
        if (held.metadata or {}).get(SIZE_KEY) == str(len(columns)).encode():
            return _filled(columns, table[thin[0]])
    if kinds in (["vector"], ["sparse"]):
        numbers = [n for n in table.column_names if n != "label" and is_number(table[n].type)]
        if len(numbers) == columns[0].size and len(numbers) >= len(table.column_names) - 1:
            rows = np.empty((len(table), len(numbers)), np.float64)
            for place, name in enumerate(numbers):
                rows[:, place] = table[name].cast(pa.float64(), safe=False).to_numpy()
            packed = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), len(numbers))
            return pa.table({columns[0].name: packed})
    return table


def _filled(columns: Sequence[Input], values: pa.ChunkedArray) -> pa.Table:
    """Write a sparse column as a column of numbers for each of its dimensions."""
    held = values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    lengths = pc.list_value_length(held.field("indices")).to_numpy(zero_copy_only=False)
    places = held.field("indices").flatten().to_numpy(zero_copy_only=False)
    numbers = np.zeros((len(columns), len(values)), np.float32)
    rows = np.repeat(np.arange(len(values)), lengths)
    numbers[places, rows] = held.field("values").flatten().to_numpy(zero_copy_only=False)
    return pa.table(list(numbers), names=[column.name for column in columns])


def _words_by_position(columns: Sequence[Input], table: pa.Table) -> pa.Table:
    names = [column.name for column in columns]
    if not set(names).isdisjoint(table.column_names):
        return table
    words = [name for name in table.column_names if is_text(table[name].type)]
    if len(table.column_names) == len(names) and words:
        return table.rename_columns(names)
    if len(words) == len(names):
        return table.select(words).rename_columns(names)
    lists = [name for name in table.column_names if is_list(table[name].type)]
    if len(lists) == 1 and is_text(table[lists[0]].type.value_type):
        rows = table[lists[0]].combine_chunks()
        if pc.all(pc.equal(pc.list_value_length(rows), len(names))).as_py() is not False:
            split = [pc.list_element(rows, place) for place in range(len(names))]
            return pa.table(split, names=names)
    return table


def vector_of(column: Input, values: pa.ChunkedArray, channel: str) -> pa.ChunkedArray:
    """Bring lists of numbers into fixed-size lists of float32, or of float64 where they are.

    Raises:
        InvalidData: a list is missing, of another size, or has no finite number somewhere.
    """
    if not is_list(values.type) or not is_number(values.type.value_type):
        raise _wrong_type(column, values, f"vectors of {column.size} numbers", channel)
    if values.null_count:
        raise _refused_row(column, channel, pc.is_null(values), "is missing")
    fixed = pa.types.is_fixed_size_list(values.type)
    if fixed and values.type.list_size != column.size:
        raise _wrong_type(column, values, f"vectors of {column.size} numbers", channel)
    if not fixed:
        wrong = pc.not_equal(pc.list_value_length(values), column.size)
        if pc.any(wrong).as_py():
            raise _refused_row(column, channel, wrong, f"has not {column.size} numbers")
    number = pa.float64() if pa.types.is_float64(values.type.value_type) else pa.float32()
    parts: list[pa.Array] = []
    for chunk in values.chunks:
        flat = chunk.flatten().cast(number, safe=False)
        if flat.null_count or not np.isfinite(flat.to_numpy(zero_copy_only=False)).all():
            bad = ~np.isfinite(flat.to_numpy(zero_copy_only=False)).reshape(-1, column.size)
            row = sum(len(part) for part in parts) + int(bad.any(axis=1).argmax())
            raise InvalidData(
                f"{channel}: column {column.name!r} has a value that is missing or not finite in "
                f"row {row + 1}; a vector has a finite number in every place",
                channel=channel,
                column=column.name,
                row=row + 1,
            )
        parts.append(pa.FixedSizeListArray.from_arrays(flat, column.size))
    return pa.chunked_array(parts, pa.list_(number, column.size))


def _numbers(column: Input, values: pa.ChunkedArray, channel: str) -> pa.ChunkedArray:
    if not is_number(values.type):
        raise _wrong_type(column, values, "numbers", channel)
    if pa.types.is_decimal(values.type):
        return values.cast(pa.float64())
    _refuse_infinite(column, values, channel)
    return values


def _codes(column: Input, values: pa.ChunkedArray, channel: str) -> pa.ChunkedArray | pa.Array:
    if not is_text(values.type):
        raise _wrong_type(column, values, "text", channel)
    if not column.categories:
        # Training saw no value at all, so there are no codes; a column of nulls says the same.
        return pa.nulls(len(values), pa.float64())
    words = pa.array(column.categories, pa.string())
    codes = pc.index_in(values.cast(pa.string()), value_set=words, skip_nulls=True)
    return pa.chunked_array(
        [pa.DictionaryArray.from_arrays(chunk, words) for chunk in codes.chunks],
        pa.dictionary(pa.int32(), pa.string()),
    )


def _sparse(column: Input, values: pa.ChunkedArray, channel: str) -> pa.ChunkedArray:
    if is_list(values.type) and is_number(values.type.value_type):
        return _thinned(vector_of(column, values, channel), column.size)
    if not is_sparse(values.type):
        expected = f"sparse vectors of {column.size} dimensions"
        raise _wrong_type(column, values, expected, channel)
    if values.null_count:
        raise _refused_row(column, channel, pc.is_null(values), "is missing")
    row = 0
    for chunk in values.chunks:
        indices = chunk.field("indices").flatten().to_numpy(zero_copy_only=False)
        if len(indices) and (indices.min() < 0 or indices.max() >= column.size):
            place = int(((indices < 0) | (indices >= column.size)).argmax())
            lengths = pc.list_value_length(chunk.field("indices")).to_numpy(zero_copy_only=False)
            row += int(np.searchsorted(np.cumsum(lengths), place, side="right"))
            raise InvalidData(
                f"{channel}: column {column.name!r} has index {indices[place]} in row {row + 1}, "
                f"expected 0 to {column.size - 1}",
                channel=channel,
                column=column.name,
                row=row + 1,
            )
        row += len(chunk)
    return values


def _thinned(vectors: pa.ChunkedArray, size: int) -> pa.ChunkedArray:
    """Write dense vectors as sparse ones."""
    parts = []
    for chunk in vectors.chunks:
        dense = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
        rows, places = np.nonzero(dense)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))])
        offsets = pa.array(offsets, pa.int32())
        values = pa.array(dense[rows, places].astype(np.float32))
        parts.append(
            pa.StructArray.from_arrays(
                [
                    pa.ListArray.from_arrays(offsets, pa.array(places, pa.int32())),
                    pa.ListArray.from_arrays(offsets, values),
                ],
                ["indices", "values"],
            )
        )
    return pa.chunked_array(parts, _SPARSE)


_SPARSE = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])


def _sparse_size(field: pa.Field, column: pa.ChunkedArray, channel: str) -> int:
    declared = (field.metadata or {}).get(SIZE_KEY)
    if declared is not None:
        return int(declared)
    largest = -1
    for chunk in column.chunks:
        top = pc.max(chunk.field("indices").flatten()).as_py()
        largest = max(largest, -1 if top is None else top)
    if largest < 0:
        raise InvalidData(
            f"{channel}: column {field.name!r} has no value in any row",
            channel=channel,
            column=field.name,
        )
    return largest + 1


def _refuse_infinite(column: Input, values: pa.ChunkedArray, channel: str) -> None:
    if not pa.types.is_floating(values.type):
        return
    infinite = pc.is_inf(values)
    if pc.any(infinite).as_py():
        hint = "; use null for a missing value"
        raise _refused_row(column, channel, infinite, "has an infinite value", hint)


def _refused_row(
    column: Input, channel: str, wrong: pa.ChunkedArray, problem: str, hint: str = ""
) -> InvalidData:
    row = pc.index(wrong, True).as_py()
    return InvalidData(
        f"{channel}: column {column.name!r} {problem} in row {row + 1}{hint}",
        channel=channel,
        column=column.name,
        row=row + 1,
    )


def _wrong_type(column: Input, values: pa.ChunkedArray, expected: str, channel: str) -> InvalidData:
    return InvalidData(
        f"{channel}: column {column.name!r} is {values.type}, and the model takes {expected} there",
        channel=channel,
        column=column.name,
    )


def is_number(type: pa.DataType) -> bool:
    """Whether a column of this type is numbers to a model; all-null columns are too."""
    return bool(
        pa.types.is_integer(type)
        or pa.types.is_floating(type)
        or pa.types.is_boolean(type)
        or pa.types.is_decimal(type)
        or pa.types.is_null(type)
    )


def is_text(type: pa.DataType) -> bool:
    """Whether a column of this type is text, plain or as a dictionary."""
    if pa.types.is_dictionary(type):
        return is_text(type.value_type)
    return bool(
        pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type)
    )


def is_list(type: pa.DataType) -> bool:
    """Whether a column of this type has a list in each row."""
    return bool(
        pa.types.is_fixed_size_list(type) or pa.types.is_list(type) or pa.types.is_large_list(type)
    )


def is_sparse(type: pa.DataType) -> bool:
    """Whether a column of this type has sparse vectors: structs of `indices` and `values`."""
    return bool(
        pa.types.is_struct(type)
        and {field.name for field in type} == {"indices", "values"}
        and all(is_list(field.type) for field in type)
    )
