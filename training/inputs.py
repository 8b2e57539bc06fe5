"""What a tabular model takes: its input columns in order, their kinds, one category order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import pyarrow as pa
import pyarrow.compute as pc

from training.errors import InvalidData, nearest

__all__ = ["Input", "Inputs"]

FILE = "inputs.json"


@final
@dataclass(frozen=True)
class Input:
    """One input column.

    Attributes:
        name: the column.
        kind: `number` (integers, floats and booleans pass as they are) or `category`.
        categories: the known words of a category in code order, sorted by code point.
    """

    name: str
    kind: Literal["number", "category"]
    categories: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Inputs:
    """The input columns of a model, learned from its training data and kept in its artifact.

    The same encoding serves training, validation and prediction: text becomes a dictionary column
    in one category order, a word that training did not see becomes missing, nulls stay missing,
    columns the model does not take are dropped.

    >>> inputs = Inputs.of(pa.table({"sky": ["wet", "dry", None], "wind": [1, 2, 3]}))
    >>> inputs.columns[0].categories
    ('dry', 'wet')
    >>> inputs.encode(pa.table({"wind": [7], "sky": ["snow"]}))["sky"].to_pylist()
    [None]
    """

    columns: tuple[Input, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in the order the model takes them."""
        return tuple(column.name for column in self.columns)

    @classmethod
    def of(cls, table: pa.Table, *, channel: str = "train") -> Inputs:
        """Learn the inputs from training data, all of whose columns are inputs.

        Raises:
            InvalidData: a column's type cannot be an input; the message names it.
        """
        return cls(tuple(_learn(name, table[name], channel) for name in table.column_names))

    def encode(self, table: pa.Table, *, channel: str = "input") -> pa.Table:
        """Bring a table into the form the model takes.

        Args:
            table: n rows that have at least the input columns, in any order.
            channel: what to call the table in an error.

        Returns:
            n rows of exactly the input columns: numbers as they came, categories as dictionaries.

        Raises:
            InvalidData: a column is missing or has the wrong type.
        """
        missing = [name for name in self.names if name not in table.column_names]
        if missing:
            have = ", ".join(table.column_names) or "none"
            raise InvalidData(
                f"{channel}: column {missing[0]!r} is missing"
                f"{nearest(missing[0], table.column_names)}; the model takes "
                f"{', '.join(self.names)} and the data has {have}",
                channel=channel,
                column=missing[0],
            )
        return pa.table(
            [_encode(column, table[column.name], channel) for column in self.columns],
            names=list(self.names),
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return the columns as JSON values."""
        return [
            {"name": c.name, "kind": c.kind}
            | ({"categories": list(c.categories)} if c.kind == "category" else {})
            for c in self.columns
        ]

    @classmethod
    def from_json(cls, columns: Sequence[dict[str, Any]]) -> Inputs:
        """Build the inputs again from `to_json`."""
        return cls(
            tuple(Input(str(c["name"]), c["kind"], tuple(c.get("categories", ()))) for c in columns)
        )

    def save(self, folder: Path) -> None:
        """Write the columns to `inputs.json` in a model's folder; equal inputs, equal bytes."""
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=1)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Inputs:
        """Read what `save` wrote."""
        return cls.from_json(json.loads((folder / FILE).read_text(encoding="utf-8")))


def _learn(name: str, column: pa.ChunkedArray, channel: str) -> Input:
    if is_number(column.type):
        return Input(name, "number")
    if is_text(column.type):
        words = pc.unique(column.cast(pa.string())).drop_null().to_pylist()
        return Input(name, "category", tuple(sorted(words)))
    raise InvalidData(
        f"{channel}: column {name!r} is {column.type}, and an input must be a number, a boolean or "
        f"text: convert it, or name the input columns with features=",
        channel=channel,
        column=name,
    )


def _encode(column: Input, values: pa.ChunkedArray, channel: str) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_null(values.type):
        values = values.cast(pa.string() if column.kind == "category" else pa.float64())
    if column.kind == "number":
        if not is_number(values.type):
            raise _wrong_type(column, values, "numbers", channel)
        if pa.types.is_decimal(values.type):
            return values.cast(pa.float64())
        _refuse_infinite(column, values, channel)
        return values
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


def _refuse_infinite(column: Input, values: pa.ChunkedArray, channel: str) -> None:
    if not pa.types.is_floating(values.type):
        return
    infinite = pc.is_inf(values)
    if pc.any(infinite).as_py():
        row = pc.index(infinite, True).as_py()
        raise InvalidData(
            f"{channel}: column {column.name!r} has an infinite value in row {row + 1}; "
            "use null for a missing value",
            channel=channel,
            column=column.name,
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
