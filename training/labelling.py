"""Which columns are label, inputs, weights and queries, and the labels as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.encoding import is_list, is_number, is_text
from training.errors import InvalidData, nearest
from training.formats.column import ROLE_KEY

__all__ = [
    "input_names",
    "label_columns",
    "label_name",
    "labels_of",
    "queries_of",
    "roles_of",
    "weights_of",
]

Array = npt.NDArray[np.float64]

_BETWEEN = "+"
"""Stands between the names of the two columns of an interval."""


def roles_of(schema: pa.Schema, beside: Mapping[str, str]) -> dict[str, str]:
    """Return the columns beside inputs and label by their role: `weight`, `qid`.

    Args:
        schema: of the table; a format may have marked such columns.
        beside: the names of others, by their role; absent ones are passed over.
    """
    roles = {role: name for role, name in beside.items() if name in schema.names}
    for field in schema:
        role = (field.metadata or {}).get(ROLE_KEY)
        if role is not None:
            roles[role.decode()] = field.name
    return roles


def weights_of(table: pa.Table, roles: Mapping[str, str], channel: str) -> Array | None:
    """Return what each row counts; None where there is no such column.

    Raises:
        InvalidData: a weight is missing or no number.
    """
    if "weight" not in roles:
        return None
    name = roles["weight"]
    column = table[name]
    if not is_number(column.type) or column.null_count:
        row = pc.index(pc.is_null(column), True).as_py() if column.null_count else 0
        raise InvalidData(
            f"{channel}: column {name!r} is the weight of a row: expected a number in every row, "
            f"got {column[row].as_py()!r} in row {row + 1}",
            channel=channel,
            column=name,
            row=row + 1,
        )
    found: Array = column.cast(pa.float64()).to_numpy()
    return found


def queries_of(
    table: pa.Table, roles: Mapping[str, str], channel: str
) -> npt.NDArray[np.int64] | None:
    """Return the query of each row as a number, words by their order; None where there is none.

    Raises:
        InvalidData: a query is missing, or neither a whole number nor a word.
    """
    if "qid" not in roles:
        return None
    name = roles["qid"]
    column = table[name]
    whole = pa.types.is_integer(column.type)
    if column.null_count or not (whole or is_text(column.type)):
        row = pc.index(pc.is_null(column), True).as_py() if column.null_count else 0
        raise InvalidData(
            f"{channel}: column {name!r} is the query of a row: expected a whole number or a word "
            f"in every row, got {column[row].as_py()!r} in row {row + 1}",
            channel=channel,
            column=name,
            row=row + 1,
        )
    if whole:
        numbers: npt.NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
        return numbers
    words = column.cast(pa.string())
    known = pc.unique(words).sort()
    codes: npt.NDArray[np.int64] = pc.index_in(words, value_set=known).to_numpy().astype(np.int64)
    return codes


def label_name(
    names: Sequence[str],
    label: str | None,
    hidden: Set[str],
    channel: str,
    *,
    intervals: bool = False,
) -> str:
    """Return the label: as given, else the column called `label`, else the first.

    Raises:
        InvalidData: it is not there, or no column can be it.
    """
    if label is None:
        open_names = [name for name in names if name not in hidden]
        if not open_names:
            raise InvalidData(f"{channel}: there is no column that could be the label")
        return "label" if "label" in open_names else str(open_names[0])
    ends = label_columns(names, label)
    if len(ends) > 1 and not intervals:
        raise InvalidData(
            f"{channel}: label={label!r} names an interval, and this fit takes one number a row; "
            "name one column",
            channel=channel,
            column=label,
        )
    for end in ends:
        if end not in names:
            raise InvalidData(
                f"{channel}: label column {end!r} is missing{nearest(end, names)}; the data has "
                f"{', '.join(names)}",
                channel=channel,
                column=end,
            )
    return label


def label_columns(names: Sequence[str], label: str) -> tuple[str, ...]:
    """Return the column that a label names, or the two of an interval.

    >>> label_columns(["from", "to"], "from+to"), label_columns(["a+b"], "a+b")
    (('from', 'to'), ('a+b',))
    """
    ends = tuple(label.split(_BETWEEN))
    return ends if label not in names and len(ends) == 2 and all(ends) else (label,)


def input_names(
    names: Sequence[str],
    label: Sequence[str],
    hidden: Set[str],
    features: Sequence[str],
    channel: str,
) -> list[str]:
    """Return the input columns: as given, else all but label and what is hidden.

    Raises:
        InvalidData: one is missing or the label, or none is left.
    """
    if features:
        for name in features:
            if name not in names:
                raise InvalidData(
                    f"{channel}: column {name!r} is missing{nearest(name, names)}; "
                    f"the data has {', '.join(names)}",
                    channel=channel,
                    column=name,
                )
            if name in label:
                raise InvalidData(
                    f"{channel}: column {name!r} is the label, so it cannot be an input too",
                    channel=channel,
                    column=name,
                )
        return list(features)
    left = [name for name in names if name not in label and name not in hidden]
    if not left:
        raise InvalidData(
            f"{channel}: there is no input column beside the label {_BETWEEN.join(label)!r}",
            channel=channel,
        )
    return left


def labels_of(
    table: pa.Table, label: str, channel: str, *, intervals: bool = False
) -> tuple[Array, Array | None]:
    """Return labels as finite numbers; of intervals the lower ends, and the upper ones.

    An upper end that is null is open: infinite.

    Raises:
        InvalidData: one is missing or no finite number; the message has the row.
    """
    ends = label_columns(table.column_names, label)
    if len(ends) == 2:
        lower, upper = (table[end] for end in ends)
        return _numbers(lower, ends[0], channel, table), _upper_ends(upper, ends[1], channel)
    column = table[label]
    if not (intervals and is_list(column.type) and is_number(column.type.value_type)):
        return _numbers(column, label, channel, table), None
    sizes = pc.list_value_length(column)
    wrong = pc.fill_null(pc.not_equal(sizes, 2), True)
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        raise InvalidData(
            f"{channel}: label column {label!r}: expected two numbers, the ends of an interval, "
            f"got {column[row].as_py()!r} in row {row + 1}",
            channel=channel,
            column=label,
            row=row + 1,
        )
    lower, upper = pc.list_element(column, 0), pc.list_element(column, 1)
    return _numbers(lower, label, channel, table), _upper_ends(upper, label, channel)


def _upper_ends(column: pa.ChunkedArray, label: str, channel: str) -> Array:
    if not is_number(column.type):
        raise InvalidData(
            f"{channel}: label column {label!r} is {column.type}, expected numbers",
            channel=channel,
            column=label,
        )
    filled = pc.fill_null(column.cast(pa.float64()), float("inf"))
    ends: Array = np.asarray(filled.to_numpy(), np.float64)
    return ends


def _numbers(column: pa.ChunkedArray, label: str, channel: str, table: pa.Table) -> Array:

    def refuse(problem: str, row: int) -> InvalidData:
        return InvalidData(
            f"{channel}: label column {label!r} {problem}",
            channel=channel,
            column=label,
            row=row,
        )

    if not is_number(column.type):
        hint = (
            "; text/csv has no header row and the label comes first"
            if label == "label" and "f0" in table.column_names
            else "; convert it to numbers, or name another column with label="
        )
        sample = column[0].as_py()
        raise refuse(f"is {column.type}, expected numbers, got {sample!r} in row 1{hint}", 1)
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise refuse(
            f"has {column.null_count} missing values, the first in row {row + 1}; a fit needs a "
            "label in every row, so leave those rows out",
            row + 1,
        )
    target: Array = column.cast(pa.float64()).to_numpy()
    bad = ~np.isfinite(target)
    if bad.any():
        row = int(bad.argmax())
        raise refuse(f"is {target[row]} in row {row + 1}, expected finite numbers", row + 1)
    return target
