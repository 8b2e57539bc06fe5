"""A digest of the values of an Arrow table, however its buffers hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

_ROWS_AT_ONCE = 65_536


@final
class TableDigest:
    """The SHA-256 of names, types and values of a table that is given batch by batch.

    Equal values give equal digests. How they lie in memory does not count: chunks, offsets of
    slices, the bytes that lie under nulls, dictionaries and runs instead of plain values, 32-bit or
    64-bit offsets or views, the name that a list gives its items. Neither does whether a column may
    be null, nor metadata. Types count otherwise: an int32 is no int64, a list of fixed size no
    list. Negative zero is zero, as Arrow compares them; all NaNs are one.

    Args:
        schema: of the batches.

    Cost: one pass, about as fast as SHA-256; a copy of 65,536 rows of one column at most, and none
    of integers and texts without nulls.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows = 0
        self._columns = [_Values(field.type) for field in schema]

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next rows."""
        self._rows += batch.num_rows
        for values, column in zip(self._columns, batch.columns, strict=True):
            values.add(column)

    @property
    def rows(self) -> int:
        """How many there were."""
        return self._rows

    def hexdigest(self) -> str:
        """The digest of what was given."""
        said = [(field.name, _type_text(field.type)) for field in self._schema]
        total = hashlib.sha256(f"table {self._rows} {said!r}".encode(errors="surrogatepass"))
        for values in self._columns:
            for part in values.parts():
                total.update(part)
        return total.hexdigest()


def without_bits_that_do_not_count(floats: Any) -> Any:
    """A copy of floats, with one zero and one NaN: what is equal has equal bytes then."""
    plain = floats + floats.dtype.type(0)
    unknown = np.isnan(plain)
    if unknown.any():
        plain[unknown] = np.nan
    return plain


@final
class _Values:
    """The values of one column, or of what is nested in it: each a stream of its own.

    A stream does not tell where one array ends and the next begins. Nulls are told by their
    places, and what lies under them is left out.
    """

    def __init__(self, kind: pa.DataType) -> None:
        self._seen = 0
        self._nulls = hashlib.sha256()
        self._lengths = hashlib.sha256()
        self._data = hashlib.sha256()
        self._nested = [_Values(inner) for inner in _nested(_plain(kind))]

    def parts(self) -> Iterator[bytes]:
        """The digests of the streams, those of what is nested last."""
        yield self._seen.to_bytes(8, "little")
        yield self._nulls.digest()
        yield self._lengths.digest()
        yield self._data.digest()
        for values in self._nested:
            yield from values.parts()

    def add(self, array: pa.Array) -> None:
        """Take the next values, of any layout."""
        kind = array.type
        if isinstance(kind, pa.BaseExtensionType):
            self.add(array.storage)
        elif types.is_dictionary(kind):
            values = _without_views(array.dictionary)
            for indices in _slices(array.indices):
                self.add(values.take(indices))
        elif types.is_run_end_encoded(kind):
            values, ends = _without_views(array.values), array.run_ends.to_numpy()
            for piece in _slices(array):
                places = np.arange(piece.offset, piece.offset + len(piece))
                self.add(values.take(pa.array(np.searchsorted(ends, places, side="right"))))
        else:
            for piece in _slices(array):
                self._add(_without_views(piece))

    def _add(self, array: pa.Array) -> None:
        start, self._seen = self._seen, self._seen + len(array)
        valid = None
        if array.null_count:
            valid = array.is_valid().to_numpy(zero_copy_only=False)
            self._nulls.update(_int64(np.flatnonzero(~valid) + start))
        kind = array.type
        if types.is_struct(kind):
            self._add_struct(array, valid)
        elif types.is_union(kind):
            self._add_union(array)
        elif types.is_nested(kind):
            if types.is_map(kind):
                array = array.cast(pa.list_(_entry(kind)))
            if not types.is_fixed_size_list(kind):
                lengths = pc.list_value_length(array).fill_null(0)
                self._lengths.update(_int64(lengths.to_numpy()))
            self._nested[0].add(array.flatten())  # which leaves out what lies under nulls
        elif array.null_count < len(array):
            self._add_plain(array if valid is None else array.drop_null())

    def _add_struct(self, array: pa.Array, valid: Any) -> None:
        if valid is None or not any(_lacks_nulls(field.type) for field in array.type):
            # What lies under a null of the struct is null then.
            columns = [[column] for column in array.flatten()]
        else:
            columns = [
                [array.field(place).slice(first, count) for first, count in _runs(valid)]
                for place in range(array.type.num_fields)
            ]
        for values, pieces in zip(self._nested, columns, strict=True):
            for piece in pieces:
                values.add(piece)

    def _add_union(self, array: pa.Array) -> None:
        # From the buffers: `type_codes` and `offsets` are those of the whole, of which this may be
        # a slice.
        _, code_buffer, offsets = array.buffers()[:3]
        codes: Any = np.frombuffer(code_buffer, "<i1")[array.offset :][: len(array)]
        self._data.update(codes)
        for place, code in enumerate(array.type.type_codes):
            column, chosen = array.field(place), codes == code
            if array.type.mode == "dense":
                places = np.frombuffer(offsets, "<i4")[array.offset :][: len(array)][chosen]
                pieces = [(int(at), 1) for at in places]
            else:
                pieces = _runs(chosen)
            for first, count in pieces:
                self._nested[place].add(column.slice(first, count))

    def _add_plain(self, array: pa.Array) -> None:
        kind = array.type
        if types.is_boolean(kind):
            self._data.update(array.cast(pa.uint8()).to_numpy())
        elif _is_text(kind):
            _, offsets, data = array.buffers()
            wide = types.is_large_string(kind) or types.is_large_binary(kind)
            ends = np.frombuffer(
                _fixed(offsets, 8 if wide else 4, array.offset, len(array) + 1),
                "<i8" if wide else "<i4",
            )
            self._lengths.update(_int64(np.diff(ends)))
            if data is not None:
                self._data.update(memoryview(data)[int(ends[0]) : int(ends[-1])])
        else:
            width = kind.bit_width // 8
            data = _fixed(array.buffers()[1], width, array.offset, len(array))
            if types.is_floating(kind):
                data = without_bits_that_do_not_count(np.frombuffer(data, f"<f{width}"))
            self._data.update(data)


def _slices(array: pa.Array) -> Iterator[pa.Array]:
    for first in range(0, len(array), _ROWS_AT_ONCE):
        yield array.slice(first, _ROWS_AT_ONCE)


def _runs(chosen: Any) -> list[tuple[int, int]]:
    """Start and length of each stretch that is true."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
    return [(int(first), int(end - first)) for first, end in edges.reshape(-1, 2)]


def _int64(numbers: Any) -> Any:
    return numbers.astype("<i8", copy=False)


def _fixed(buffer: pa.Buffer, width: int, first: int, count: int) -> memoryview:
    return memoryview(buffer)[first * width : (first + count) * width]


def _without_views(array: pa.Array) -> pa.Array:
    """The same texts one behind another: few functions take views."""
    if types.is_string_view(array.type):
        return array.cast(pa.large_string())
    if types.is_binary_view(array.type):
        return array.cast(pa.large_binary())
    return array


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values, without what only says how they are held."""
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif types.is_dictionary(kind) or types.is_run_end_encoded(kind):
            kind = kind.value_type
        else:
            return kind


def _nested(kind: pa.DataType) -> Sequence[pa.DataType]:
    if types.is_map(kind):
        return [_entry(kind)]
    if types.is_struct(kind) or types.is_union(kind):
        return [kind.field(place).type for place in range(kind.num_fields)]
    if types.is_nested(kind):
        return [kind.value_type]
    return []


def _entry(kind: pa.DataType) -> pa.DataType:
    """What a map is a list of."""
    key = pa.field("key", kind.key_type, nullable=False)
    return pa.struct([key, pa.field("value", kind.item_type)])


def _lacks_nulls(kind: pa.DataType) -> bool:
    """Whether arrays of a type have no nulls of their own: only what is in them has."""
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return bool(types.is_union(kind) or types.is_run_end_encoded(kind))


def _type_text(kind: pa.DataType) -> str:
    """What a type says of its values."""
    if isinstance(kind, pa.BaseExtensionType):
        return f"{kind.extension_name}({_type_text(kind.storage_type)})"
    kind = _plain(kind)
    if types.is_string_view(kind) or types.is_large_string(kind):
        return "string"
    if types.is_binary_view(kind) or types.is_large_binary(kind):
        return "binary"
    if not types.is_nested(kind):
        return str(kind)
    inner = [_type_text(one) for one in _nested(kind)]
    if types.is_struct(kind) or types.is_union(kind):
        names = [kind.field(place).name for place in range(kind.num_fields)]
        codes = kind.type_codes if types.is_union(kind) else ""
        return f"{'union' if codes else 'struct'}{codes}{list(zip(names, inner, strict=True))!r}"
    if types.is_map(kind):
        return f"map{inner!r}"
    size = kind.list_size if types.is_fixed_size_list(kind) else ""
    return f"list{size}{inner!r}"
