"""Equal tables have equal digests, however they are built, and others have others."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import as_artifact

PLAIN = st.sampled_from(
    [
        (pa.int8(), st.integers(-3, 3)),
        (pa.uint64(), st.integers(0, 2**64 - 1)),
        (pa.float16(), st.sampled_from([0.0, -0.0, 1.5])),
        (pa.float32(), st.sampled_from([0.0, -0.0, 1.5])),
        (pa.float64(), st.floats(allow_nan=False)),
        (pa.bool_(), st.booleans()),
        (pa.string(), st.text("aé", max_size=3)),
        (pa.large_string(), st.text("ab", max_size=3)),
        (pa.string_view(), st.text("ab", max_size=30)),
        (pa.binary(), st.binary(max_size=3)),
        (pa.binary_view(), st.binary(max_size=30)),
        (pa.binary(2), st.binary(min_size=2, max_size=2)),
        (pa.decimal128(5, 2), st.integers(-9, 9).map(lambda n: decimal.Decimal(n) / 4)),
        (pa.timestamp("us", tz="UTC"), st.datetimes(timezones=st.just(datetime.UTC))),
        (pa.date32(), st.dates()),
        (pa.null(), st.none()),
        (pa.month_day_nano_interval(), st.tuples(*[st.integers(0, 2)] * 3)),
    ]
)


def _wrapped(inner: Any) -> Any:
    def of(one: Any) -> Any:
        kind, values = one
        values = st.none() | values
        items = st.lists(values, max_size=3)
        return st.sampled_from(
            [
                (pa.list_(kind), items),
                (pa.large_list(kind), items),
                (pa.list_view(kind), items),
                (pa.list_(kind, 2), st.lists(values, min_size=2, max_size=2)),
                (
                    pa.struct([("p", kind), ("q", pa.int8())]),
                    st.fixed_dictionaries({"p": values, "q": st.none() | st.integers(0, 1)}),
                ),
                (
                    pa.map_(pa.string(), kind),
                    st.lists(st.tuples(st.sampled_from("ab"), values), max_size=2),
                ),
            ]
        )

    return inner.flatmap(of)


TYPES = st.recursive(PLAIN, _wrapped, max_leaves=2)
COLUMNS = TYPES.flatmap(
    lambda one: st.tuples(
        st.just(one[0]), st.lists(st.none() | one[1], min_size=1, max_size=6), one[1]
    )
)
TEXTS = ["late", None, "on time", "late", None]


def digest(table: Any) -> str:
    found: Any = as_artifact(table)
    return str(found.content_hash)


def digest_of(column: Any) -> str:
    return digest(pa.table({"c": column}))


def with_something_under_nulls(kind: pa.DataType, values: list[Any], under: Any) -> pa.Array:
    if pa.types.is_null(kind):
        return pa.nulls(len(values))
    full = pa.array([under if value is None else value for value in values], kind)
    bits = pa.array([value is not None for value in values]).buffers()[1]
    if pa.types.is_struct(kind):
        own, inner = 0, full.flatten()
    elif pa.types.is_map(kind):
        own, inner = 1, [pa.StructArray.from_arrays([full.keys, full.items], fields=_entries(kind))]
    elif pa.types.is_nested(kind):
        own = 0 if pa.types.is_fixed_size_list(kind) else 2 if pa.types.is_list_view(kind) else 1
        inner = [full.values]
    else:
        own, inner = len(full.buffers()), []
    buffers = [bits, *full.buffers()[1 : own + 1]]
    return pa.Array.from_buffers(kind, len(values), buffers, children=inner)


def _entries(kind: pa.DataType) -> list[pa.Field]:
    return [kind.key_field, kind.item_field]


@settings(max_examples=200)
@given(st.data())
def test_equal_tables_have_equal_digests_and_others_have_others(data: st.DataObject) -> None:
    kind, values, under = data.draw(COLUMNS)
    plain = pa.table({"c": pa.array(values, kind)})
    cut = data.draw(st.integers(0, len(values)))
    first = with_something_under_nulls(kind, [under, *values[:cut]], under)[1:]
    second = with_something_under_nulls(kind, [*values[cut:], under], under)[: len(values) - cut]
    built = pa.table({"c": pa.chunked_array([first, second], kind)})
    assert built.equals(plain)
    assert digest(built) == digest(plain)
    other = list(values)
    other[data.draw(st.integers(0, len(values) - 1))] = data.draw(st.sampled_from([*values, under]))
    if data.draw(st.booleans()):
        other.pop()
    changed = pa.table({"c": pa.array(other, kind)})
    assert (digest(changed) == digest(plain)) == changed.equals(plain)


def test_what_lies_under_nulls_does_not_count() -> None:
    bits = pa.array([True, False]).buffers()[1]
    numbers = [pa.py_buffer(np.array([1, under], "<i8")) for under in (0, 7)]
    one, same = (pa.Array.from_buffers(pa.int64(), 2, [bits, data]) for data in numbers)
    assert one.equals(same)
    assert digest_of(one) == digest_of(same) != digest_of([1, 0])
    inside = [pa.ListArray.from_arrays(pa.array([0, 2]), array) for array in (one, same)]
    assert digest_of(inside[0]) == digest_of(inside[1])


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string(), ordered=True),
        pa.dictionary(pa.uint8(), pa.string_view()),
        pa.run_end_encoded(pa.int16(), pa.string()),
    ],
    ids=str,
)
def test_how_texts_are_held_does_not_count(kind: pa.DataType) -> None:
    plain = pa.array(TEXTS)
    if pa.types.is_dictionary(kind):
        words = pa.array(["on time", None, "never", "late"], kind.value_type)
        places = pa.array([3, 1, 0, 3, None], kind.index_type)
        held = pa.DictionaryArray.from_arrays(places, words, ordered=kind.ordered)
    elif pa.types.is_run_end_encoded(kind):
        held = pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3, 4, 6], pa.int16()), plain)[:5]
    else:
        held = plain.cast(kind)
    assert digest_of(held) == digest_of(plain)
    assert digest_of(held[1:]) == digest_of(TEXTS[1:]) != digest_of(plain)
    struct = pa.StructArray.from_arrays([held], ["s"])
    assert digest_of(struct) == digest_of([{"s": text} for text in TEXTS])


def test_lists_of_any_offsets_and_item_names_are_the_same() -> None:
    rows = [[1, None], None, [], [3]]
    kinds = [pa.large_list(pa.int64()), pa.large_list_view(pa.int64())]
    kinds.append(pa.list_(pa.field("element", pa.int64(), nullable=False)))
    assert {digest_of(pa.array(rows, kind)) for kind in kinds[:2]} == {digest_of(rows)}
    assert digest_of(pa.array(rows[1:], kinds[2])) == digest_of(rows[1:])
    assert digest_of(pa.array([[1, 2]], pa.list_(pa.int64(), 2))) != digest_of([[1, 2]])


def test_unions_count_by_what_is_chosen() -> None:
    numbers, texts = pa.array([1, 0, 3]), pa.array(["-", "b", "-"])
    codes = pa.array([0, 1, 0], pa.int8())
    sparse = pa.UnionArray.from_sparse(codes, [numbers, texts])
    places = pa.array([0, 0, 1], pa.int32())
    dense = pa.UnionArray.from_dense(codes, places, [pa.array([1, 3]), pa.array(["b"])])
    assert digest_of(sparse) == digest_of(dense)
    assert digest_of(sparse[1:]) == digest_of(dense[1:]) != digest_of(sparse)
    assert digest_of(sparse) != digest_of(
        pa.UnionArray.from_sparse(codes, [numbers, pa.array("xyz")])
    )


def test_extension_types_are_told_apart_from_their_storage() -> None:
    raw = [b"0" * 16, None]
    storage = pa.array(raw, pa.binary(16))
    held = pa.ExtensionArray.from_storage(pa.uuid(), storage)
    assert digest_of(held) == digest_of(pa.array([b"1" * 16, *raw], pa.uuid())[1:])
    assert digest_of(held) != digest_of(storage)


def test_names_types_and_order_count() -> None:
    columns = {"a": pa.array([1]), "b": pa.array([2])}
    table = pa.table(columns)
    others = [
        table.select(["b", "a"]),
        table.rename_columns(["a", "c"]),
        table.set_column(1, "b", pa.array([2], pa.int32())),
        pa.table({"a": [{"b": 2}]}),
        table.slice(1),
        pa.table({}),
    ]
    assert len({digest(one) for one in [table, *others]}) == len(others) + 1
    fields = [pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.int64())]
    known = pa.table(columns, schema=pa.schema(fields, metadata={"k": "v"}))
    assert digest(known) == digest(table)


def test_zeros_are_equal_and_nans_are_one() -> None:
    bits = np.array([0x7FF8000000000000, 0xFFF8000000000001], "<u8").view("<f8")
    assert len({digest_of(bits[:1]), digest_of(bits[1:]), digest_of([math.nan])}) == 1
    assert digest_of([0.0]) == digest_of([-0.0]) != digest_of([None])
    for kind in ("<f4", "<f8", "<c16"):
        assert digest(np.zeros(2, kind)) == digest(-np.zeros(2, kind)) != digest(np.ones(2, kind))


def test_a_table_of_texts_is_the_same_in_polars() -> None:
    table = pa.table({"s": TEXTS, "t": [[1], None, [2, 3], [], [None]]})
    frame = pl.from_arrow(table)
    assert digest(frame) == digest(table)
    assert isinstance(frame, pl.DataFrame)
    assert digest(frame.with_columns(pl.col("s").cast(pl.Categorical))) == digest(table)
