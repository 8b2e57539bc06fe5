"""String views, as Polars gives its text, in the older form that all of Arrow takes."""

from __future__ import annotations

from typing import TypeVar

import pyarrow as pa

__all__ = ["without_views"]

Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def without_views(rows: Rows) -> Rows:
    """Cast views of text and bytes, in lists and dictionaries too; other columns stay as they are.

    >>> without_views(pa.table({"word": pa.array(["a"], pa.string_view())})).schema
    word: string
    """
    kinds = [_plain(field.type) for field in rows.schema]
    if kinds == rows.schema.types:
        return rows
    fields = [field.with_type(kind) for field, kind in zip(rows.schema, kinds, strict=True)]
    return rows.cast(pa.schema(fields, metadata=rows.schema.metadata))


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _plain(kind.value_type), kind.ordered)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    return kind
