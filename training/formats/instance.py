"""Instances as JSON writes them, in a request or a line of a file, as columns of Arrow.

{"features": [1.5, 16], "label": 1}                           dense, in short
{"data": {"features": {"values": [1.5, 16]}}, "label": 1}     dense
{"data": {"features": {"keys": [26], "shape": [2000], "values": [4]}}}    sparse
{"features": ["ann", "10.0.0.1"]}                             words, in short
{"data": {"features": {"values": ["ann", "10.0.0.1"]}}}       words
{"wind": 3.5, "sky": "wet"}                                   a column for each name
{"in0": [6, 17], "in1": [16, 21]}                             likewise, with lists
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.formats.column import Refuse, features_column, label_column, role_field
from training.formats.tensor import NO_SHAPE, Tensors

__all__ = ["instances_to_table"]

_ROLES: Final = ("uid", "metadata", "configuration")
_LONGEST: Final = 80
_WORDS: Final = {str, int, type(None)}
_Row = dict[str, Any]


def instances_to_table(instances: Sequence[Any], refuse: Refuse) -> pa.Table:
    """Make a table of n instances; a name that an instance lacks is null there.

    `features` becomes float32 vectors, dense or sparse, or lists of words; `label` float64, or
    vectors. Other lists of whole numbers become lists of int32, of other numbers lists of float32.

    Args:
        instances: JSON values.
        refuse: makes the error of an instance (from 0).

    Raises:
        InvalidData: an instance is no object, its values are no numbers, or it does not fit the
            others.
    """
    rows = [_lifted(instance, row, refuse) for row, instance in enumerate(instances)]
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    fields, columns = [], []
    for name in names:
        field, column = _column(name, [row.get(name) for row in rows], refuse)
        fields.append(field)
        columns.append(column)
    return pa.table(columns, schema=pa.schema(fields))


def _lifted(instance: Any, row: int, refuse: Refuse) -> _Row:
    """Return an instance with its features and label at the top."""
    if not isinstance(instance, dict) or not instance:
        raise refuse(row, "an object with features", _shown(instance))
    data = instance.get("data")
    if not isinstance(data, dict) or "features" not in data:
        return instance
    rest = {name: value for name, value in instance.items() if name != "data"}
    return {**data, **rest}


def _column(name: str, values: list[Any], refuse: Refuse) -> tuple[pa.Field, Any]:
    if name == "features" and _are_texts(_held(values[0])):
        words = _texts(name, [_held(value) for value in values], refuse)
        return pa.field(name, pa.list_(pa.string())), words
    if name == "features":
        tensors = _tensors(name, values, refuse, missing=False)
        return features_column(name, tensors, refuse)
    if name == "label" and not _are_words(values):
        return label_column(name, _tensors(name, values, refuse, missing=True), refuse)
    if name in _ROLES:
        texts = [
            value if value is None or isinstance(value, str) else _text(value) for value in values
        ]
        return role_field(name, pa.string()), pa.array(texts, pa.string())
    given = [value for value in values if value is not None]
    if given and isinstance(given[0], list):
        return _lists(name, values, refuse)
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError) as error:
        kind = next(type(value) for value in values if value is not None)
        for row, value in enumerate(values):
            if value is not None and not _is_like(value, kind):
                raise refuse(
                    row, f"{name!r} like the first, {_shown(given[0])}", _shown(value)
                ) from error
        array = _floats(name, values, refuse)
    return pa.field(name, array.type), array


def _held(value: Any) -> Any:
    """Return the list inside `{"values": […]}`; anything else as it is."""
    return value["values"] if isinstance(value, dict) and set(value) == {"values"} else value


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, str) for item in value)


def _texts(name: str, values: list[Any], refuse: Refuse) -> pa.Array:
    """Make lists of words, among which may be whole numbers and nulls."""
    rows = []
    for row, value in enumerate(values):
        if not isinstance(value, list) or not {type(item) for item in value} <= _WORDS:
            raise refuse(row, f"a list of words in {name!r}", _shown(value))
        rows.append([item if item is None else str(item) for item in value])
    return pa.array(rows, pa.list_(pa.string()))


def _tensors(name: str, values: list[Any], refuse: Refuse, *, missing: bool) -> Tensors:
    """Take apart lists, single numbers, and objects of values, keys and shape."""
    count = len(values)
    parts: list[list[Any]] = []
    keys: list[list[Any]] = []
    shape, present = np.full(count, NO_SHAPE), np.ones(count, np.bool_)
    for row, value in enumerate(values):
        own: Any = value
        own_keys: Any = []
        if isinstance(value, dict):
            if "values" not in value or not set(value) <= {"values", "keys", "shape"}:
                raise refuse(row, f"values, keys and shape in {name!r}", _shown(value))
            own, own_keys = value["values"], value.get("keys") or []
            shape[row] = _size(name, value.get("shape"), row, refuse)
        elif value is None:
            if not missing:
                raise refuse(row, f"{name!r}", "none")
            present[row], own = False, []
        elif missing and not isinstance(value, list):
            own = [value]
        if not isinstance(own, list) or not isinstance(own_keys, list):
            raise refuse(row, f"a list of numbers in {name!r}", _shown(value))
        parts.append(own)
        keys.append(own_keys)
    dtype = np.float64 if name == "label" else np.float32
    return Tensors(
        _numbers(name, parts, refuse).astype(dtype),
        np.array([len(part) for part in parts], np.int64),
        _keys(name, keys, refuse),
        np.array([len(part) for part in keys], np.int64),
        shape,
        present,
    )


def _numbers(name: str, parts: Sequence[Sequence[Any]], refuse: Refuse) -> npt.NDArray[np.float64]:
    flat = list(chain.from_iterable(parts))
    allowed = {int, float, bool} if name == "label" else {int, float}
    if not set(map(type, flat)) <= allowed:
        for row, part in enumerate(parts):
            for place, value in enumerate(part):
                if type(value) not in allowed:
                    raise refuse(row, f"a number as {name}[{place}]", _shown(value))
    try:
        return np.array(flat, np.float64)
    except OverflowError:
        for row, part in enumerate(parts):
            for value in part:
                if abs(value) > 2**1023:
                    raise refuse(row, f"a number of 64 bits in {name!r}", _shown(value)) from None
        raise


def _keys(name: str, parts: Sequence[Sequence[Any]], refuse: Refuse) -> npt.NDArray[np.uint64]:
    for row, part in enumerate(parts):
        for value in part:
            if type(value) is not int or not 0 <= value < 2**63:
                raise refuse(row, f"whole numbers as keys of {name!r}", _shown(value))
    return np.array(list(chain.from_iterable(parts)), np.uint64)


def _size(name: str, shape: Any, row: int, refuse: Refuse) -> int:
    if shape is None:
        return NO_SHAPE
    sizes = shape if isinstance(shape, list) else [shape]
    product = 1
    for size in sizes:
        if type(size) is not int or size < 1:
            raise refuse(row, f"whole numbers as shape of {name!r}", _shown(shape))
        product *= size
    return min(product, 2**62) if sizes else NO_SHAPE


def _lists(name: str, values: list[Any], refuse: Refuse) -> tuple[pa.Field, pa.Array]:
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, list):
            raise refuse(row, f"a list in {name!r}", _shown(value))
    kinds = {type(item) for value in values if value for item in value}
    if kinds <= {str}:
        array = pa.array(values, pa.list_(pa.string()))
        return pa.field(name, array.type), array
    numbers = _numbers(name, [value or [] for value in values], refuse)
    whole = kinds == {int} and np.abs(numbers).max(initial=0) < 2**31
    ends = np.cumsum([len(value or []) for value in values])
    mask = np.array([value is None for value in values])
    array = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], ends]), pa.int32()),
        pa.array(numbers.astype(np.int32 if whole else np.float32)),
        mask=pa.array(mask) if mask.any() else None,
    )
    return pa.field(name, array.type), array


def _floats(name: str, values: list[Any], refuse: Refuse) -> pa.Array:
    """Make numbers of numbers that are too large for 64 bits without a point."""
    present = np.array([value is not None for value in values])
    numbers = _numbers(name, [[] if value is None else [value] for value in values], refuse)
    spread = np.zeros(len(values))
    spread[present] = numbers
    return pa.array(spread, mask=~present)


def _are_words(values: list[Any]) -> bool:
    return all(value is None or isinstance(value, str) for value in values)


def _is_like(value: Any, kind: type) -> bool:
    numbers = (int, float)
    if kind in numbers:
        return type(value) in numbers
    return type(value) is kind


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
