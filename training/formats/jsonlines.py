"""JSON Lines and JSON documents: an object for each row."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from training.encoding import is_list
from training.errors import InvalidData
from training.formats.column import features_column, label_column, role_field
from training.formats.instance import instances_to_table
from training.formats.manifest import read_manifest
from training.formats.packed import Source, read_bytes
from training.formats.tensor import NO_SHAPE, Tensors

__all__ = ["decode", "decode_document", "read", "read_document"]

_ROLES: Final = ("uid", "metadata", "configuration")
_MAX_BLOCK_BYTES: Final = 2**30


def read(source: Source, parameters: Mapping[str, str]) -> pa.Table:
    """Read a file of JSON lines, plain or compressed with gzip; see `decode`.

    With `attributes=label+features` it is an augmented manifest, of which these attributes are
    read; see `training.formats.manifest.read_manifest`.
    """
    if "attributes" in parameters:
        if isinstance(source, bytes):
            raise InvalidData(
                "attributes of a manifest are not read from a pipe by its content type; give the "
                "channel data_type=AugmentedManifestFile and its attributes"
            )
        return read_manifest(source, parameters["attributes"].split("+"))
    return decode(read_bytes(source))


def read_document(source: Source, parameters: Mapping[str, str]) -> pa.Table:
    """Read a file that is one JSON array of rows, or JSON lines; see `decode_document`."""
    return decode_document(read_bytes(source))


def decode(data: bytes) -> pa.Table:
    r"""Read JSON lines, one object each; see `training.formats.instance` for their forms.

    Lines of one form are read by Arrow, at some hundred megabytes a second; lines of several forms
    one by one.

    Raises:
        InvalidData: a line is no object or does not fit the others; the message has the line.

    >>> decode(b'{"features":[1,2.5],"label":0}\n{"features":[3,4],"label":1}\n').to_pydict()
    {'features': [[1.0, 2.5], [3.0, 4.0]], 'label': [0.0, 1.0]}
    """
    if not data.strip():
        raise InvalidData("expected JSON lines, got none")
    try:
        table = _by_columns(_columns(data))
    except (pa.ArrowException, InvalidData, UnicodeDecodeError):
        # The reader one by one says which line it is.
        table = None
    return _by_lines(data) if table is None else table


def decode_document(data: bytes) -> pa.Table:
    """Read one JSON document: an array of rows, an object of `instances`, or else JSON lines."""
    stripped = data.lstrip()
    if not stripped.startswith(b"["):
        try:
            document = json.loads(data)
        except ValueError:
            return decode(data)
        instances = document.get("instances") if isinstance(document, dict) else None
        return _rows(instances if isinstance(instances, list) else [document])
    try:
        return _rows(json.loads(data))
    except ValueError as error:
        raise InvalidData(f"expected JSON: {error}") from error


def _columns(data: bytes) -> pa.Table:
    size = min(max(len(data) + 1, 2**20), _MAX_BLOCK_BYTES)
    read = pyarrow.json.ReadOptions(block_size=size)
    table = pyarrow.json.read_json(io.BytesIO(data), read_options=read)
    names = table.column_names
    times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if times:
        # Words that look like times are words all the same.
        schema = pa.schema([(name, pa.string()) for name in times])
        parse = pyarrow.json.ParseOptions(explicit_schema=schema)
        table = pyarrow.json.read_json(io.BytesIO(data), read_options=read, parse_options=parse)
    # Arrow takes any bytes for text until it is asked.
    table.validate(full=True)
    return table.select(names)


def _by_columns(table: pa.Table) -> pa.Table | None:
    """Bring columns as Arrow reads them into the form that readers give; None: not possible."""
    if "data" in table.column_names:
        held = table["data"]
        if not pa.types.is_struct(held.type) or held.type.get_field_index("features") < 0:
            return None if pa.types.is_struct(held.type) else _finished(table)
        names = [field.name for field in held.type]
        if held.null_count or set(names) & set(table.column_names):
            return None
        parts = dict(zip(names, held.combine_chunks().flatten(), strict=True))
        rest = {name: table[name] for name in table.column_names if name != "data"}
        table = pa.table({**parts, **rest})
    return _finished(table)


def _finished(table: pa.Table) -> pa.Table | None:
    fields, columns = [], []
    for name in table.column_names:
        made = _column(name, table[name].combine_chunks())
        if made is None:
            return None
        fields.append(made[0])
        columns.append(made[1])
    return pa.table(columns, schema=pa.schema(fields))


def _column(name: str, column: pa.Array) -> tuple[pa.Field, pa.Array] | None:
    kind = column.type
    if name == "features":
        tensors = _tensors(column, np.float32)
        return None if tensors is None else features_column(name, tensors, _refuse)
    if name == "label" and not pa.types.is_string(kind):
        tensors = _single(column) if _is_number(kind) else _tensors(column, np.float64)
        return None if tensors is None else label_column(name, tensors, _refuse)
    if name in _ROLES:
        return (role_field(name, kind), column) if pa.types.is_string(kind) else None
    if is_list(kind):
        column = _list(column)
    elif pa.types.is_nested(kind):
        return None
    return None if column is None else (pa.field(name, column.type), column)


def _tensors(column: pa.Array, dtype: type[np.floating[Any]]) -> Tensors | None:
    """Take apart lists of numbers, or structs of values, keys and shape."""
    count = len(column)
    keys, key_counts = np.zeros(0, np.uint64), np.zeros(count, np.int64)
    shape = np.full(count, NO_SHAPE)
    values = column
    if pa.types.is_struct(column.type):
        parts = {field.name: place for place, field in enumerate(column.type)}
        if column.null_count or not set(parts) <= {"values", "keys", "shape"}:
            return None
        if "values" not in parts:
            return None
        values = column.field(parts["values"])
        if "keys" in parts:
            found = _flat(column.field(parts["keys"]))
            if found is None or found[0].dtype.kind != "i" or (found[0] < 0).any():
                return None
            keys, key_counts = found[0].astype(np.uint64), found[1]
        if "shape" in parts:
            found = _flat(column.field(parts["shape"]))
            if found is None or found[0].dtype.kind != "i" or (found[1] != 1).any():
                return None
            if (found[0] < 1).any():
                return None
            shape = found[0]
    flat = _flat(values)
    if flat is None:
        return None
    present = np.ones(count, np.bool_)
    return Tensors(flat[0].astype(dtype), flat[1], keys, key_counts, shape, present)


def _flat(column: pa.Array) -> tuple[Any, Any] | None:
    """Return the numbers of lists and how many each has; None: not all are lists of numbers."""
    if not is_list(column.type) or column.null_count or not _is_number(column.type.value_type):
        return None
    flat = column.flatten()
    if flat.null_count or pa.types.is_boolean(flat.type):
        return None
    counts = pc.list_value_length(column).to_numpy().astype(np.int64)
    return flat.to_numpy(zero_copy_only=False), counts


def _single(column: pa.Array) -> Tensors:
    present = column.is_valid().to_numpy(zero_copy_only=False)
    known = column.drop_null().cast(pa.float64(), safe=False)
    counts = present.astype(np.int64)
    dense = Tensors.absent(len(column), np.dtype(np.float64))
    return Tensors(known.to_numpy(), counts, dense.keys, dense.key_counts, dense.shape, present)


def _list(column: pa.Array) -> pa.Array | None:
    """Bring lists of numbers into those of int32 or float32; lists of words stay."""
    kind = column.type.value_type
    if pa.types.is_string(kind):
        return column
    flat = column.flatten()
    if flat.null_count:
        return None
    if pa.types.is_integer(kind):
        limits = pc.min_max(flat).as_py()
        top = max(abs(limits["min"] or 0), abs(limits["max"] or 0))
        return column.cast(pa.list_(pa.int32() if top < 2**31 else pa.float32()), safe=False)
    return column.cast(pa.list_(pa.float32()), safe=False) if pa.types.is_floating(kind) else None


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _by_lines(data: bytes) -> pa.Table:
    rows, numbers = [], []
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise InvalidData(
                    f"line {number}: expected a JSON object: {error}", line=number
                ) from error
            numbers.append(number)

    def refuse(row: int, expected: str, got: str) -> InvalidData:
        line = numbers[row]
        return InvalidData(f"line {line}: expected {expected}, got {got}", line=line)

    return instances_to_table(rows, refuse)


def _rows(instances: Any) -> pa.Table:
    if not isinstance(instances, list) or not instances:
        raise InvalidData("expected a list of rows, got none")
    return instances_to_table(instances, _refuse)


def _refuse(row: int, expected: str, got: str) -> InvalidData:
    return InvalidData(f"row {row + 1}: expected {expected}, got {got}", row=row + 1)
