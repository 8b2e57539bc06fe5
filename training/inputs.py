"""What a model takes: its input columns in order, their kinds and sizes, one category order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pyarrow as pa

from training.encoding import (
    SIZE_KEY,
    Input,
    Kind,
    by_position,
    encoded,
    is_number,
    is_text,
    learned,
)
from training.errors import InvalidData, nearest

__all__ = ["SIZE_KEY", "Input", "Inputs", "Kind", "is_number", "is_text"]

FILE = "inputs.json"


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

    @property
    def width(self) -> int:
        """How many columns their matrix has; see `training.matrix`."""
        return sum(column.width for column in self.columns)

    @property
    def is_sparse(self) -> bool:
        """Whether one of them is a sparse vector."""
        return any(column.kind == "sparse" for column in self.columns)

    @property
    def are_plain(self) -> bool:
        """Whether all are numbers or vectors of them: rows that lie dense as they come."""
        return all(column.kind in {"number", "vector"} for column in self.columns)

    @classmethod
    def of(cls, table: pa.Table, *, channel: str = "train", text: Kind = "category") -> Inputs:
        """Learn the inputs from training data, all of whose columns are inputs.

        Args:
            table: n rows.
            channel: what to call the table in an error.
            text: what columns of words are: `category`, or `text` to keep the words.

        Raises:
            InvalidData: a column's type cannot be an input; the message names it.
        """
        names = table.column_names
        return cls(tuple(learned(table.field(n), table[n], channel, text) for n in names))

    def encode(self, table: pa.Table, *, channel: str = "input") -> pa.Table:
        """Bring a table into the form the model takes.

        Numbers may come as one vector column and a vector as that many number columns: where a
        name is missing and the sizes fit, they are taken by position.

        Args:
            table: n rows that have at least the input columns, in any order.
            channel: what to call the table in an error.

        Returns:
            n rows of exactly the input columns: numbers as they came, categories as dictionaries,
            vectors as lists of one size.

        Raises:
            InvalidData: a column is missing or has the wrong type.
        """
        missing = [name for name in self.names if name not in table.column_names]
        if missing:
            table = by_position(self.columns, table)
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
            [encoded(column, table[column.name], channel) for column in self.columns],
            names=list(self.names),
        )

    def check_unnamed(self, table: pa.Table, *, channel: str = "input") -> None:
        """Refuse rows without names, such as those of CSV, that have more values than are taken.

        Most often the label is still in them, and each value would be taken for its neighbour's.

        Args:
            table: n rows, whose columns are called f0, f1 and so on.
            channel: what to call the table in an error.

        Raises:
            InvalidData: the message says how many values there are.
        """
        if self.names != unnamed(len(self.names)) or table.num_columns <= len(self.names):
            return
        if tuple(table.column_names) == unnamed(table.num_columns):
            raise InvalidData(
                f"{channel}: expected {len(self.names)} values in a row, got {table.num_columns}; "
                "a request has the inputs alone, so leave out the label",
                channel=channel,
            )

    def to_json(self) -> list[dict[str, Any]]:
        """Return the columns as JSON values."""
        return [
            {"name": c.name, "kind": c.kind}
            | ({"categories": list(c.categories)} if c.kind == "category" else {})
            | ({"size": c.size} if c.kind in ("vector", "sparse") else {})
            for c in self.columns
        ]

    @classmethod
    def from_json(cls, columns: Sequence[dict[str, Any]]) -> Inputs:
        """Build the inputs again from `to_json`."""
        return cls(
            tuple(
                Input(str(c["name"]), c["kind"], tuple(c.get("categories", ())), c.get("size", 1))
                for c in columns
            )
        )

    def save(self, folder: Path) -> None:
        """Write the columns to `inputs.json` in a model's folder; equal inputs, equal bytes."""
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=1)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Inputs:
        """Read what `save` wrote."""
        return cls.from_json(json.loads((folder / FILE).read_text(encoding="utf-8")))


def unnamed(count: int) -> tuple[str, ...]:
    """Return what columns without names are called.

    >>> unnamed(2)
    ('f0', 'f1')
    """
    return tuple(f"f{number}" for number in range(count))
